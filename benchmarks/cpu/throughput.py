"""End to end on a CPU, beside its limit and beside the loop that one writes first.

    python -m benchmarks.cpu.throughput IMAGES --model MODEL [--json FILE]

Decoding and inference share the cores, so no program can be faster than
1 / (1 / decode only + 1 / inference only), both measured with all cores, in the same run. The
figures of a round stand beside each other in time; the table shows the medians over the rounds.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import numpy as np
import onnxruntime
import PIL
from cyclopts import App, Parameter
from PIL import Image

from engines.model import Model, ModelRequest, load_model
from engines.onnx_runtime import OnnxRuntimeClassifier, processor_name
from engines.streaming import CHUNK_ITEMS
from shards.allocator import tune_allocator
from shards.decode import Limits
from shards.stored import Stored
from tasks.decode_into import DecodeInto

ROOT = Path(__file__).parent.parent.parent
app = App(help=__doc__)


@app.default
def main(
    images: Path,
    *,
    model: Path,
    rounds: int = 3,
    batch_size: int = 64,
    naive_images: int = 500,
    json_file: Annotated[Path | None, Parameter(name="--json")] = None,
) -> None:
    """Measure, and print a table.

    Args:
        images: A directory of images.
        model: A model folder with a Hugging Face preprocessor_config.json.
        rounds: How often everything is measured, in turn.
        batch_size: Images inferred at once.
        naive_images: How many images the first loop gets: it is slow.
        json_file: Where every figure of every round goes.
    """
    paths = sorted(os.fsencode(path) for path in images.rglob("*") if path.is_file())
    loaded = load_model(ModelRequest(path=model))
    tune_allocator()
    measures: dict[str, Callable[[], float]] = {
        "decode only": lambda: decode_only(paths, loaded),
        "inference only": lambda: inference_only(len(paths), loaded, batch_size),
        "end to end": lambda: end_to_end(images, model, len(paths), batch_size),
        "PIL + onnxruntime loop": lambda: naive(paths[:naive_images], model, loaded),
    }
    figures: dict[str, list[float]] = {name: [] for name in measures}
    for round_number in range(rounds):
        for name, measure in measures.items():
            figures[name].append(measure())
            print(f"round {round_number + 1}: {name}: {figures[name][-1]:,.1f}/s", file=sys.stderr)
    report = summarize(figures, model.name, len(paths))
    if json_file is not None:
        json_file.write_text(json.dumps(report, indent=2) + "\n")
    print_table(report)


def decode_only(paths: list[bytes], model: Model) -> float:
    """Images a second through read, decode, resize and crop, in one process a core."""
    own = threading.local()

    def one(chunk: list[Stored]) -> None:
        if not hasattr(own, "rows"):
            own.rows = np.zeros((CHUNK_ITEMS, model.input_height, model.input_width, 3), np.uint8)
        fill(chunk, own.rows[: len(chunk)])

    items = [Stored(path) for path in paths]
    chunks = [items[at : at + CHUNK_ITEMS] for at in range(0, len(items), CHUNK_ITEMS)]
    with (
        DecodeInto(model.spec.host, Limits()) as fill,
        ThreadPoolExecutor(fill.workers) as executor,
    ):
        list(executor.map(one, chunks[:1] * fill.workers))  # starts the processes
        started = time.perf_counter()
        for _ in executor.map(one, chunks):
            pass
        return len(paths) / (time.perf_counter() - started)


def inference_only(count: int, model: Model, batch_size: int) -> float:
    """Images a second through the classifier, from slots that are full already."""
    with OnnxRuntimeClassifier(model, batch_size=batch_size) as classifier:
        for _ in range(classifier.slot_count):
            slot = classifier.acquire()
            slot.images[:] = np.random.default_rng(0).integers(0, 256, slot.images.shape, np.uint8)
            classifier.submit(slot, batch_size)
        for _ in range(classifier.slot_count):
            classifier.collect()
        started = time.perf_counter()
        for at in range(0, count, batch_size):
            classifier.submit(classifier.acquire(), min(batch_size, count - at))
            classifier.collect()
        return count / (time.perf_counter() - started)


def end_to_end(images: Path, model: Path, count: int, batch_size: int) -> float:
    """Images a second of the command, from the start of the listing to the last file."""
    with tempfile.TemporaryDirectory() as output:
        command = [sys.executable, "-m", "flows.classify_dir", str(images), "--model", str(model)]
        command += ["--output", output, "--direct", "--json", "--batch-size", str(batch_size)]
        done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    summary = json.loads(done.stdout)
    assert summary["ok"] == summary["images"] == count, summary
    return float(count / summary["seconds"])


def naive(paths: list[bytes], model: Path, loaded: Model) -> float:
    """Images a second of the loop that one writes first: open, resize, run, one image at a time."""
    session = onnxruntime.InferenceSession(str(model / "model.onnx"))
    name = session.get_inputs()[0].name
    spec = loaded.spec
    mean, std = np.asarray(spec.mean, np.float32), np.asarray(spec.std, np.float32)
    size = (loaded.input_width, loaded.input_height)
    rows = []
    started = time.perf_counter()
    for path in paths:
        image = Image.open(os.fsdecode(path)).convert("RGB").resize(size, Image.Resampling.BILINEAR)
        pixels = (np.asarray(image, np.float32) / 255 - mean) / std
        (logits,) = session.run(None, {name: pixels.transpose(2, 0, 1)[None]})
        scores = np.exp(logits[0] - logits[0].max())
        scores /= scores.sum()
        best = int(scores.argmax())
        rows.append((os.fsdecode(path), loaded.labels[best], float(scores[best])))
    return len(rows) / (time.perf_counter() - started)


def summarize(figures: dict[str, list[float]], model: str, count: int) -> dict[str, object]:
    """Medians, and the ratios round by round, whose medians are quoted."""
    limits = [
        1 / (1 / decode + 1 / infer)
        for decode, infer in zip(figures["decode only"], figures["inference only"], strict=True)
    ]
    of_limit = [e / limit for e, limit in zip(figures["end to end"], limits, strict=True)]
    of_naive = [
        e / loop
        for e, loop in zip(figures["end to end"], figures["PIL + onnxruntime loop"], strict=True)
    ]
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "processor": processor_name(),
        "cores": cores(),
        "versions": {
            "python": platform.python_version(),
            "onnxruntime": onnxruntime.__version__,
            "pillow": PIL.__version__,
        },
        "model": model,
        "images": count,
        "images_per_second": figures,
        "median": {
            **{name: statistics.median(values) for name, values in figures.items()},
            "limit": statistics.median(limits),
        },
        "end_to_end_of_limit": statistics.median(of_limit),
        "end_to_end_of_loop": statistics.median(of_naive),
    }


def print_table(report: dict[str, object]) -> None:
    """A short Markdown table."""
    median = report["median"]
    assert isinstance(median, dict)
    print(
        f"{report['model']}, {report['images']} images, {report['cores']} cores, {report['date']}"
    )
    print("\n| what | images/s |\n| --- | ---: |")
    for name, value in median.items():
        print(f"| {name} | {value:,.0f} |")
    print(f"| end to end, of the limit | {report['end_to_end_of_limit']:.3f} |")
    print(f"| end to end, times the loop | {report['end_to_end_of_loop']:.2f} |")


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))


if __name__ == "__main__":
    app()
