"""Reading ahead: many small requests at once, in the order in which they were asked for."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import TypeVar

from shards.request_threads import RequestThreads

__all__ = ["read_ahead"]

Item = TypeVar("Item")
Found = TypeVar("Found")

AHEAD = 2
"""Items for each thread: one that is asked for, and one that waits."""


def read_ahead(
    read: Callable[[Item], Found], items: Iterable[Item], *, threads: int
) -> Iterator[Found]:
    """Call a function for each item in threads, and yield what it returns, in their order.

    At most `AHEAD * threads` results wait.

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
    pool = RequestThreads(threads)
    waiting = deque(pool.submit(read, item) for item in first)
    try:
        while waiting:
            found = waiting.popleft().result()
            waiting.extend(pool.submit(read, item) for item in islice(source, 1))
            yield found
    finally:
        for left in waiting:
            left.cancel()
        pool.end()
