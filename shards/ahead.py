"""Reading ahead: many small requests at once, in the order in which they were asked for."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from itertools import islice
from queue import SimpleQueue
from typing import TypeVar

__all__ = ["read_ahead"]

Item = TypeVar("Item")
Found = TypeVar("Found")

Jobs = SimpleQueue[tuple[Item, Future[Found]] | None]

AHEAD = 2
"""Items for each thread: one that is asked for, and one that waits."""


def read_ahead(
    read: Callable[[Item], Found], items: Iterable[Item], *, threads: int
) -> Iterator[Found]:
    """Call a function for each item in threads, and yield what it returns, in their order.

    At most `AHEAD * threads` results wait. Nobody waits for the threads at the end, as the
    interpreter does for those of a ThreadPoolExecutor: a request may hang for minutes.

    Args:
        read: Called in several threads at once; what it raises is raised at its turn.
        items: Taken in this thread, as far as is needed.
        threads: How many.
    """
    source = iter(items)
    first = list(islice(source, AHEAD * threads))
    if len(first) < 2:
        yield from map(read, first)
        return
    jobs: Jobs[Item, Found] = SimpleQueue()
    waiting: deque[Future[Found]] = deque()

    def ask(item: Item) -> None:
        waiting.append(Future())
        jobs.put((item, waiting[-1]))

    for item in first:
        ask(item)
    count = min(threads, len(first))
    for _ in range(count):
        threading.Thread(target=_work, args=(read, jobs), daemon=True).start()
    try:
        while waiting:
            found = waiting.popleft().result()
            for item in islice(source, 1):
                ask(item)
            yield found
    finally:
        for left in waiting:
            left.cancel()
        for _ in range(count):
            jobs.put(None)


def _work(read: Callable[[Item], Found], jobs: Jobs[Item, Found]) -> None:
    while (job := jobs.get()) is not None:
        item, future = job
        if future.set_running_or_notify_cancel():
            try:
                future.set_result(read(item))
            except BaseException as error:
                future.set_exception(error)
