"""Images of a listing, held against the places where they may lie.

A table or a list names whatever it likes, and a pattern may match a link. So where places are
limited, every image is looked at; its directory's links are followed once for all in it.
"""
# ruff: noqa: PTH114, PTH118 - pathlib refuses bytes

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

from shards.errors import SourceError
from shards.inputs import InputBatch
from shards.names import SEPARATOR, shown

__all__ = ["within"]


def within(batches: Iterator[InputBatch], roots: Sequence[str] | None) -> Iterator[InputBatch]:
    """Pass batches on, as long as every image lies in one of the roots.

    Args:
        batches: Of a source.
        roots: Absolute directories with all links followed, or `s3://bucket/prefix`; None for
            anywhere.

    Raises:
        SourceError: An image lies elsewhere.
    """
    if roots is None:
        yield from batches
        return
    # With what follows it, `/data` is no prefix of `/database`.
    prefixes = tuple(os.fsencode(root).rstrip(b"/") + b"/" for root in roots)
    place = _Places()
    for batch in batches:
        for key in batch.keys:
            if not place.of(key).startswith(prefixes):
                raise SourceError(
                    f"{shown(key)} does not lie in an allowed root once links are followed. "
                    f"Allowed here: {', '.join(roots)} (NIGHTSHIFT_ALLOWED_ROOTS)."
                )
        yield batch


class _Places:
    """Follows links, and remembers the last directory and the last container."""

    def __init__(self) -> None:
        self._file = self._folder = self._real_file = self._real_folder = b""

    def of(self, key: bytes) -> bytes:
        """Return where the file that holds an image lies; an object's key as it is."""
        file = key.partition(SEPARATOR)[0]
        if not file.startswith(b"/"):
            return b"" if b"/../" in file + b"/" else file
        if file == self._file:
            return self._real_file
        folder, name = os.path.split(file)
        if folder != self._folder:
            self._folder, self._real_folder = folder, os.path.realpath(folder)
        self._file, self._real_file = file, os.path.join(self._real_folder, name)
        if os.path.islink(self._real_file):
            self._real_file = os.path.realpath(self._real_file)
        return self._real_file
