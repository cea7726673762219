"""Runs without a device, forked from a process that has imported everything: some 30 ms each.

They list, plan, compute, publish, replace and record like real ones; only images and rows are made
up (tests/shards/nights.py). A row holds the state in which its image was seen, so a table can be
held against the images as they are.
"""

from __future__ import annotations

import json
import mmap
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

import numpy as np

from shards.commit import write_run_record
from shards.errors import OutputError, StoreError
from shards.trees import create_tree, open_tree
from shards.verify_table import check_table
from tests.shards import nights
from tests.shards.nights import Night

__all__ = ["CLEAN_FAILURE", "SharedWorld", "ask", "fork", "night", "violations"]

Answer = TypeVar("Answer")

CLEAN_FAILURE = 1
"""Exit code of a run that ended with an error that says what to do."""

_UNFORESEEN = 2


class SharedWorld(Mapping[bytes, int]):
    """Images that change while processes that were forked earlier look at them.

    Numbers from 0 up; each has a state, the time of its last change.
    """

    def __init__(self, capacity: int) -> None:
        """Make room for so many images; there are none yet."""
        self._cells = np.frombuffer(mmap.mmap(-1, 8 * (capacity + 1)), np.int64)
        self._time = 0

    def add(self, count: int) -> None:
        """Add images."""
        first = len(self)
        self._time += 1
        self._cells[1 + first : 1 + first + count] = self._time
        self._cells[0] = first + count

    def change(self, number: int) -> None:
        """Change one image."""
        self._time += 1
        self._cells[1 + number] = self._time

    def __len__(self) -> int:
        return int(self._cells[0])

    def __iter__(self) -> Iterator[bytes]:
        return (nights.ROOT + b"/%06d.jpg" % number for number in range(len(self)))

    def __getitem__(self, key: bytes) -> int:
        number = int(key.rpartition(b"/")[2].removesuffix(b".jpg"))
        if number >= len(self):
            raise KeyError(key)
        return int(self._cells[1 + number])


def night(out: Path | str, request: Night, world: Mapping[bytes, int]) -> int:
    """Do one whole run; returns how many images it inferred.

    Args:
        out: The output; where it lies in a bucket, of a process that has not forked since.
        request: What is asked for.
        world: The images.
    """
    tree = create_tree(str(out))
    inferred = nights.run(tree, request, world)
    write_run_record(tree, request.run_id, {"inferred": inferred})
    return inferred


def fork(work: Callable[[], object], errors: Path) -> int:
    """Start a process; its exit code tells how the work ended.

    Args:
        work: What it does.
        errors: File that what it raises is appended to.
    """
    if child := os.fork():
        return child
    code = 0
    try:
        work()
    except BaseException as error:
        code = CLEAN_FAILURE if isinstance(error, OutputError | StoreError) else _UNFORESEEN
        with open(errors, "a", encoding="utf-8") as file:
            file.write(f"{type(error).__name__}: {error}\n")
    sys.stdout.flush()
    os._exit(code)


def ask(work: Callable[[], Answer], errors: Path) -> Answer | None:
    """Let a process of its own find something out; None where it failed.

    A process that has used a bucket cannot fork and use it in the child. So who starts processes
    that do, never does so itself.

    Args:
        work: Returns what goes through JSON.
        errors: File that what it raises is appended to.
    """
    here, there = os.pipe()

    def answer() -> None:
        os.close(here)
        with open(there, "w", encoding="utf-8") as pipe:
            json.dump(work(), pipe)

    child = fork(answer, errors)
    os.close(there)
    with open(here, encoding="utf-8") as pipe:
        text = pipe.read()
    os.waitpid(child, 0)
    answer: Answer | None = json.loads(text) if text else None
    return answer


def violations(out: Path | str, world: Mapping[bytes, int] | None = None) -> list[str]:
    """Say what is wrong with a table: rows twice, partial files, seals, plans that disagree.

    Args:
        out: The output.
        world: Images that must have their rows, each of its latest state; None asks for no rows.
    """
    try:
        tree = open_tree(str(out))
        if not tree.is_there():
            return [] if world is None else [f"{out} holds no output"]
        findings = check_table(tree, quick=False, workers=1).findings
        states = nights.states(tree)
    except Exception as error:  # whatever cannot be read is what is looked for
        return [f"{type(error).__name__}: {error}"]
    return [
        *map(str, findings),
        *(
            f"{key!r}: {states.get(key)} in the table, {state} in the file"
            for key, state in (world or {}).items()
            if states.get(key) != state
        ),
    ]
