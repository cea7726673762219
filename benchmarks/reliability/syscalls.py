"""Kills a run, or fails its disk, at every system call of its commits that writes.

    python -m benchmarks.reliability.syscalls [--json FILE]

Needs Linux and strace 5 or later; no root. strace joins a run that is about to begin, and
interferes with its n-th openat, write, fsync, link ... for every n that an undisturbed run has;
opens for reading are among them. Two runs are tried: the first, which publishes, and a second one
that finds images changed, gone and new, and so replaces files, too. After each trial the table
must be right as far as it goes; then a run without disturbance must complete it, infer what was
missing and no image more, and a further one nothing.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from benchmarks.machine import facts
from benchmarks.reliability.fake_runs import CLEAN_FAILURE, fork, night, violations
from shards.local_tree import LocalTree
from tests.shards import nights
from tests.shards.night_worker import FIRST, SECOND
from tests.shards.nights import Night, World

__all__ = ["CALLS", "FAULTS", "Figures", "main"]

CALLS = (
    *("openat", "write", "pwrite64", "writev", "ftruncate", "fsync", "fdatasync", "flock"),
    *("link", "linkat", "rename", "renameat", "renameat2", "unlink", "unlinkat"),
    *("mkdir", "mkdirat"),
)
FAULTS = {"kill -9": "signal=KILL", "EIO": "error=EIO", "ENOSPC": "error=ENOSPC"}
KILLED = -9
PATIENCE_S = 20

app = App(help=__doc__)


@dataclass(slots=True, kw_only=True)
class Figures:
    """What became of one kind of fault in one kind of run.

    Attributes:
        trials: Runs that met it.
        by_call: The same, by system call.
        failed: Those that ended with an error that says what to do.
        killed: Those that were killed.
        completed: Those that completed their work all the same.
        left_over: Those that left a file in staging.
        before: What was wrong before any other run, by trial.
        after: What was wrong after the next run.
    """

    trials: int = 0
    by_call: dict[str, int] = field(default_factory=dict)
    failed: int = 0
    killed: int = 0
    completed: int = 0
    left_over: int = 0
    before: list[str] = field(default_factory=list)
    after: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A kind of run.

    Attributes:
        start: The output that it begins with.
        before: Images that have rows in it.
        world: Images as the run finds them.
    """

    start: Path
    before: World
    world: World


@app.default
def main(*, json_file: Annotated[Path | None, Parameter(name="--json")] = None) -> None:
    """Print a table; exit code 1 if anything was lost, there twice, partial or done again.

    Args:
        json_file: Where the figures go.
    """
    began = time.monotonic()
    figures: dict[str, dict[str, Figures]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, path in _kinds(Path(folder)).items():
            figures[name] = {fault: _try_all(path, fault, Path(folder)) for fault in FAULTS}
    print(
        "| run | fault | trials | failed cleanly | killed | completed | left in staging |", end=""
    )
    print(" wrong before the next run | after it |\n|" + "---|" * 9)
    for name, faults in figures.items():
        for fault, each in faults.items():
            counts = (each.trials, each.failed, each.killed, each.completed, each.left_over)
            cells = [name, fault, *counts, len(each.before), len(each.after)]
            print("| " + " | ".join(map(str, cells)) + " |")
    print(f"\nin {time.monotonic() - began:.0f} s")
    wrong = [line for faults in figures.values() for f in faults.values() for line in f.before]
    wrong += [line for faults in figures.values() for f in faults.values() for line in f.after]
    print("\n".join(wrong[:20]))
    if json_file is not None:
        report = {name: {f: asdict(e) for f, e in each.items()} for name, each in figures.items()}
        json_file.write_text(json.dumps(facts(["pyarrow"]) | {"figures": report}, indent=2) + "\n")
    if wrong:
        raise SystemExit(1)


def _kinds(folder: Path) -> dict[str, Kind]:
    """Prepare what the two kinds of run begin with."""
    empty, full = folder / "empty", folder / "full"
    empty.mkdir()
    request = Night(run_id="night-1")
    assert _wait(fork(lambda: night(full, request, FIRST), folder / "errors")) == 0
    return {
        "publish": Kind(start=empty, before={}, world=FIRST),
        "replace": Kind(start=full, before=FIRST, world=SECOND),
    }


def _try_all(path: Kind, fault: str, folder: Path) -> Figures:
    """Try a fault at every call."""
    figures = Figures()
    _, undisturbed = _traced(path, folder / "undisturbed", ())
    shutil.rmtree(folder / "undisturbed")
    calls = Counter(re.findall(r"^\d+ +(\w+)\(", undisturbed, re.MULTILINE))
    for call, count in calls.items():
        for number in range(1, count + 1):
            out = folder / "trial"
            inject = f"inject={call}:{FAULTS[fault]}:when={number}"
            code, log = _traced(path, out, ("-e", inject))
            if code == KILLED or "(INJECTED)" in log:
                figures.trials += 1
                figures.by_call[call] = figures.by_call.get(call, 0) + 1
                _judge(figures, path, out, code, f"{fault} at {call} {number}")
            shutil.rmtree(out)
    return figures


def _traced(path: Kind, out: Path, options: tuple[str, ...]) -> tuple[int, str]:
    """Do a run under strace, from its first step; returns its exit code and the log of calls."""
    shutil.copytree(path.start, out)
    log = out.with_name("log")
    here, there = os.pipe()

    def work() -> None:
        os.close(there)
        os.read(here, 1)
        night(out, Night(run_id="night-2", prune=0.5), path.world)

    child = fork(work, out.with_name("errors"))
    os.close(here)
    trace = "trace=" + ",".join(f"?{call}" for call in CALLS)
    command = ["strace", "-f", "-qq", "-o", str(log), "-e", trace, *options, "-p", str(child)]
    with subprocess.Popen(command) as strace:
        deadline = time.monotonic() + PATIENCE_S
        while "TracerPid:\t0" in Path(f"/proc/{child}/status").read_text():
            assert strace.poll() is None, "strace did not join"
            assert time.monotonic() < deadline, "strace did not join"
            time.sleep(0.002)
        os.close(there)
        code = _wait(child)
    return code, log.read_text()


def _wait(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _judge(figures: Figures, path: Kind, out: Path, code: int, name: str) -> None:
    """See what a trial left, and what the next runs make of it."""
    figures.completed += code == 0
    figures.killed += code == KILLED
    figures.failed += code == CLEAN_FAILURE
    if code not in (0, KILLED, CLEAN_FAILURE):
        figures.before.append(f"{name}: not a clean failure: {out.with_name('errors').read_text()}")
    tree = LocalTree(out)
    left = tree.staging.is_dir() and any(tree.staging.iterdir())
    figures.left_over += left
    if left and code != KILLED and "unlink" not in name:
        figures.before.append(f"{name}: a file was left in staging")
    figures.before += [f"{name}: {text}" for text in violations(out)]
    found = nights.states(tree)
    figures.before += [
        f"{name}: {key!r} lost, or of no state it ever had: {found.get(key)}"
        for key in (path.before.keys() & path.world.keys()) | found.keys()
        if found.get(key) not in (path.before.get(key), path.world.get(key))
    ]
    missing = sum(found.get(key) != state for key, state in path.world.items())
    for run, expected in enumerate((missing, 0), 3):
        inferred = night(out, Night(run_id=f"night-{run}", prune=0.5), path.world)
        if inferred != expected:
            figures.after.append(f"{name}: run {run} inferred {inferred}, not {expected}")
    figures.after += [f"{name}: {text}" for text in violations(out, path.world)]
    if nights.states(tree).keys() != path.world.keys():
        figures.after.append(f"{name}: rows of images that are gone")


if __name__ == "__main__":
    app()
