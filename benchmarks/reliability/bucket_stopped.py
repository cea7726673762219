"""Stops runs with their output in a bucket at every one of their requests, and wakes them later.

    python -m benchmarks.reliability.bucket_stopped [--json FILE]

For every n, a run is stopped (SIGSTOP) while its n-th request is on its way, or once that was done
and before its answer arrives. Then another run does all of the work. When the first one is woken,
its request is done, or its answer comes; it must end well, and every object of the table must be
the very object that it was: same ETag, same time. Two runs are tried, as by bucket_requests.

All this also with an image that changes while the run is stopped. A run that has listed it before,
and reads the plans after, takes its old time for a change: it classifies the image again, as it is
now. These are counted; every row must be of the image's latest state.
"""

from __future__ import annotations

import mmap
import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import KW_ONLY, dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from benchmarks.machine import facts
from benchmarks.reliability.bucket_requests import held_back
from benchmarks.reliability.bucket_server import BUCKET_URI, BucketServer, bucket_server
from benchmarks.reliability.fake_runs import ask, night, violations
from benchmarks.reliability.interrupter import Interruption
from benchmarks.reliability.stopped import Figures, report
from benchmarks.reliability.trials import KINDS, Kind
from tests.shards.nights import Night, World

__all__ = ["Trial", "main"]

WHEN: tuple[Interruption, ...] = ("stopped before", "stopped after")
PATIENCE_S = 60.0

app = App(help=__doc__)


@app.default
def main(
    *, every: int = 1, json_file: Annotated[Path | None, Parameter(name="--json")] = None
) -> None:
    """Print a table; exit code 1 if a run that was woken changed anything.

    Args:
        every: Try every so many requests only.
        json_file: Where the figures go.
    """
    began = time.monotonic()
    figures: dict[str, Figures] = {}
    with tempfile.TemporaryDirectory() as folder, bucket_server() as server:
        for name, kind in KINDS.items():
            if kind.before:
                first = partial(night, f"{BUCKET_URI}/{name}", Night(run_id="night-1"))
                ask(partial(first, kind.before), Path(folder, "errors"))
            for when, changing in product(WHEN, (False, True)):
                label = f"{name}, {when} a request" + ", an image changes" * changing
                figures[label] = each = Figures()
                trial = Trial(server, Path(folder), name, kind, when, changing=changing)
                request = 1
                while trial.at(request, each):
                    request += every
    about = facts(["moto", "obstore"]) | {"seconds": time.monotonic() - began}
    report(figures, about, json_file)


@dataclass(frozen=True)
class Trial:
    """What is tried at every request."""

    server: BucketServer
    folder: Path
    name: str
    kind: Kind
    when: Interruption
    _: KW_ONLY
    changing: bool

    def at(self, request: int, figures: Figures) -> bool:
        """Stop a run, overtake it, wake it up; False where it has no so many requests."""
        prefix = f"{self.name}-{self.when.replace(' ', '-')}-{self.changing}-{request}"
        out, errors = f"{BUCKET_URI}/{prefix}", self.folder / f"{prefix}.errors"
        self.server.copy(f"{self.name}/", f"{prefix}/")
        images = _Images(self.kind.world, self.kind.world | {b"/data/0.jpg": 3})

        def run(number: int) -> Callable[[], int]:
            return partial(night, out, Night(run_id=f"night-{number}", prune=0.5), images)

        with held_back(run(2), errors) as child:
            self.server.arm(self.when, request, child)
        if not _wait_until_stopped(self.server, child):
            self.server.disarm()
            return False
        if self.changing:
            images.change()
        ask(run(3), errors)
        before = self.server.versions(f"{prefix}/predictions/")
        os.kill(child, signal.SIGCONT)
        self.server.woken()
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        what = f"{prefix}, {self.server.disarm()}"
        figures.stopped += 1
        if code != 0 or errors.exists():
            figures.wrong.append(f"{what}: exit code {code}: {errors.read_text()}")
        if self.server.versions(f"{prefix}/predictions/") != before:
            figures.again += self.changing
            figures.changed += not self.changing
        self.server.dump(f"{prefix}/", self.folder / prefix)
        wrong = violations(self.folder / prefix, images)
        figures.wrong += [f"{what}: {text}" for text in wrong]
        return True


class _Images(Mapping[bytes, int]):
    """Images that change once, for processes that were forked before, too."""

    def __init__(self, before: World, after: World) -> None:
        self._worlds = (before, after)
        self._changed = mmap.mmap(-1, 1)

    def change(self) -> None:
        """Be what they are after."""
        self._changed[0] = 1

    def _now(self) -> World:
        return self._worlds[self._changed[0]]

    def __len__(self) -> int:
        return len(self._now())

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._now())

    def __getitem__(self, key: bytes) -> int:
        return self._now()[key]


def _wait_until_stopped(server: BucketServer, child: int) -> bool:
    """Whether a run was stopped before it ended."""
    deadline = time.monotonic() + PATIENCE_S
    while not server.wait_until_stopped(0.05):
        if os.waitpid(child, os.WNOHANG)[0]:
            return False
        assert time.monotonic() < deadline, "the run neither ended nor was stopped"
    return True


if __name__ == "__main__":
    app()
