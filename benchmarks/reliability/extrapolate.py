"""What planning takes for ten million inputs, from measurements at three sizes, and at others.

    python -m benchmarks.reliability.extrapolate [--check 3000000 10000000] [--json FILE]

At each size, in processes of their own, in turns: the bare walk (os.scandir, and stat of every
file), the first listing and plan, and the listing and planning of a job that is done. Images are
hard links to a few of the example's. A line through the three sizes says what ten million would
take; whether it holds, sizes say that the line has not seen.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated

import numpy as np
from cyclopts import App, Parameter

from benchmarks.machine import facts
from benchmarks.planning import extend, walk
from benchmarks.reliability.example_runs import ROOT
from benchmarks.reliability.million import link_images
from shards.local_tree import LocalTree

__all__ = ["line", "main", "measure"]

SIZES = (100_000, 300_000, 1_000_000)
STEPS = ("walk", "first plan", "plan again")
TARGET = 10_000_000

Measured = dict[str, tuple[float, float]]
"""By step, seconds and the most MB that its process was resident with."""

app = App(help=__doc__)


@app.default
def main(
    *,
    sizes: Annotated[tuple[int, ...], Parameter(consume_multiple=True)] = SIZES,
    check: Annotated[tuple[int, ...], Parameter(consume_multiple=True)] = (3_000_000,),
    rounds: int = 3,
    folder: Path | None = None,
    json_file: Annotated[Path | None, Parameter(name="--json")] = None,
) -> None:
    """Print a table.

    Args:
        sizes: That the line is laid through.
        check: Sizes that it is held against.
        rounds: At each size; the medians count.
        folder: Where images are made, and removed; a temporary directory by default.
        json_file: Where the figures go.
    """
    found: dict[int, Measured] = {}
    for size in (*sizes, *check):
        with tempfile.TemporaryDirectory(dir=folder) as place:
            link_images(Path(place, "images"), size)
            found[size] = measure(Path(place), rounds)
    lines = {step: line({size: found[size][step][0] for size in sizes}) for step in STEPS}
    expected = {
        size: {step: lines[step](size) for step in STEPS} for size in sorted({*check, TARGET})
    }
    print("| images | " + " | ".join(f"{step}, s | MB" for step in STEPS) + " |\n|" + "---:|" * 7)
    for size, steps in found.items():
        cells = [f"{steps[step][0]:.2f} | {steps[step][1]:.0f}" for step in STEPS]
        print(f"| {size:,} | " + " | ".join(cells) + " |")
    for size, times in expected.items():
        cells = [f"{times[step]:.1f} |" for step in STEPS]
        print(f"| {size:,} by the line | " + " | ".join(cells) + " |")
    if json_file is not None:
        report = facts(["pyarrow"]) | {"measured": found, "by_the_line_s": expected}
        json_file.write_text(json.dumps(report, indent=2) + "\n")


def measure(place: Path, rounds: int) -> Measured:
    """Measure each step, in turns, on the images of a folder.

    Args:
        place: Holds `images`; outputs are made beside them.
        rounds: Of all steps.
    """
    turns: dict[str, list[tuple[float, float]]] = {step: [] for step in STEPS}
    for number in range(rounds):
        for step in STEPS:
            this = [sys.executable, "-m", __spec__.name, "--child", step, str(place), str(number)]
            done = subprocess.run(this, cwd=ROOT, capture_output=True, text=True, check=True)
            seconds, peak = json.loads(done.stdout)
            turns[step].append((seconds, peak))
    return {
        step: (statistics.median(s for s, _ in each), max(peak for _, peak in each))
        for step, each in turns.items()
    }


def line(seconds: Mapping[int, float]) -> Callable[[int], float]:
    """Lay a line through times at some sizes, each of which counts by its share, not its seconds.

    A relative error of a small size tells as much of the slope as one of a large one.
    """
    sizes, times = (np.array(list(each), np.float64) for each in (seconds, seconds.values()))
    slope, start = np.polyfit(sizes, times, 1, w=1 / times)
    return lambda size: float(start + slope * size)


def child(step: str, place: Path, number: str) -> None:
    """Take one step; print its seconds and MB."""
    images, out = os.fsencode(place / "images"), place / f"out-{number}"
    work: dict[str, Callable[[], object]] = {
        "walk": lambda: walk(images),
        "first plan": lambda: extend(images, LocalTree.create(out)),
        "plan again": lambda: extend(images, LocalTree.create(out)),
    }
    began = time.perf_counter()
    work[step]()
    seconds = time.perf_counter() - began
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    peak = next(text for text in status.splitlines() if text.startswith("VmHWM"))
    print(json.dumps([seconds, int(peak.split()[1]) * 1024 / 1e6]))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2], Path(sys.argv[3]), sys.argv[4])
    else:
        app()
