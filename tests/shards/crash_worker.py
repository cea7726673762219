"""Runs that are killed, stopped or raced, as real processes; test_crashes.py starts this.

    crash_worker.py kill OUT     one run per step into OUT/<step>, killed at that step
    crash_worker.py stop OUT     the same, stopped at that step, overtaken by another run, woken
    crash_worker.py race OUT N   N rounds of two overlapping runs, each killed at a random moment

A run plans and publishes like a real one; only its rows are made up. A step is a call that changes
the file system. Children are forked from a process that has done nothing but import, which makes
hundreds of them cheap.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from shards.commit import Outcome, is_done, publish, write_run_record
from shards.local_tree import LocalTree
from shards.plan import PlanLog, work_key
from tests.shards.factories import MODEL_ID, batches, footer, table

SHARD_SIZE = 6
STEPS = ("open", "fsync", "link", "unlink", "rename", "mkdir")


def images(count: int) -> list[bytes]:
    return [b"/data/%04d.jpg" % number for number in range(count)]


def run(out: Path, listed: list[bytes]) -> int:
    """Do one run; return how many shards it published."""
    tree = LocalTree.create(out)
    log = PlanLog(tree, tool_version="0.1.0")
    update = log.extend(batches(listed), root=b"/data", shard_size=SHARD_SIZE, run_id="run-1")
    published = 0
    for shard in update.shards:
        key = work_key(shard, model_id=MODEL_ID, schema_version="1.0")
        if is_done(tree, model_id=MODEL_ID, shard_id=shard.id, work_key=key):
            continue
        rows = table(log.read(shard))
        outcome = publish(rows, footer(rows, key), tree=tree, model_id=MODEL_ID, shard_id=shard.id)
        published += outcome is Outcome.PUBLISHED
    write_run_record(tree, f"run-{os.getpid()}", {"published": published})
    return published


def signal_at(step: int, number: signal.Signals) -> None:
    """Send this process a signal before its step-th change of the file system."""
    left = step

    def counted(function: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object, **options: object) -> object:
            nonlocal left
            left -= 1
            if left == 0:
                os.kill(os.getpid(), number)
            return function(*arguments, **options)

        return call

    for name in STEPS:
        setattr(os, name, counted(getattr(os, name)))


def start(work: Callable[[], object]) -> int:
    if child := os.fork():
        return child
    try:
        work()
    except BaseException as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        os._exit(1)
    os._exit(0)


def finish(child: int) -> int:
    """Wait for a child and return its exit code; a signal's number is negative."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def each_step(out: Path, number: signal.Signals) -> None:
    for step in range(1, 10_000):
        base = out / f"{step:04d}"

        def work(step: int = step, base: Path = base) -> None:
            signal_at(step, number)
            run(base, images(2 * SHARD_SIZE))

        child = start(work)
        if number is signal.SIGSTOP:
            _, status = os.waitpid(child, os.WUNTRACED)
            if not os.WIFSTOPPED(status):
                break
            assert finish(start(lambda base=base: run(base, images(2 * SHARD_SIZE)))) == 0
            before = published_files(base)
            os.kill(child, signal.SIGCONT)
            assert finish(child) == 0
            assert published_files(base) == before, f"woken at step {step}, it changed something"
        elif finish(child) == 0:
            break


def published_files(out: Path) -> list[tuple[str, int, int]]:
    files = sorted((out / "predictions").rglob("*"))
    return [(str(path), path.stat().st_ino, path.stat().st_mtime_ns) for path in files]


def race(out: Path, rounds: int) -> None:
    choose = random.Random(0)
    started = time.monotonic()
    assert finish(start(lambda: run(out.with_name("alone"), images(6)))) == 0
    alone_s = min(0.1, time.monotonic() - started)  # a busy machine need not make this longer
    exits = Counter[int]()
    for number in range(rounds):
        known = images(3 * (number + 1))  # new ones each round, so that there is always work
        listed = choose.sample(known, choose.randint(1, len(known)))
        children = [start(lambda listed=listed: run(out, listed)) for _ in range(2)]
        for child in children:
            time.sleep(choose.uniform(0, 0.7 * alone_s))
            os.kill(child, signal.SIGKILL)
        exits.update(finish(child) for child in children)
    assert exits[-signal.SIGKILL] > 0, exits
    assert exits.keys() <= {0, -signal.SIGKILL}, exits


if __name__ == "__main__":
    command, target, *rest = sys.argv[1:]
    if command == "race":
        race(Path(target), int(rest[0]))
    else:
        each_step(Path(target), signal.SIGKILL if command == "kill" else signal.SIGSTOP)
