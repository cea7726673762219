"""How long a second start takes until the first results of the GPU are in host memory.

    python -m benchmarks.gpu.first_result MODEL --engines CACHE [--precision fp16] [--json FILE]

Starts `flows.classify_dir --direct` several times, each with an output of its own and the engine in
the store; one start before them builds the engine if need be, and brings all files into the page
cache. The command itself says how long it took (`startup_seconds` in run.json): time runs from the
start of its process as the kernel has it, to 10 ms, so the interpreter's own start, all imports,
preparing, planning and decoding the first batch are in.
"""

from __future__ import annotations

import json
import statistics
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

from cyclopts import App, Parameter

from benchmarks.gpu.commands import command
from benchmarks.images import write_images
from benchmarks.machine import facts
from benchmarks.models import RANDOM_WEIGHTS

PACKAGES = ("numpy", "onnx", "onnxruntime", "pillow", "pyarrow", "cuda-python")
STAGES = {
    "libraries": "device process: imports",
    "model": "device process: model loaded",
    "device": "device process: CUDA and TensorRT loaded",
    "plan": "command: model loaded, images planned",
    "classifier": "device process: engine found in the store and opened",
    "first result": "device process: first results",
}

app = App(help=__doc__)


@app.default
def main(
    model: Path,
    *,
    engines: Path,
    backend: str = "tensorrt",
    precision: str = "fp16",
    batch_size: int = 256,
    images: int = 1024,
    starts: int = 5,
    json_file: Annotated[Path | None, Parameter(name="--json")] = None,
) -> None:
    """Measure, and print a table.

    Args:
        model: A model folder.
        engines: Folder of the engine store.
        backend: tensorrt or onnxruntime.
        precision: fp32 or fp16.
        batch_size: Images in a batch.
        images: JPEGs that are drawn for it.
        starts: Processes that are started, one after the other.
        json_file: Where the figures of every start go.
    """
    options = ["--model", str(model.resolve()), "--engine-cache", str(engines.resolve())]
    options += ["--backend", backend, "--precision", precision, "--batch-size", str(batch_size)]
    options += RANDOM_WEIGHTS
    with TemporaryDirectory() as work:
        photos = Path(work, "photos")
        write_images(photos, images)
        runs = [start(photos, Path(work, str(index)), options) for index in range(1 + starts)][1:]
    report = {
        **facts(PACKAGES),
        "model": model.name,
        "backend": backend,
        "precision": precision,
        "batch_size": batch_size,
        "images": images,
        "built": [run["engine"]["built"] for run in runs],
        "seconds": [run["startup_seconds"] for run in runs],
        "whole_command_seconds": [run["wall_seconds"] for run in runs],
    }
    if json_file is not None:
        json_file.write_text(json.dumps(report, indent=2) + "\n")
    print_table(report)


def start(photos: Path, out: Path, options: list[str]) -> dict[str, Any]:
    """Run the command once; returns its record."""
    line = [str(photos), "--output", str(out), "--direct", "--quiet", *options]
    started = time.monotonic()
    summary = command("flows.classify_dir", line)
    elapsed = time.monotonic() - started
    record: dict[str, Any] = json.loads((out / f"runs/{summary['run_id']}/run.json").read_text())
    return record | {"wall_seconds": round(elapsed, 3)}


def print_table(report: dict[str, Any]) -> None:
    """A short Markdown table: median and worst start."""
    print(
        f"{report['model']}, {report['backend']} {report['precision']}, batches of "
        f"{report['batch_size']}, {report['gpu'] or report['processor']}, {report['date']}\n"
    )
    print("| reached | seconds since the command's start, median | worst |")
    print("| --- | ---: | ---: |")
    for name, words in STAGES.items():
        seconds = [one[name] for one in report["seconds"]]
        print(f"| {words} | {statistics.median(seconds):.2f} | {max(seconds):.2f} |")
    whole = report["whole_command_seconds"]
    print(f"| end of the command | {statistics.median(whole):.2f} | {max(whole):.2f} |")


if __name__ == "__main__":
    app()
