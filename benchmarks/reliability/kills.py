"""Kills overlapping runs at random moments, under the eyes of readers; counts what is wrong.

    python -m benchmarks.reliability.kills [--kills 200] [--reads 50000] [--json FILE]

Two runs are always under way on one output; every some milliseconds one of them is killed
(kill -9), and another begins. First with forked runs that make rows up: of new images alone, which
publish new files; then also of images that changed, and with --overwrite, which replace files. Once
such a table has all its images, an undisturbed run must complete it, and another one find nothing;
then a new table begins, so there is always something written. Then with the command itself, its
device process and decoders, over images some of which change. All the while three processes read
the whole table with pyarrow, DuckDB and polars. Killing goes on until the reads are done, too, or
the time is over; after the kills that were asked for, at half the pace, for the readers need
processors as well.
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
from collections.abc import Sequence
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
MOST_IMAGES = 60
"""Of a table of forked runs: a small one is read often, in some milliseconds."""
PLAIN = ("pyarrow", "duckdb", "polars")
"""Readers, of what lies there; where files are replaced, also of hard links to it."""
PAUSE_S = 0.06
"""The longest between two kills."""
COMMAND_IMAGES = 400

app = App(help=__doc__)


@dataclass(slots=True, kw_only=True)
class Figures:
    """What became of one kind of run.

    Attributes:
        kills: Runs that were killed at work; those that had just ended are not counted.
        ended: Runs that ended by themselves, by exit code.
        tables: That were begun, and completed at last.
        images: In all of them.
        missing: Images without their row after the last run.
        wrong: Whatever else was wrong: two rows, partial files, exit codes, work done twice.
        reads: By library, what readers.Seen has.
        seconds: What it took.
    """

    kills: int = 0
    ended: dict[int, int] = field(default_factory=dict)
    tables: int = 0
    images: int = 0
    missing: int = 0
    wrong: list[str] = field(default_factory=list)
    reads: dict[str, dict[str, Any]] = field(default_factory=dict)
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Aim:
    """When enough was done.

    Attributes:
        kills: At least so many.
        reads: Of the table, by all libraries together.
        limit: Seconds after which no more reads are waited for.
    """

    kills: int
    reads: int
    limit: float


@app.default
def main(
    *,
    kills: int = 200,
    reads: int = 50_000,
    limit: float = 900,
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
        aim = Aim(kills=kills, reads=reads, limit=limit)
        figures = {
            name: _forked(Path(folder, name), aim, choose, replacing=name == "replacing")
            for name in ("publishing", "replacing")
            if kills
        }
        if commands:
            figures["the command"] = _commands(Path(folder, "commands"), commands, reads, choose)
    report(figures, facts(["pyarrow", "duckdb", "polars"]), json_file)


def report(figures: dict[str, Figures], about: dict[str, object], json_file: Path | None) -> None:
    """Print what was found, and end with exit code 1 if anything was wrong.

    Args:
        figures: By kind of run.
        about: What was measured on.
        json_file: Where all of it goes.
    """
    columns = ("killed", "ended", "tables", "images", "lost", "other mistakes", "s")
    print("| runs | " + " | ".join(columns) + " |\n|" + "---|" * 8)
    for name, each in figures.items():
        counts = (each.kills, sum(each.ended.values()), each.tables, each.images, each.missing)
        cells = [name, *map(str, counts), str(len(each.wrong)), f"{each.seconds:.0f}"]
        print("| " + " | ".join(cells) + " |")
    columns = ("reads", "changed", "errors", "partial", "twice", "lost")
    print("\n| runs | reader | " + " | ".join(columns) + " |\n|" + "---|" * 8)
    for name, each in figures.items():
        for reader, seen in each.reads.items():
            print(
                f"| {name} | {reader} | " + " | ".join(f"{seen[key]:,}" for key in columns) + " |"
            )
            each.wrong += [f"{reader}: {text}" for text in seen["examples"]]
    if json_file is not None:
        found = {name: asdict(each) for name, each in figures.items()}
        json_file.write_text(json.dumps(about | {"figures": found}, indent=2) + "\n")
    wrong = [f"{name}: {text}" for name, each in figures.items() for text in each.wrong]
    print("\n".join(wrong))
    if wrong or any(each.missing for each in figures.values()):
        raise SystemExit(1)


def _forked(folder: Path, aim: Aim, choose: random.Random, *, replacing: bool) -> Figures:
    """Kill forked runs; where they are not replacing, images are only added."""
    figures, outs, errors = Figures(), folder / "outs", folder / "errors"
    outs.mkdir(parents=True)
    began = time.monotonic()
    readers = _start_readers(outs, aim.reads, [*PLAIN, "polars-linked"] if replacing else PLAIN)

    def enough() -> bool:
        late = time.monotonic() > began + aim.limit
        reading = any(reader.poll() is None for reader in readers.values())
        return figures.kills >= aim.kills and (late or not reading)

    while not enough():
        figures.tables += 1
        table = _Table(outs / f"{figures.tables:04d}", errors, choose, replacing=replacing)
        while not table.full and not enough():
            pause = PAUSE_S if figures.kills < aim.kills else 2 * PAUSE_S
            time.sleep(choose.uniform(0, pause))
            _count(figures, table.kill_one())
        table.finish(figures)
    figures.reads = _stop_readers(readers)
    figures.seconds = time.monotonic() - began
    if errors.exists():
        figures.wrong += errors.read_text().splitlines()
    return figures


class _Table:
    """One output, of images that come and change, with two runs at work on it."""

    def __init__(self, out: Path, errors: Path, choose: random.Random, *, replacing: bool) -> None:
        self._out, self._errors, self._choose = out, errors, choose
        self._replacing = replacing
        self._world = SharedWorld(MOST_IMAGES)
        self._world.add(3)
        self._number = 0
        self._running = [self._start(), self._start()]

    @property
    def full(self) -> bool:
        """Whether all images have come."""
        return len(self._world) >= MOST_IMAGES

    def kill_one(self) -> int:
        """Kill one run and begin another; returns its exit code."""
        child = self._running.pop(self._choose.randrange(2))
        os.kill(child, signal.SIGKILL)
        self._running.append(self._start())
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    def finish(self, figures: Figures) -> None:
        """Let both end, complete the table, and hold it against the images."""
        for child in self._running:
            _count(figures, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        night(self._out, Night(run_id="last", shard_size=4), self._world)
        figures.images += len(self._world)
        figures.wrong += violations(self._out, self._world)
        if again := night(self._out, Night(run_id="again", shard_size=4), self._world):
            figures.wrong.append(f"a run with nothing to do inferred {again} images")

    def _start(self) -> int:
        self._number += 1
        self._change()
        overwrite = self._replacing and self._choose.random() < 0.5
        request = Night(run_id=f"run-{self._number}", shard_size=4, overwrite=overwrite)
        return fork(lambda: night(self._out, request, self._world), self._errors)

    def _change(self) -> None:
        """Let images come and change."""
        world, choose = self._world, self._choose
        if not self.full:
            world.add(min(choose.randint(1, 2), MOST_IMAGES - len(world)))
        if self._replacing and choose.random() < 0.1:
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
    figures, out = Figures(tables=1), folder / "outs" / "1"
    images = copy_images(folder / "images", COMMAND_IMAGES)
    command = classify(folder / "images", out, "--shard-size", "10")

    def start() -> subprocess.Popen[str]:
        os.utime(choose.choice(images))
        return start_process(command)

    began = time.monotonic()
    readers = _start_readers(out.parent, reads, PLAIN)
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
    rows = Counter(name for _, name, _ in READERS["pyarrow"](out)())
    figures.images = len(names)
    figures.missing = sum(name not in rows for name in names)
    figures.wrong += [f"{name}: {count} rows" for name, count in rows.items() if count > 1]


def _start_readers(
    outs: Path, reads: int, names: Sequence[str]
) -> dict[str, subprocess.Popen[str]]:
    each = str(-(-reads // len(names)))
    module = [sys.executable, "-m", "benchmarks.reliability.readers"]
    return {name: start_process([*module, name, str(outs), "--reads", each]) for name in names}


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
