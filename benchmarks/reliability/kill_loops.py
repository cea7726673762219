"""Loops that kill overlapping runs on one output, wherever it lies, while others read it."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from benchmarks.reliability.example_runs import ROOT, copy_images
from benchmarks.reliability.example_runs import command as classify
from benchmarks.reliability.example_runs import start as start_process
from benchmarks.reliability.fake_runs import SharedWorld, ask, fork, night, violations
from shards.trees import open_tree
from shards.verify_table import check_table
from tests.shards.nights import Night

__all__ = ["Aim", "Figures", "Ground", "Rows", "kill_all", "kill_commands", "kill_forked"]

KILLED = -int(signal.SIGKILL)
COMMAND_IMAGES = 400
OVERWRITES = 0.5
CHANGES = 0.1

Rows = Callable[[str], list[str]]
"""Names of the images in an output, one for each row."""


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

    def count(self, code: int) -> None:
        """Count a run's end."""
        if code == KILLED:
            self.kills += 1
            return
        self.ended[code] = self.ended.get(code, 0) + 1
        if code != 0:
            self.wrong.append(f"a run ended with exit code {code}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Aim:
    """When enough was done.

    Attributes:
        kills: Of forked runs, at least; 0 for none of these.
        reads: Of the table meanwhile, for each kind of run, by all libraries together.
        limit: Seconds after which no more reads are waited for.
        commands: Kills of the command.
        seed: Of the moments.
        json_file: Where the figures go.
    """

    kills: int = 200
    reads: int = 50_000
    limit: float = 900
    commands: int = 20
    seed: int = 0
    json_file: Annotated[Path | None, Parameter(name="--json")] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """Where runs are killed.

    Attributes:
        outs: The folder of outputs, a directory or s3://bucket/folder.
        folder: A directory for everything else.
        readers: Module that reads outputs.
        names: Its libraries.
        most_images: Of a table of forked runs.
        pause_s: The longest between two kills of forked runs; twice that, after as many kills as
            were asked for: readers need processors as well.
    """

    outs: str
    folder: Path
    readers: str
    names: Sequence[str]
    most_images: int
    pause_s: float

    @property
    def errors(self) -> Path:
        """File that forked processes write to what they raise."""
        return self.folder / "errors"

    def start_readers(self, reads: int) -> dict[str, subprocess.Popen[str]]:
        """Start processes that read so often, all together."""
        each = str(-(-reads // len(self.names)))
        module = [sys.executable, "-m", self.readers]
        return {
            name: start_process([*module, name, self.outs, "--reads", each]) for name in self.names
        }


def kill_all(aim: Aim, ground: Callable[[str], Ground], rows: Rows) -> dict[str, Figures]:
    """Kill forked runs that publish, then such that replace, then the command.

    Args:
        aim: How many.
        ground: Where, by kind of run: publishing, replacing, commands.
        rows: Reads the command's table at last.
    """
    figures, choose = {}, random.Random(aim.seed)
    for name in ("publishing", "replacing") if aim.kills else ():
        figures[name] = kill_forked(ground(name), aim, choose, replacing=name == "replacing")
    if aim.commands:
        place = ground("commands")
        figures["the command"] = kill_commands(place, aim.commands, aim.reads, choose, rows)
    return figures


def kill_forked(ground: Ground, aim: Aim, choose: random.Random, *, replacing: bool) -> Figures:
    """Kill forked runs; where they are not replacing, images are only added."""
    figures = Figures()
    ground.folder.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    readers = ground.start_readers(aim.reads)

    def enough() -> bool:
        late = time.monotonic() > began + aim.limit
        reading = any(reader.poll() is None for reader in readers.values())
        return figures.kills >= aim.kills and (late or not reading)

    while not enough():
        figures.tables += 1
        table = _Table(ground, f"{figures.tables:04d}", choose, replacing=replacing)
        while not table.full and not enough():
            pause = ground.pause_s * (1 if figures.kills < aim.kills else 2)
            time.sleep(choose.uniform(0, pause))
            figures.count(table.kill_one())
        table.finish(figures)
    figures.reads = _stop_readers(readers)
    figures.seconds = time.monotonic() - began
    if ground.errors.exists():
        figures.wrong += ground.errors.read_text().splitlines()
    return figures


class _Table:
    """One output, of images that come and change, with two runs at work on it."""

    def __init__(
        self, ground: Ground, name: str, choose: random.Random, *, replacing: bool
    ) -> None:
        self._out, self._ground = f"{ground.outs}/{name}", ground
        self._choose, self._replacing = choose, replacing
        self._world = SharedWorld(ground.most_images)
        self._world.add(3)
        self._number = 0
        self._running = [self._start(), self._start()]

    @property
    def full(self) -> bool:
        """Whether all images have come."""
        return len(self._world) >= self._ground.most_images

    def kill_one(self) -> int:
        """Kill one run and begin another; returns its exit code."""
        child = self._running.pop(self._choose.randrange(2))
        os.kill(child, signal.SIGKILL)
        self._running.append(self._start())
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    def finish(self, figures: Figures) -> None:
        """Let both end, complete the table, and hold it against the images."""
        for child in self._running:
            figures.count(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        figures.images += len(self._world)
        ask(self._night("last"), self._ground.errors)
        found = ask(partial(violations, self._out, self._world), self._ground.errors)
        figures.wrong += ["the table could not be checked"] if found is None else found
        if again := ask(self._night("again"), self._ground.errors):
            figures.wrong.append(f"a run with nothing to do inferred {again} images")

    def _start(self) -> int:
        self._number += 1
        self._change()
        overwrite = self._replacing and self._choose.random() < OVERWRITES
        return fork(self._night(f"run-{self._number}", overwrite), self._ground.errors)

    def _night(self, run_id: str, overwrite: bool = False) -> Callable[[], int]:
        request = Night(run_id=run_id, shard_size=4, overwrite=overwrite)
        return partial(night, self._out, request, self._world)

    def _change(self) -> None:
        """Let images come and change."""
        world, choose = self._world, self._choose
        if not self.full:
            world.add(min(choose.randint(1, 2), self._ground.most_images - len(world)))
        if self._replacing and choose.random() < CHANGES:
            world.change(choose.randrange(len(world)))


def kill_commands(
    ground: Ground, kills: int, reads: int, choose: random.Random, rows: Rows
) -> Figures:
    """Kill the command, so many times.

    Args:
        ground: Where.
        kills: Of the command.
        reads: Of the table meanwhile, at most.
        choose: The moments.
        rows: Reads the table at last.
    """
    figures, out = Figures(tables=1), f"{ground.outs}/1"
    images = copy_images(ground.folder / "images", COMMAND_IMAGES)
    command = classify(ground.folder / "images", out, "--shard-size", "10")

    def start() -> subprocess.Popen[str]:
        os.utime(choose.choice(images))
        return start_process(command)

    began = time.monotonic()
    readers = ground.start_readers(reads)
    running = [start(), start()]
    while figures.kills < kills:
        time.sleep(choose.uniform(0.3, 3))
        process = running.pop(choose.randrange(2))
        process.kill()
        _, errors = process.communicate()
        figures.count(process.returncode)
        if process.returncode not in (0, KILLED):
            figures.wrong.append(errors)
        running.append(start())
    for process in running:
        process.communicate()
    figures.reads = _stop_readers(readers)
    figures.seconds = time.monotonic() - began
    _finish(figures, command)
    found = ask(partial(_read, out, rows), ground.errors)
    assert found is not None, ground.errors.read_text()
    figures.wrong += found[0]
    counts = Counter(found[1])
    figures.images = len(images)
    figures.missing = sum(path.name not in counts for path in images)
    figures.wrong += [f"{name}: {count} rows" for name, count in counts.items() if count > 1]
    return figures


def _finish(figures: Figures, command: list[str]) -> None:
    """Complete a table with the command, which then finds nothing to do."""
    written = []
    for _ in range(2):
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            figures.wrong.append(done.stderr)
            return
        written.append(json.loads(done.stdout)["rows_written"])
    if written[1] != 0:
        figures.wrong.append(f"a run with nothing to do wrote {written[1]} rows")


def _read(out: str, rows: Rows) -> tuple[list[str], list[str]]:
    """What is wrong with a table, and the images in it."""
    findings = check_table(open_tree(out), quick=False, workers=1).findings
    return list(map(str, findings)), rows(out)


def _stop_readers(readers: dict[str, subprocess.Popen[str]]) -> dict[str, dict[str, Any]]:
    found = {}
    for name, reader in readers.items():
        reader.terminate()
        answer, errors = reader.communicate()
        assert reader.returncode == 0, errors
        found[name] = json.loads(answer)
    return found
