"""Disturbs a run with its output in a bucket at every one of its requests.

    python -m benchmarks.reliability.bucket_requests [--json FILE]

For every n, a run's n-th request: the run is killed and the request never done; it is done and the
run killed before the answer comes; the answer is 503, or 403; the request is done and its answer
lost; and to its n-th put, the answer is 409. Two runs are tried: the first, which publishes, and a
second one that finds images changed, gone and new, and so replaces objects, too. After each trial
the table must be right as far as it goes; then a run without disturbance must complete it, infer
what was missing and no image more, and a further one nothing.

The server is moto, in a process of its own (bucket_server.py). What is in its bucket is written to
files for the checks, and the last run is done on these.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from benchmarks.machine import facts
from benchmarks.reliability.bucket_server import BUCKET_URI, BucketServer, bucket_server
from benchmarks.reliability.fake_runs import ask, fork, night
from benchmarks.reliability.interrupter import Interruption
from benchmarks.reliability.trials import (
    KINDS,
    Figures,
    Kind,
    judge_after,
    judge_before,
    judge_end,
    report,
)
from tests.shards.nights import Night

__all__ = ["FAULTS", "Trials", "held_back", "main"]

FAULTS: tuple[Interruption, ...] = (
    "killed before",
    "killed after",
    "unavailable",
    "lost_answer",
    "conflict",
    "forbidden",
)
PROBES = "state/probes"

app = App(help=__doc__)


@app.default
def main(
    *,
    every: int = 1,
    faults: Sequence[Interruption] = FAULTS,
    json_file: Annotated[Path | None, Parameter(name="--json")] = None,
) -> None:
    """Print a table; exit code 1 if anything was lost, there twice, partial or done again.

    Args:
        every: Try every so many requests only.
        faults: To be tried.
        json_file: Where the figures go.
    """
    began = time.monotonic()
    figures: dict[str, dict[str, Figures]] = {}
    with tempfile.TemporaryDirectory() as folder, bucket_server() as server:
        trials = Trials(server, Path(folder))
        for name, kind in KINDS.items():
            trials.prepare(name, kind)
            figures[name] = {fault: trials.try_all(name, kind, fault, every) for fault in faults}
        about = facts(["moto", "obstore", "pyarrow"]) | {
            "requests": server.requests(),
            "seconds": time.monotonic() - began,
        }
    report(figures, about, json_file)


class Trials:
    """Runs on copies of an output in a bucket, one after the other."""

    def __init__(self, server: BucketServer, folder: Path) -> None:
        """Use a server's bucket, and a folder for copies of what is in it."""
        self._server = server
        self._folder = folder
        self._errors = folder / "errors"
        self._number = 0

    def prepare(self, name: str, kind: Kind) -> None:
        """Make the output that runs of a kind begin with."""
        if kind.before:
            work = partial(night, f"{BUCKET_URI}/{name}", Night(run_id="night-1"), kind.before)
            assert ask(work, self._errors) == len(kind.before), self._errors.read_text()

    def try_all(self, name: str, kind: Kind, fault: Interruption, every: int) -> Figures:
        """Let something happen to every request there is."""
        figures, request = Figures(), 1
        while self._try(figures, name, kind, fault, request):
            request += every
        return figures

    def _try(
        self, figures: Figures, name: str, kind: Kind, fault: Interruption, request: int
    ) -> bool:
        """Let something happen to one request; False where there are no so many."""
        self._number += 1
        prefix = f"trial-{self._number}"
        self._server.copy(f"{name}/", f"{prefix}/")
        work = partial(night, f"{BUCKET_URI}/{prefix}", Night(run_id="night-2", prune=0.5))
        with held_back(partial(work, kind.world), self._errors) as child:
            self._server.arm(fault, request, child)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if reached := self._server.disarm():
            what = f"{fault} at request {request} of {name}, {reached}"
            figures.count(reached.partition(" ")[0])
            judge_end(figures, code, what, self._errors)
            self._judge(figures, kind, prefix, what)
        self._server.remove(f"{prefix}/")
        self._errors.unlink(missing_ok=True)
        return bool(reached)

    def _judge(self, figures: Figures, kind: Kind, prefix: str, what: str) -> None:
        """See what a trial left, and what the next runs make of it."""
        here = self._dump(prefix, "before")
        figures.left_over += (here / PROBES).is_dir()
        missing = judge_before(figures, kind, here, what)
        third = partial(night, f"{BUCKET_URI}/{prefix}", Night(run_id="night-3", prune=0.5))
        inferred = ask(partial(third, kind.world), self._errors)
        if inferred != missing:
            figures.after.append(f"{what}: the next run inferred {inferred}, not {missing}")
        here = self._dump(prefix, "after")
        if again := night(here, Night(run_id="night-4", prune=0.5), kind.world):
            figures.after.append(f"{what}: a run with nothing to do inferred {again}")
        judge_after(figures, kind, here, what)

    def _dump(self, prefix: str, name: str) -> Path:
        folder = self._folder / f"{prefix}-{name}"
        self._server.dump(f"{prefix}/", folder)
        return folder


@contextmanager
def held_back(work: Callable[[], object], errors: Path) -> Iterator[int]:
    """Start a process that begins its work at the end of the block; yields its id.

    Args:
        work: What it does.
        errors: File that what it raises is appended to.
    """
    here, there = os.pipe()

    def begin() -> None:
        os.close(there)
        os.read(here, 1)
        work()

    child = fork(begin, errors)
    os.close(here)
    try:
        yield child
    finally:
        os.close(there)


if __name__ == "__main__":
    app()
