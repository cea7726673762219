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

import os
import re
import shutil
import subprocess
import tempfile
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from benchmarks.machine import facts
from benchmarks.reliability.fake_runs import fork, night
from benchmarks.reliability.trials import (
    KILLED,
    KINDS,
    Figures,
    Kind,
    judge_after,
    judge_before,
    judge_end,
    report,
)
from shards.local_tree import LocalTree
from tests.shards.nights import Night

__all__ = ["CALLS", "FAULTS", "main"]

CALLS = (
    *("openat", "write", "pwrite64", "writev", "ftruncate", "fsync", "fdatasync", "flock"),
    *("link", "linkat", "rename", "renameat", "renameat2", "unlink", "unlinkat"),
    *("mkdir", "mkdirat"),
)
FAULTS = {"kill -9": "signal=KILL", "EIO": "error=EIO", "ENOSPC": "error=ENOSPC"}
PATIENCE_S = 20

app = App(help=__doc__)


@app.default
def main(*, json_file: Annotated[Path | None, Parameter(name="--json")] = None) -> None:
    """Print a table; exit code 1 if anything was lost, there twice, partial or done again.

    Args:
        json_file: Where the figures go.
    """
    began = time.monotonic()
    figures: dict[str, dict[str, Figures]] = {}
    with tempfile.TemporaryDirectory() as folder:
        errors = Path(folder, "errors")
        for name, kind in KINDS.items():
            start = Path(folder, name)
            start.mkdir()
            if kind.before:
                first = fork(partial(night, start, Night(run_id="night-1"), kind.before), errors)
                assert _wait(first) == 0
            figures[name] = {fault: _try_all(kind, start, fault, Path(folder)) for fault in FAULTS}
    about = facts(["pyarrow"]) | {"seconds": time.monotonic() - began}
    report(figures, about, json_file)


def _try_all(kind: Kind, start: Path, fault: str, folder: Path) -> Figures:
    """Try a fault at every call of runs on copies of an output."""
    figures = Figures()
    _, undisturbed = _traced(kind, start, folder / "undisturbed", ())
    shutil.rmtree(folder / "undisturbed")
    calls = Counter(re.findall(r"^\d+ +(\w+)\(", undisturbed, re.MULTILINE))
    for call, count in calls.items():
        for number in range(1, count + 1):
            out = folder / "trial"
            inject = f"inject={call}:{FAULTS[fault]}:when={number}"
            code, log = _traced(kind, start, out, ("-e", inject))
            if code == KILLED or "(INJECTED)" in log:
                figures.count(call)
                _judge(figures, kind, out, code, f"{fault} at {call} {number}")
            shutil.rmtree(out)
    return figures


def _traced(kind: Kind, start: Path, out: Path, options: tuple[str, ...]) -> tuple[int, str]:
    """Do a run under strace, from its first step; returns its exit code and the log of calls."""
    shutil.copytree(start, out)
    log = out.with_name("log")
    here, there = os.pipe()

    def work() -> None:
        os.close(there)
        os.read(here, 1)
        night(out, Night(run_id="night-2", prune=0.5), kind.world)

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


def _judge(figures: Figures, kind: Kind, out: Path, code: int, name: str) -> None:
    """See what a trial left, and what the next runs make of it."""
    judge_end(figures, code, name, out.with_name("errors"))
    tree = LocalTree(out)
    left = tree.staging.is_dir() and any(tree.staging.iterdir())
    figures.left_over += left
    if left and code != KILLED and "unlink" not in name:
        figures.before.append(f"{name}: a file was left in staging")
    missing = judge_before(figures, kind, out, name)
    for run, expected in enumerate((missing, 0), 3):
        inferred = night(out, Night(run_id=f"night-{run}", prune=0.5), kind.world)
        if inferred != expected:
            figures.after.append(f"{name}: run {run} inferred {inferred}, not {expected}")
    judge_after(figures, kind, out, name)


if __name__ == "__main__":
    app()
