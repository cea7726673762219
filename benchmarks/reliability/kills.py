"""Kills overlapping runs at random moments, under the eyes of readers; counts what is wrong.

    python -m benchmarks.reliability.kills [--kills 200] [--reads 50000] [--json FILE]

Two runs are always under way on one output; every some milliseconds one of them is killed
(kill -9), and another begins. First with forked runs that make rows up: of new images alone, which
publish new files; then also of images that changed, and with --overwrite, which replace files. Then
with the command itself, its device process and decoders, over images some of which change. All the
while three processes read the whole table with pyarrow, DuckDB and polars. Killing goes on until
the reads are done, too, or the time is over. At the end, an undisturbed run must complete the
table, and another one find nothing.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter

from benchmarks.machine import facts
from benchmarks.reliability.example_runs import ROOT, copy_images
from benchmarks.reliability.example_runs import command as classify
from benchmarks.reliability.example_runs import start as start_process
from benchmarks.reliability.fake_runs import SharedWorld, fork, night, violations
from benchmarks.reliability.readers import READERS
from shards.local_tree import LocalTree
from shards.verify_table import check_table
from tests.shards.nights import Night

__all__ = ["main"]

KILLED = -int(signal.SIGKILL)
MOST_IMAGES = 200
"""Of the forked runs: a small table is read often."""
COMMAND_IMAGES = 400

app = App(help=__doc__)


@dataclass(slots=True, kw_only=True)
class Figures:
    """What became of one kind of run.

    Attributes:
        kills: Runs that were killed at work; those that had just ended are not counted.
        ended: Runs that ended by themselves, by exit code.
        images: In the table at last.
        missing: Images without their row after the last run.
        wrong: Whatever else was wrong: two rows, partial files, exit codes, work done twice.
        reads: By library, what readers.Seen has.
        seconds: What it took.
    """

    kills: int = 0
    ended: dict[int, int] = field(default_factory=dict)
    images: int = 0
    missing: int = 0
    wrong: list[str] = field(default_factory=list)
    reads: dict[str, dict[str, Any]] = field(default_factory=dict)
    seconds: float = 0.0


@app.default
def main(
    *,
    kills: int = 200,
    reads: int = 50_000,
    limit: float = 150,
    commands: int = 20,
    seed: int = 0,
    json_file: Annotated[Path | None, Parameter(name="--json")] = None,
) -> None:
    """Print two tables; exit code 1 if anything was wrong.

    Args:
        kills: Of forked runs, at least.
        reads: Of the table meanwhile, for each kind of run, by all libraries together.
        limit: Seconds after which no more reads are waited for.
        commands: Kills of the command.
        seed: Of the moments.
        json_file: Where the figures go.
    """
    with tempfile.TemporaryDirectory() as folder:
        choose = random.Random(seed)
        figures = {
            name: _forked(
                Path(folder, name), kills, reads, limit, choose, replacing=name == "replacing"
            )
            for name in ("publishing", "replacing")
        }
        figures["the command"] = _commands(Path(folder, "commands"), commands, reads, choose)
    print("| runs | killed | ended | images | lost | other mistakes | s |\n|" + "---|" * 7)
    for name, each in figures.items():
        counts = (each.kills, sum(each.ended.values()), each.images, each.missing, len(each.wrong))
        print(f"| {name} | " + " | ".join(map(str, counts)) + f" | {each.seconds:.0f} |")
    print("\n| runs | reader | reads | errors | partial files | images twice | rows lost |")
    print("|" + "---|" * 7)
    for name, each in figures.items():
        for reader, seen in each.reads.items():
            cells = [f"{seen[key]:,}" for key in ("reads", "errors", "partial", "twice", "lost")]
            print(f"| {name} | {reader} | " + " | ".join(cells) + " |")
            each.wrong += [f"{reader}: {text}" for text in seen["examples"]]
    wrong = [text for each in figures.values() for text in each.wrong]
    print("\n".join(wrong))
    if json_file is not None:
        report = {name: asdict(each) for name, each in figures.items()}
        versions = facts(["pyarrow", "duckdb", "polars"])
        json_file.write_text(json.dumps(versions | {"figures": report}, indent=2) + "\n")
    if wrong or any(each.missing for each in figures.values()):
        raise SystemExit(1)


def _forked(
    folder: Path,
    kills: int,
    reads: int,
    limit: float,
    choose: random.Random,
    *,
    replacing: bool,
) -> Figures:
    """Kill forked runs; where they are not replacing, images are only added."""
    figures, world = Figures(), SharedWorld(MOST_IMAGES)
    out, errors = folder / "out", folder / "errors"
    folder.mkdir()
    world.add(3)
    number = 0

    def start() -> int:
        nonlocal number
        number += 1
        _change(world, choose, replacing=replacing)
        overwrite = replacing and choose.random() < 0.5
        request = Night(run_id=f"run-{number}", shard_size=4, overwrite=overwrite)
        return fork(lambda: night(out, request, world), errors)

    began = time.monotonic()
    readers = _start_readers(out, reads)
    running = [start(), start()]
    while figures.kills < kills or (
        any(reader.poll() is None for reader in readers.values())
        and time.monotonic() < began + limit
    ):
        time.sleep(choose.uniform(0, 0.06))
        child = running.pop(choose.randrange(2))
        os.kill(child, signal.SIGKILL)
        _count(figures, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        running.append(start())
    for child in running:
        _count(figures, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    figures.reads = _stop_readers(readers)
    figures.seconds = time.monotonic() - began
    night(out, Night(run_id="last", shard_size=4), world)
    figures.images = len(world)
    figures.wrong += violations(out, world)
    if again := night(out, Night(run_id="again", shard_size=4), world):
        figures.wrong.append(f"a run with nothing to do inferred {again} images")
    if errors.exists():
        figures.wrong += errors.read_text().splitlines()
    return figures


def _change(world: SharedWorld, choose: random.Random, *, replacing: bool) -> None:
    """Let images come and change, not each time: every change is one more plan to read."""
    if choose.random() < 0.2 and len(world) < MOST_IMAGES:
        world.add(choose.randint(1, min(6 if replacing else 2, MOST_IMAGES - len(world))))
    if replacing and choose.random() < 0.1:
        world.change(choose.randrange(len(world)))


def _count(figures: Figures, code: int) -> None:
    if code == KILLED:
        figures.kills += 1
        return
    figures.ended[code] = figures.ended.get(code, 0) + 1
    if code != 0:
        figures.wrong.append(f"a run ended with exit code {code}")


def _commands(folder: Path, kills: int, reads: int, choose: random.Random) -> Figures:
    """Kill the command."""
    figures, out = Figures(), folder / "out"
    images = copy_images(folder / "images", COMMAND_IMAGES)
    command = classify(folder / "images", out, "--shard-size", "10")

    def start() -> subprocess.Popen[str]:
        os.utime(choose.choice(images))
        return start_process(command)

    began = time.monotonic()
    readers = _start_readers(out, reads)
    running = [start(), start()]
    while figures.kills < kills:
        time.sleep(choose.uniform(0.3, 3))
        process = running.pop(choose.randrange(2))
        process.kill()
        _, errors = process.communicate()
        _count(figures, process.returncode)
        if process.returncode not in (0, KILLED):
            figures.wrong.append(errors)
        running.append(start())
    for process in running:
        process.communicate()
    figures.reads = _stop_readers(readers)
    figures.seconds = time.monotonic() - began
    _finish(figures, command, out, [path.name for path in images])
    return figures


def _finish(figures: Figures, command: list[str], out: Path, names: list[str]) -> None:
    """Complete a table with the command, and hold it against the images."""
    written = []
    for _ in range(2):
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            figures.wrong.append(done.stderr)
            return
        written.append(json.loads(done.stdout)["rows_written"])
    if written[1] != 0:
        figures.wrong.append(f"a run with nothing to do wrote {written[1]} rows")
    figures.wrong += map(str, check_table(LocalTree(out), quick=False, workers=1).findings)
    rows = Counter(name for _, name in READERS["pyarrow"](out)())
    figures.images = len(names)
    figures.missing = sum(name not in rows for name in names)
    figures.wrong += [f"{name}: {count} rows" for name, count in rows.items() if count > 1]


def _start_readers(out: Path, reads: int) -> dict[str, subprocess.Popen[str]]:
    each = str(-(-reads // len(READERS)))
    module = [sys.executable, "-m", "benchmarks.reliability.readers"]
    return {name: start_process([*module, name, str(out), "--reads", each]) for name in READERS}


def _stop_readers(readers: dict[str, subprocess.Popen[str]]) -> dict[str, dict[str, Any]]:
    found = {}
    for name, reader in readers.items():
        reader.terminate()
        answer, errors = reader.communicate()
        assert reader.returncode == 0, errors
        found[name] = json.loads(answer)
    return found


if __name__ == "__main__":
    app()
