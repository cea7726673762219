"""A finished job of a million images, run again: what it costs beside listing and stat alone.

    python -m benchmarks.reliability.million [--count 1000000] [--folder DIR] [--json FILE]

The images are hard links to a few of the example's, 1,000 in a directory. They are listed and
planned for good, and their rows are made up and written by Nightshift's own writers, for the
example's model; so the command, run by itself, takes them for its own work. It is run once before
anything is measured: it finds nothing to do, and leaves the record of a finished job. Measured in
turns, and compared round by round: the bare walk (os.scandir, and stat of every file) and the whole
command, from its start to its end. On a machine with other work, the best times of both say more.
Then one image is added, and the command must infer that one alone.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter

from benchmarks.machine import facts
from benchmarks.planning import EXTENSIONS, SHARD_SIZE, walk
from benchmarks.reliability.example_runs import EXAMPLE, ROOT, command, start
from benchmarks.reliability.synthetic import write_shards
from engines.model import ModelRequest, load_model
from shards.listing import list_directory
from shards.local_tree import LocalTree
from shards.plan import PlanLog

__all__ = ["main"]

PER_DIRECTORY = 1000
LINKS = 50_000
"""To one file; ext4 allows 65,000."""
LOOK_S = 0.01

app = App(help=__doc__)


@app.default
def main(
    *,
    count: int = 1_000_000,
    rounds: int = 3,
    folder: Path | None = None,
    json_file: Annotated[Path | None, Parameter(name="--json")] = None,
) -> None:
    """Print a table; exit code 1 if anything was inferred again.

    Args:
        count: Images.
        rounds: Of walk and command.
        folder: Where images and output are made, and removed; a temporary directory by default.
        json_file: Where the figures go.
    """
    with tempfile.TemporaryDirectory(dir=folder) as place:
        images, out = Path(place, "images"), Path(place, "out")
        link_images(images, count)
        planned = _child(images, out)
        first = _run(images, out)
        turns = [(_walk(images), _run(images, out)) for _ in range(rounds)]
        (images / f"new{_sources()[0].suffix}").write_bytes(_sources()[0].read_bytes())
        one_more = _run(images, out)
        after = _run(images, out)
    ratios = [again["wall"] / walked for walked, again in turns]
    figures: dict[str, Any] = {
        "images": count,
        "scandir_and_stat_s": [walked for walked, _ in turns],
        "first_listing_and_plan_s": planned["seconds"],
        "first_plan_peak_mb": planned["peak"] / 1e6,
        "first_again_s": first["wall"],
        "first_again_rows_written": first["rows_written"],
        "load_average_of_5_minutes": os.getloadavg()[1],
        "again_s": [again["wall"] for _, again in turns],
        "again_listing_and_planning_s": [again["planning_seconds"] for _, again in turns],
        "again_peak_mb": max(again["peak"] for _, again in turns) / 1e6,
        "again_rows_written": sum(again["rows_written"] for _, again in turns),
        "again_of_scandir_and_stat": ratios,
        "again_of_scandir_and_stat_at_best": min(again["wall"] for _, again in turns)
        / min(walked for walked, _ in turns),
        "one_new_s": one_more["wall"],
        "one_new_rows_written": one_more["rows_written"],
        "one_new_peak_mb": one_more["peak"] / 1e6,
        "then_rows_written": after["rows_written"],
        "then_rows": after["ok"] + after["errors"],
    }
    print("| what | figure |\n|---|---:|")
    for name, value in figures.items():
        value = statistics.median(value) if isinstance(value, list) else value
        print(f"| {name.replace('_', ' ')} | {value:,.2f} |".replace(".00 |", " |"))
    if json_file is not None:
        json_file.write_text(json.dumps(facts(["pyarrow"]) | {"figures": figures}, indent=2) + "\n")
    runs = ("first_again", "again", "one_new", "then")
    inferred = [figures[f"{when}_rows_written"] for when in runs]
    if inferred != [0, 0, 1, 0] or figures["then_rows"] != count + 1:
        raise SystemExit(1)


def link_images(images: Path, count: int) -> None:
    """Make so many files that are few: names, sizes and times are all that planning reads."""
    sources = _sources()
    for number in range(count):
        if number % PER_DIRECTORY == 0:
            directory = images / f"{number // PER_DIRECTORY:05d}"
            directory.mkdir(parents=True)
        if number % LINKS == 0:
            source = directory / f"image-{number:08d}{sources[0].suffix}"
            source.write_bytes(sources[number // LINKS % len(sources)].read_bytes())
        else:
            os.link(source, directory / f"image-{number:08d}{source.suffix}")


def _sources() -> list[Path]:
    return sorted(path for path in (EXAMPLE / "images").rglob("*.png"))


def _walk(images: Path) -> float:
    began = time.perf_counter()
    walk(os.fsencode(images))
    return time.perf_counter() - began


def _run(images: Path, out: Path) -> dict[str, Any]:
    """Run the command; returns its summary, seconds ("wall") and the most memory ("peak")."""
    began, peak = time.perf_counter(), 0
    process = start(command(images, out))
    while process.poll() is None:
        peak = max(peak, _peak(process.pid))
        time.sleep(LOOK_S)
    wall = time.perf_counter() - began
    answer, errors = process.communicate()
    assert process.returncode == 0, errors
    summary: dict[str, Any] = json.loads(answer)
    return summary | {"wall": wall, "peak": peak}


def _peak(pid: int) -> int:
    """The most bytes that a process was resident with."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except OSError:
        return 0
    line = next((line for line in status.splitlines() if line.startswith("VmHWM")), "VmHWM 0 kB")
    return int(line.split()[1]) * 1024


def _child(images: Path, out: Path) -> dict[str, float]:
    """List and plan in a process of its own, then write the rows; returns seconds and bytes."""
    this = [sys.executable, "-m", __spec__.name, "--child", str(images), str(out)]
    done = subprocess.run(this, cwd=ROOT, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def child(images: str, out: str) -> None:
    """Plan, print what that took, and write the rows."""
    began = time.perf_counter()
    tree = LocalTree.create(Path(out))
    log = PlanLog(tree, tool_version="synthetic")
    listing = list_directory(os.fsencode(images), extensions=EXTENSIONS)
    update = log.extend(listing, root=listing.root, shard_size=SHARD_SIZE, run_id="run-1")
    seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"seconds": seconds, "peak": peak}))
    model_id = load_model(ModelRequest(path=EXAMPLE / "model")).model_id
    write_shards(tree, log, update.shards, model_id=model_id)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(*sys.argv[2:])
    else:
        app()
