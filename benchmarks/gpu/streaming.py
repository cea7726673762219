"""Streaming from memory beside a bare enqueue loop over the same plan: what do copies cost?

    python -m benchmarks.gpu.streaming MODEL --engines CACHE [--precision fp16] [--json FILE]

The bare loop enqueues the network on one stream and waits at the end: nothing is copied. Every
other line feeds new images to the GPU and takes the results back. "decoded before" copies each
image from memory into its slot, in threads, through `engines.streaming`, as decoding does; the
others find their slots full. All lines are measured in turn, several rounds; ratios are taken round
by round, and the table shows medians.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import cache
from itertools import cycle, islice
from pathlib import Path
from typing import Annotated

import numpy as np
from cyclopts import App, Parameter
from numpy.typing import NDArray

from benchmarks.gpu.engines import Subject, stored_engine
from engines.measure import Timing, bare_loop, fill_slots, ring, timed
from engines.model import ModelRequest, load_model
from engines.streaming import stream

DECODED_IMAGES = 4096
"""Images that "decoded before" draws from: 616 MB of 224x224, no cache holds them."""

PERCENTILES = (50, 90, 99)
BARE = "bare enqueue loop, no copies"

app = App(help=__doc__)


@app.default
def main(
    model: Path,
    *,
    engines: Path,
    precision: str = "fp16",
    batch_size: int = 256,
    rounds: int = 3,
    seconds: float = 3.0,
    threads: int = len(os.sched_getaffinity(0)),
    json_file: Annotated[Path | None, Parameter(name="--json")] = None,
) -> None:
    """Measure, and print a table.

    Args:
        model: A model folder.
        engines: Folder of the engine store; the engine is built there if it is missing.
        precision: fp32 or fp16.
        batch_size: Images in a batch.
        rounds: How often everything is measured, in turn.
        seconds: How long one measurement lasts, about.
        threads: Threads that fill slots in "decoded before".
        json_file: Where every figure of every round goes.
    """
    loaded = load_model(ModelRequest(path=model))
    with stored_engine(loaded, engines, precision=precision, batch_size=batch_size) as subject:
        measures: dict[str, Callable[[], Timing]] = {
            BARE: lambda: bare(subject, seconds),
            "1 slot, one step after the other": lambda: full(subject, seconds, 1, 1),
            "2 slots, 2 in flight": lambda: full(subject, seconds, 2, 2),
            "3 slots, 3 in flight": lambda: full(subject, seconds, 3, 3),
            "6 slots, 2 in flight (default)": lambda: full(subject, seconds, 6, 2),
            "6 slots, 2 in flight, CUDA graph": lambda: full(subject, seconds, 6, 2, graph=True),
            f"decoded before, {threads} threads": lambda: filled(subject, seconds, threads),
        }
        figures: dict[str, list[Timing]] = {name: [] for name in measures}
        for number in range(rounds):
            for name, measure in measures.items():
                figures[name].append(measure())
                rate = figures[name][-1].images_per_second
                print(f"round {number + 1}: {name}: {rate:,.0f}/s", file=sys.stderr)
        report = summarize(figures, subject)
    if json_file is not None:
        json_file.write_text(json.dumps(report, indent=2) + "\n")
    print_table(report)


def bare(subject: Subject, seconds: float) -> Timing:
    """The network on one stream, over and over, on the same images."""
    return bare_loop(
        subject.engine.plan,
        batch_size=subject.batch_size,
        image_size=subject.image_size,
        seconds=seconds,
    )


def full(
    subject: Subject, seconds: float, slots: int, in_flight: int, *, graph: bool = False
) -> Timing:
    """Slots that are full already: upload, compute and download alone."""
    with subject.open(slots=slots, max_in_flight=in_flight, cuda_graph=graph) as classifier:
        if graph and not classifier.uses_cuda_graph:
            raise RuntimeError("the engine was not captured: there is no graph to measure")
        fill_slots(classifier)
        return ring(classifier, seconds)


def filled(subject: Subject, seconds: float, threads: int) -> Timing:
    """Decoded images in memory, each copied into its slot by one of several threads."""
    decoded = decoded_images(subject.image_size)

    def fill(items: Sequence[int], images: NDArray[np.uint8]) -> Sequence[None]:
        first = min(items[0], DECODED_IMAGES - len(items))
        images[:] = decoded[first : first + len(items)]
        return [None] * len(items)

    with subject.open() as classifier, ThreadPoolExecutor(threads) as executor:

        def run(batches: int) -> float:
            items = islice(cycle(range(DECODED_IMAGES)), batches * subject.batch_size)
            started = time.perf_counter()
            for _ in stream(items, fill, classifier, executor):
                pass
            return time.perf_counter() - started

        batches, elapsed = timed(run, seconds)
    return Timing(images_per_second=batches * subject.batch_size / elapsed, batches=batches)


@cache
def decoded_images(size: tuple[int, int]) -> NDArray[np.uint8]:
    """uint8 [DECODED_IMAGES, height, width, 3] of noise."""
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (DECODED_IMAGES, *size, 3), np.uint8)


def summarize(figures: dict[str, list[Timing]], subject: Subject) -> dict[str, object]:
    """Medians over the rounds, and the rounds themselves."""
    lines = {}
    for name, rounds in figures.items():
        ratios = [
            one.images_per_second / loop.images_per_second
            for one, loop in zip(rounds, figures[BARE], strict=True)
        ]
        latencies = [latency for one in rounds for latency in one.latencies_ms]
        lines[name] = {
            "images_per_second": statistics.median(one.images_per_second for one in rounds),
            "of_bare_loop": statistics.median(ratios),
            "latency_ms": {
                f"p{p}": float(np.percentile(latencies, p)) for p in PERCENTILES if latencies
            },
            "rounds": [one.images_per_second for one in rounds],
        }
    with subject.open(slots=1) as classifier:
        info = classifier.info
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": " ".join(sys.argv[1:]),
        "device": info.device,
        "versions": info.versions,
        "model": subject.model.model_id,
        "precision": subject.precision,
        "batch_size": subject.batch_size,
        "engine": subject.engine.key,
        "lines": lines,
    }


def print_table(report: dict[str, object]) -> None:
    """A short Markdown table."""
    lines = report["lines"]
    assert isinstance(lines, dict)
    print(
        f"{report['model']}, {report['precision']}, batches of {report['batch_size']}, "
        f"{report['device']}, {report['date']}\n"
    )
    print("| what | images/s | of the bare loop | latency p50 / p90 / p99, ms |")
    print("| --- | ---: | ---: | ---: |")
    for name, line in lines.items():
        latency = " / ".join(f"{value:.2f}" for value in line["latency_ms"].values())
        rate, ratio = line["images_per_second"], line["of_bare_loop"]
        print(f"| {name} | {rate:,.0f} | {ratio:.3f} | {latency} |")


if __name__ == "__main__":
    app()
