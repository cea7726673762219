"""The whole command on a GPU, beside its two limits: decoding alone and the engine alone.

    python -m benchmarks.gpu.end_to_end IMAGES --model MODEL --engine-cache CACHE [--json FILE]

Every image stands under many names (hard links), so that tens of thousands are classified from the
page cache. All stages are measured in turn, several rounds; ratios are taken round by round, and
the table shows medians. No program that decodes every image and runs the engine on it can be faster
than the slower of the two.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle, islice
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from cyclopts import App, Parameter
from PIL import Image

from benchmarks.gpu.commands import command
from benchmarks.machine import cores, facts
from benchmarks.models import RANDOM_WEIGHTS
from engines.model import Model, ModelRequest, load_model
from shards.allocator import tune_allocator
from shards.decode import Limits
from shards.stored import Stored
from tasks.decode_into import DecodeInto

PACKAGES = ("numpy", "onnx", "pillow", "pyarrow", "cuda-python")
FILES_PER_FOLDER = 1000
CHUNK = 16  # files that a thread takes at once
RING = 96  # chunks whose pixels are kept, as in six slots of 256 images

Work = Callable[[int, Sequence[bytes]], object]
"""What a thread does with a chunk, given its number and its paths."""

READ = "reading files"
PIXELS = "decoding to pixels"
DECODE = "decoding, resizing and cropping into slots"
ENGINE = "engine alone"
TRANSFERS = "engine with transfers"
START = "start, which the last line has taken off"
ONE = "one image, from the start of the process to its end"
WHOLE = "end to end"
STEADY = "end to end, start taken off"
PER_SECOND = (READ, PIXELS, DECODE, ENGINE, TRANSFERS, WHOLE, STEADY)
SECONDS = (ONE, START)

app = App(help=__doc__)


@app.default
def main(
    images: Path,
    *,
    model: Path,
    engine_cache: Path,
    precision: str = "fp16",
    batch_size: int = 256,
    count: int = 40_000,
    stage_count: int = 8192,
    rounds: int = 2,
    seconds: float = 3.0,
    json_file: Annotated[Path | None, Parameter(name="--json")] = None,
) -> None:
    """Measure, and print a table.

    Args:
        images: A directory of JPEGs.
        model: A model folder.
        engine_cache: Where engines are kept; the engine is built there if it is missing.
        precision: fp32 or fp16.
        batch_size: Images in a batch.
        count: Images that are classified from end to end.
        stage_count: Images that the stages before the engine get.
        rounds: How often everything is measured, in turn.
        seconds: How long each loop of build_engine's measurement lasts.
        json_file: Where every figure of every round goes.
    """
    tune_allocator()
    images, model = images.resolve(), model.resolve()
    loaded = load_model(ModelRequest(path=model))
    options = ["--precision", precision, "--batch-size", str(batch_size)]
    options += ["--engine-cache", str(engine_cache.resolve()), *RANDOM_WEIGHTS]
    figures: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory(dir=images.parent) as folder:
        one, many = Path(folder, "one"), Path(folder, "many")
        link(images, one, 1)
        paths = link(images, many, count)
        few = paths[:stage_count]
        reports: list[dict[str, Any]] = []
        classify(images, model, options)  # decides the accuracy gate, once for all runs
        measures: dict[str, Callable[[], dict[str, float]]] = {
            READ: lambda: {READ: in_threads(few, read)},
            PIXELS: lambda: {PIXELS: in_threads(few, to_pixels)},
            DECODE: lambda: {DECODE: decoded(few, loaded)},
            ENGINE: lambda: engine(model, [*options, "--seconds", str(seconds)], reports),
            ONE: lambda: single(one, model, options),
            WHOLE: lambda: whole(images, many, count, model, options, reports),
        }
        for number in range(rounds):
            figures.append({})
            for name, measure in measures.items():
                figures[-1] |= measure()
                print(f"round {number + 1}: {name}: {figures[-1][name]:,.1f}", file=sys.stderr)
    report = summarize(figures) | {"model": model.name, "precision": precision, "images": count}
    report |= facts(PACKAGES) | {"reports": reports}
    if json_file is not None:
        json_file.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print_table(report)


def link(images: Path, folder: Path, count: int) -> list[bytes]:
    """Link `count` names to the files in `images`, each as often as the next; sorted paths."""
    sources = sorted(images.rglob("*.jpg"))
    for start in range(0, count, FILES_PER_FOLDER):
        (folder / f"{start // FILES_PER_FOLDER:04d}").mkdir(parents=True)
    names = [folder / f"{i // FILES_PER_FOLDER:04d}" / f"{i:07d}.jpg" for i in range(count)]
    for source, name in zip(islice(cycle(sources), count), names, strict=True):
        os.link(source, name)
    return [os.fsencode(name) for name in names]


def in_threads(paths: Sequence[bytes], work: Work) -> float:
    """Files a second through `work`, with one thread a core."""
    chunks = [paths[at : at + CHUNK] for at in range(0, len(paths), CHUNK)]
    started = time.perf_counter()
    with ThreadPoolExecutor(cores()) as executor:
        for _ in executor.map(work, range(len(chunks)), chunks):
            pass
    return len(paths) / (time.perf_counter() - started)


def read(_number: int, paths: Sequence[bytes]) -> None:
    """Read files whole."""
    for path in paths:
        with open(path, "rb") as file:
            file.read()


def to_pixels(_number: int, paths: Sequence[bytes]) -> None:
    """Decode JPEGs at full size, and do nothing with them."""
    for path in paths:
        with Image.open(os.fsdecode(path)) as image:
            image.load()


def decoded(paths: Sequence[bytes], model: Model) -> float:
    """Files a second through read, decode, resize and crop, as classify_dir does it."""
    slots = np.full((RING, CHUNK, model.input_height, model.input_width, 3), 0, np.uint8)
    with DecodeInto(model.spec.host, Limits()) as fill:

        def work(number: int, paths: Sequence[bytes]) -> None:
            # No two threads write the same rows.
            fill([Stored(path) for path in paths], slots[number % RING, : len(paths)])

        in_threads([*paths[:CHUNK]] * fill.workers, work)  # starts the processes
        return in_threads(paths, work)


def engine(model: Path, options: list[str], reports: list[dict[str, Any]]) -> dict[str, float]:
    """Images a second of the engine, as build_engine measures it."""
    report = command("flows.build_engine", [str(model), *options])
    reports.append(report)
    throughput = report["throughput"]
    return {ENGINE: throughput["compute_only"], TRANSFERS: throughput["with_transfers"]}


def single(folder: Path, model: Path, options: list[str]) -> dict[str, float]:
    """Seconds of a whole run with one image: its first result is in host memory before that."""
    started = time.perf_counter()
    classify(folder, model, options)
    return {ONE: time.perf_counter() - started}


def whole(
    few: Path,
    many: Path,
    count: int,
    model: Path,
    options: list[str],
    reports: list[dict[str, Any]],
) -> dict[str, float]:
    """Images a second of the command, from the start of the listing to the last file.

    The start (process, model, engine) costs seconds however many images there are. Two runs of
    different size tell it from the time that each further image takes.
    """
    short = classify(few, model, options)
    long = classify(many, model, options)
    reports += [short, long]
    assert long["ok"] == long["images"] == count, long
    assert not long["engine"]["built"], long
    steady = (count - short["images"]) / (long["seconds"] - short["seconds"])
    return {
        WHOLE: count / long["seconds"],
        STEADY: steady,
        START: short["seconds"] - short["images"] / steady,
    }


def classify(images: Path, model: Path, options: list[str]) -> dict[str, Any]:
    """Run classify_dir into a table that is thrown away."""
    with tempfile.TemporaryDirectory() as output:
        arguments = [str(images), "--model", str(model), "--output", output, *options]
        arguments += ["--backend", "tensorrt", "--direct", "--no-progress"]
        return command("flows.classify_dir", arguments)


def summarize(figures: list[dict[str, float]]) -> dict[str, Any]:
    """Medians, and the ratios round by round, whose medians are quoted."""
    limits = [min(one[DECODE], one[ENGINE]) for one in figures]
    pairs = list(zip(figures, limits, strict=True))
    return {
        "rounds": figures,
        "median": {name: statistics.median(one[name] for one in figures) for name in figures[0]},
        "of_limit": {
            name: statistics.median(one[name] / limit for one, limit in pairs)
            for name in (WHOLE, STEADY)
        },
    }


def print_table(report: dict[str, Any]) -> None:
    """A short Markdown table."""
    print(
        f"{report['model']}, {report['precision']}, {report['images']:,} images, "
        f"{report['cores']} cores, {report['gpu']}, {report['date']}\n"
    )
    print("| what | images/s | of min(decoding, engine) |\n| --- | ---: | ---: |")
    for name in PER_SECOND:
        ratio = f"{report['of_limit'][name]:.3f}" if name in report["of_limit"] else ""
        print(f"| {name} | {report['median'][name]:,.0f} | {ratio} |")
    print("\n| what | seconds |\n| --- | ---: |")
    for name in SECONDS:
        print(f"| {name} | {report['median'][name]:.2f} |")


if __name__ == "__main__":
    app()
