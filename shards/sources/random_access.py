"""Files that are read at offsets, wherever they lie: archives.

Of an object, as much is read ahead as is cheaper than another request. Where members are small,
that is everything; where they are large, only their headers are fetched.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from shards.errors import SourceError
from shards.names import shown
from shards.object_reader import ObjectReader
from shards.sources.objects import is_object, opened_object

__all__ = ["RandomAccess", "ReadAhead", "opened_at"]

PART_BYTES = 4 << 20
"""What one request reads ahead: at 100 MB/s it takes as long as a request waits for an answer."""

FEW_BYTES = 16 << 10
"""What it reads where the rest would be skipped: a header, and small members after it."""


class RandomAccess(Protocol):
    """A file that is open."""

    @property
    def size(self) -> int:
        """Bytes."""

    @property
    def mtime_ns(self) -> int:
        """When it was written; see shards.object_version for objects."""

    def pread(self, size: int, offset: int, /) -> bytes:
        """Return bytes from an offset, as many as there are; raises OSError."""

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


class ReadAhead:
    """An object whose reads come in ascending order, mostly; in few requests."""

    def __init__(self, reader: ObjectReader) -> None:
        self.size = reader.size
        self.mtime_ns = reader.mtime_ns
        self._reader = reader
        self._part = b""
        self._begins = 0
        self._reads = 1  # of this part

    def pread(self, size: int, offset: int) -> bytes:
        """Return bytes from an offset, as many as there are; most reads make no request.

        Raises:
            BlockingIOError: Another version is there by now.
            OSError: It cannot be read.
        """
        start = offset - self._begins
        if not 0 <= start <= start + size <= len(self._part) and offset < self.size:
            step = abs(start) // self._reads
            ahead = PART_BYTES if step < PART_BYTES // 4 else FEW_BYTES
            self._part = self._reader.pread(max(ahead, size), offset)
            self._begins, self._reads, start = offset, 0, 0
        self._reads += 1
        return self._part[start : start + size] if start >= 0 else b""

    def has_changed(self) -> bool:
        """No: of another version, nothing would have been read."""
        return False


@contextmanager
def opened_at(key: bytes) -> Iterator[RandomAccess]:
    """Open a file or an object for the length of a block.

    Raises:
        SourceError: It cannot be opened, or is no regular file.
    """
    if is_object(key):
        try:
            yield ReadAhead(opened_object(key))
        except OSError as error:
            raise _unreadable(key, error) from error
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
