"""Sizes and times of many files, asked for by several threads at once.

Arrow asks outside of Python's lock, so that all processors ask, and a network file system has
several questions to answer at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
from pyarrow.fs import LocalFileSystem

from shards.closing import Closing

__all__ = ["FileStatuses"]

THREADS = 4
PART = 256
"""Files that a thread asks for in one call."""

Columns = tuple[list[int], list[int]]
"""Bytes, and nanoseconds since the epoch of the last change."""


class FileStatuses(Closing):
    """Threads that ask; there are none before there is a question that is worth them."""

    def __init__(self) -> None:
        self._files = LocalFileSystem()
        self._pool = ThreadPoolExecutor(THREADS, "stat")

    def of(self, paths: Sequence[bytes]) -> Columns | None:
        """Return sizes and times of files, links followed, in the order of their paths.

        None where they are few, or one of them is no file or cannot be looked at: then ask for each
        by itself, to know which, and why.
        """
        if len(paths) < PART:
            return None
        parts = [paths[start : start + PART] for start in range(0, len(paths), PART)]
        sizes: list[int] = []
        times: list[int] = []
        try:
            for some_sizes, some_times in self._pool.map(self._ask, parts):
                sizes += some_sizes
                times += some_times
        except (OSError, pa.ArrowException):
            return None
        return None if None in sizes or None in times else (sizes, times)

    def close(self) -> None:
        """End the threads. Idempotent."""
        self._pool.shutdown(cancel_futures=True)

    def _ask(self, paths: Sequence[bytes]) -> Columns:
        found = self._files.get_file_info(paths)
        return [file.size for file in found], [file.mtime_ns for file in found]
