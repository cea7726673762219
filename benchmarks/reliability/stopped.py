"""Stops runs (SIGSTOP), lets others overtake them, wakes them up: they must change nothing.

    python -m benchmarks.reliability.stopped [--trials 10] [--json FILE]

Runs that make their rows up are stopped at every step that changes the file system, one
run a step: a first one, which publishes, and a second one, which replaces files (the
workers of tests/shards/test_crashes.py and test_night_crashes.py). Then the command, with its
device process and decoders, at random moments: over an empty output, and over a finished one whose
images have all changed. While it is stopped, the same command does all of the work. When it is
woken, it must end well, and every file of the table must be the very file that it was: same inode,
same time, same bytes.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from benchmarks.machine import facts
from benchmarks.reliability.example_runs import ROOT, command, copy_images, start
from shards.local_tree import LocalTree
from shards.verify_table import check_table

__all__ = ["Figures", "main", "report"]

WORKERS = {"first": "crash_worker.py", "second": "night_worker.py"}
IMAGES = 400
LATEST_S = 4.0
"""A run over 400 images of the example takes some 3 s on two cores."""

app = App(help=__doc__)


@dataclass(slots=True, kw_only=True)
class Figures:
    """What became of runs of one kind.

    Attributes:
        stopped: Runs that were stopped at work.
        changed: Runs that changed a file of the table once they were woken.
        again: Those that did right work again, for they had listed an image that changed meanwhile.
        wrong: Whatever was wrong, in words.
    """

    stopped: int = 0
    changed: int = 0
    again: int = 0
    wrong: list[str] = field(default_factory=list)


@app.default
def main(
    *, trials: int = 10, json_file: Annotated[Path | None, Parameter(name="--json")] = None
) -> None:
    """Print a table; exit code 1 if a run that was woken changed anything.

    Args:
        trials: Of the command, of each kind.
        json_file: Where the figures go.
    """
    choose = random.Random(0)
    figures: dict[str, Figures] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, worker in WORKERS.items():
            figures[f"{name}, at every step"] = _at_every_step(worker, Path(folder, name))
        images = copy_images(Path(folder, "images"), IMAGES)
        work = command(images[0].parent, Path(folder, "out"), "--shard-size", "10")
        for name in WORKERS:
            each = figures[f"{name}, the command"] = Figures()
            while each.stopped < trials and not each.wrong:
                _prepare(Path(folder, "out"), images, work, first=name == "first")
                _try(each, work, Path(folder, "out"), choose)
    report(figures, facts(["pyarrow"]), json_file)


def report(
    figures: Mapping[str, Figures], about: Mapping[str, object], json_file: Path | None
) -> None:
    """Print a table, and end with exit code 1 if a run that was woken changed anything.

    Args:
        figures: By kind of run.
        about: What was measured on.
        json_file: Where all of it goes.
    """
    columns = ("stopped", "changed something when woken", "did work again", "other mistakes")
    print("| run | " + " | ".join(columns) + " |\n|" + "---|" * 5)
    for name, each in figures.items():
        counts = (each.stopped, each.changed, each.again, len(each.wrong))
        print(f"| {name} | " + " | ".join(map(str, counts)) + " |")
    wrong = [text for each in figures.values() for text in each.wrong]
    print("\n".join(wrong))
    if json_file is not None:
        found = {name: asdict(each) for name, each in figures.items()}
        json_file.write_text(json.dumps({**about, "figures": found}, indent=2) + "\n")
    if wrong or any(each.changed for each in figures.values()):
        raise SystemExit(1)


def _at_every_step(worker: str, folder: Path) -> Figures:
    """Let a worker stop runs, one a step; each leaves an output in the folder."""
    folder.mkdir()
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests/shards" / worker), "stop", str(folder)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    figures = Figures(stopped=len(list(folder.iterdir())) - 1)  # the last was not reached
    if done.returncode != 0:
        figures.changed += "it changed something" in done.stderr
        figures.wrong.append(done.stderr)
    return figures


def _prepare(out: Path, images: list[Path], work: list[str], *, first: bool) -> None:
    """Make the output that a run is stopped over."""
    if first:
        shutil.rmtree(out, ignore_errors=True)
        return
    if not out.exists():
        subprocess.run(work, cwd=ROOT, check=True, capture_output=True)
    for path in images:
        os.utime(path)


def _try(figures: Figures, work: list[str], out: Path, choose: random.Random) -> None:
    """Stop one run, overtake it, wake it up."""
    process = start(work)
    time.sleep(choose.uniform(0, LATEST_S))
    stopped = _signal_tree(process.pid, signal.SIGSTOP)
    if process.poll() is not None:
        return
    figures.stopped += 1
    overtaking = subprocess.run(work, cwd=ROOT, capture_output=True, text=True, check=False)
    before = _table(out)
    for pid in reversed(stopped):
        os.kill(pid, signal.SIGCONT)
    _, errors = process.communicate(timeout=120)
    figures.changed += _table(out) != before
    for code, text in ((overtaking.returncode, overtaking.stderr), (process.returncode, errors)):
        if code != 0:
            figures.wrong.append(f"exit code {code}: {text}")
    report = check_table(LocalTree(out), quick=False, workers=1)
    figures.wrong += map(str, report.findings)
    [model] = report.models.values()
    if (model.rows, model.outdated) != (IMAGES, 0):
        figures.wrong.append(f"{model.rows} rows, {model.outdated} files outdated")


def _signal_tree(pid: int, number: signal.Signals) -> list[int]:
    """Send a signal to a process and all below it, parents first; returns them."""
    with suppress(ProcessLookupError):
        os.kill(pid, number)
    found = [pid]
    with suppress(FileNotFoundError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            for child in (thread / "children").read_text().split():
                found += _signal_tree(int(child), number)
    return found


def _table(out: Path) -> list[tuple[str, int, int, str]]:
    """Every file of the table: name, inode, time and what is in it."""
    return [
        (str(path), path.stat().st_ino, path.stat().st_mtime_ns, _digest(path))
        for path in sorted((out / "predictions").rglob("*.parquet"))
    ]


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


if __name__ == "__main__":
    app()
