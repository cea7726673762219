"""Second nights that are killed or stopped at every step, as real processes.

    night_worker.py kill OUT     one output per step in OUT/<step>; its second night is killed there
    night_worker.py stop OUT     the same, stopped there, overtaken by a third night, and woken

The second night finds images that changed, are gone and are new; the third finds one of them
changed again. test_night_crashes.py starts this.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from shards import locks
from shards.errors import LockedError
from shards.local_tree import LocalTree
from tests.shards import crash_worker, nights
from tests.shards.crash_worker import finish, published_files, signal_at, start
from tests.shards.nights import Night, World

LOCKED = 9
"""Exit code of a run that found a lock held by one that is stopped."""


def world(**changes: int | None) -> World:
    numbers = dict.fromkeys(range(6), 1) | {int(name[1:]): state for name, state in changes.items()}
    return {b"/data/%d.jpg" % number: state for number, state in numbers.items() if state}


FIRST = world()
SECOND = world(n0=2, n4=None, n7=1)
THIRD = world(n0=3, n4=None, n7=1)


def night(out: Path, number: int) -> None:
    """Do one night; it prunes. What it lists depends on when: a third night finds a third world."""
    locks.PATIENCE_S = 0.2
    tree = LocalTree.create(out)
    changed = out / "changed-again"
    if number == 3:
        changed.touch()
    files = FIRST if number == 1 else THIRD if changed.exists() else SECOND
    try:
        nights.run(tree, Night(run_id=f"night-{number}", prune=0.5), files)
    except LockedError:
        os._exit(LOCKED)


def second_night(out: Path, step: int, number: signal.Signals) -> None:
    signal_at(step, number)
    night(out, 2)


def each_step(parent: Path, number: signal.Signals) -> None:
    crash_worker.STEPS = ("open", "fsync", "link", "unlink", "replace", "mkdir")
    held = 0
    for step in range(1, 10_000):
        out = parent / f"{step:04d}"
        assert finish(start(lambda out=out: night(out, 1))) == 0
        child = start(lambda out=out, step=step: second_night(out, step, number))
        if number is signal.SIGKILL:
            if finish(child) == 0:
                break
            continue
        _, status = os.waitpid(child, os.WUNTRACED)
        if not os.WIFSTOPPED(status):
            break
        overtaking = finish(start(lambda out=out: night(out, 3)))
        before = published_files(out)
        os.kill(child, signal.SIGCONT)
        assert finish(child) == 0
        if overtaking == LOCKED:
            held += 1
        else:
            assert overtaking == 0
            assert published_files(out) == before, f"woken at step {step}, it changed something"
    if number is signal.SIGSTOP:
        assert 0 < held < step / 2, f"a lock was held at {held} of {step} steps"


if __name__ == "__main__":
    command, target = sys.argv[1:]
    each_step(Path(target), signal.SIGKILL if command == "kill" else signal.SIGSTOP)
