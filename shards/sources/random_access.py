"""Files that are read at offsets, wherever they lie: archives.

Of an object, as much is read ahead as is cheaper than another request. Where members are small,
that is everything; where they are large, only their headers are fetched.
"""

from __future__ import annotations

import os
import stat
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Protocol

from shards.closing import Closing
from shards.errors import SourceError
from shards.names import shown
from shards.sources.objects import is_object, opened_object, requests

__all__ = ["RandomAccess", "ReadAhead", "opened_at"]

PART_BYTES = 4 << 20
"""What one request reads ahead: at 100 MB/s it takes as long as a request waits for an answer."""

FEW_BYTES = 16 << 10
"""What it reads where the rest would be skipped: a header, and small members after it."""

PARTS = 4
"""Parts that are fetched at once."""

USES = 4
"""Reads that a part must have been good for, if more are to be fetched at once."""


class Versioned(Protocol):
    """One version of a file."""

    @property
    def size(self) -> int:
        """Bytes."""

    @property
    def mtime_ns(self) -> int:
        """When it was written; see shards.object_version for objects."""

    def pread(self, size: int, offset: int, /) -> bytes:
        """Return bytes from an offset, as many as there are; raises OSError."""


class RandomAccess(Versioned, Protocol):
    """A file that is open."""

    def has_changed(self) -> bool:
        """Whether another version has been there since it was opened; raises OSError."""


class _LocalFile:
    def __init__(self, descriptor: int, status: os.stat_result) -> None:
        self.size = status.st_size
        self.mtime_ns = status.st_mtime_ns
        self._descriptor = descriptor

    def pread(self, size: int, offset: int) -> bytes:
        """Network file systems return less at once than there is."""
        content = os.pread(self._descriptor, size, offset)
        while 0 < len(content) < size:
            more = os.pread(self._descriptor, size - len(content), offset + len(content))
            if not more:
                break
            content += more
        return content

    def has_changed(self) -> bool:
        status = os.fstat(self._descriptor)
        return (self.size, self.mtime_ns) != (status.st_size, status.st_mtime_ns)


class ReadAhead(Closing):
    """An object whose reads come in ascending order, mostly; in few requests.

    Where what was read ahead is of use, further parts are fetched at the same time: one connection
    to S3 brings some 80 MB/s.
    """

    def __init__(self, reader: Versioned) -> None:
        self.size = reader.size
        self.mtime_ns = reader.mtime_ns
        self._reader = reader
        self._part = b""
        self._begins = 0
        self._reads = 1  # of this part
        self._coming: deque[Future[bytes]] = deque()
        """What follows the part, without a gap."""

    def pread(self, size: int, offset: int) -> bytes:
        """Return bytes from an offset, as many as there are; most reads make no request.

        Raises:
            BlockingIOError: Another version is there by now.
            OSError: It cannot be read.
        """
        wanted = min(size, max(0, self.size - offset))
        if not self._begins <= offset <= offset + wanted <= self._ends:
            self._move(wanted, offset)
        self._reads += 1
        start = offset - self._begins
        return self._part[start : start + wanted]

    def has_changed(self) -> bool:
        """No: of another version, nothing would have been read."""
        return False

    def close(self) -> None:
        """Forget what is still to come."""
        while self._coming:
            self._coming.pop().cancel()

    @property
    def _ends(self) -> int:
        return self._begins + len(self._part)

    def _move(self, size: int, offset: int) -> None:
        """Bring in what a read wants, and perhaps what follows it."""
        is_dense = abs(offset - self._begins) // self._reads < PART_BYTES // 4
        was_of_use = self._reads >= USES
        if not is_dense or offset < self._begins:
            self.close()
        while self._coming and offset + size > self._ends:
            begins, rest = min(offset, self._ends), self._part[offset - self._begins :]
            self._part, self._begins = rest + self._coming.popleft().result(), begins
        if not self._begins <= offset <= offset + size <= self._ends:
            ahead = PART_BYTES if is_dense else FEW_BYTES
            self._part = self._reader.pread(max(ahead, size), offset)
            self._begins = offset
        self._reads = 0
        while is_dense and was_of_use and len(self._coming) < PARTS:
            at = self._ends + len(self._coming) * PART_BYTES
            if at >= self.size:
                break
            self._coming.append(requests().submit(self._reader.pread, PART_BYTES, at))


@contextmanager
def opened_at(key: bytes) -> Iterator[RandomAccess]:
    """Open a file or an object for the length of a block.

    Raises:
        SourceError: It cannot be opened, or is no regular file.
    """
    if is_object(key):
        try:
            reader = opened_object(key)
        except OSError as error:
            raise _unreadable(key, error) from error
        with ReadAhead(reader) as file:
            yield file
        return
    try:
        # A pipe of that name must not block us before it is seen to be one.
        descriptor = os.open(key, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise _unreadable(key, error) from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise SourceError(f"{shown(key)} is no regular file: archives are read by offset.")
        yield _LocalFile(descriptor, status)
    finally:
        os.close(descriptor)


def _unreadable(key: bytes, error: OSError) -> SourceError:
    return SourceError(
        f"cannot read the archive {shown(key)}: {error.strerror}. Its images would be missing "
        "from the table: restore it or make it readable, or leave it out."
    )
