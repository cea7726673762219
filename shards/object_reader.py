"""One version of an object, read in parts."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from shards.object_version import version_ns
from shards.store_request import asked

if TYPE_CHECKING:
    from collections.abc import Buffer  # type: ignore[attr-defined]  # of 3.12

    from obstore import GetOptions
    from obstore.store import ObjectStore

__all__ = ["ObjectReader"]


class ObjectReader(io.RawIOBase):
    """An object as a file; every read is a request. Wrap it in io.BufferedReader.

    Attributes:
        size: Bytes of the object.
        mtime_ns: When it was written, and which version (shards.object_version).
    """

    def __init__(self, store: ObjectStore, key: str, uri: str) -> None:
        """Look at the object.

        Args:
            store: The bucket's.
            key: In the bucket.
            uri: For messages.

        Raises:
            OSError: There is none, or it cannot be read.
        """
        import obstore

        super().__init__()
        meta = asked(uri, lambda: obstore.head(store, key))
        self.size = meta["size"]
        self.mtime_ns = version_ns(meta["last_modified"], meta["e_tag"])
        self._e_tag = meta["e_tag"]
        self._store, self._key, self._uri = store, key, uri
        self._at = 0

    def readable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """Yes."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move; no request."""
        begins = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self.size}
        self._at = max(0, begins[whence] + offset)
        return self._at

    def tell(self) -> int:
        """Where the next read begins."""
        return self._at

    def readinto(self, buffer: Buffer) -> int:
        """Read what is there, at most as much as fits.

        Raises:
            BlockingIOError: Another version is there by now.
            OSError: It cannot be read.
        """
        view = memoryview(buffer).cast("B")
        data = self.pread(len(view), self._at)
        view[: len(data)] = data
        self._at += len(data)
        return len(data)

    def pread(self, size: int, offset: int) -> bytes:
        """Return bytes from an offset, fewer at the end; raises as `readinto` does."""
        import obstore

        end = min(offset + size, self.size)
        if end <= offset:
            return b""
        part: GetOptions = {"range": (offset, end), "if_match": self._e_tag}
        return asked(
            self._uri,
            lambda: bytes(obstore.get(self._store, self._key, options=part).bytes()),
        )
