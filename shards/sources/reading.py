"""From the rows of a shard to the bytes of its images, whatever they lie in."""
# ruff: noqa: PTH116, PTH118 - pathlib refuses bytes

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from itertools import groupby

from shards.errors import ErrorKind, ImageError
from shards.inputs import ShardInputs
from shards.names import SEPARATOR
from shards.sources.fetching import Wanted, fetches
from shards.sources.manifest import MISSING
from shards.sources.objects import is_object
from shards.sources.parquet import contents
from shards.stored import MAX_FILE_BYTES, Item, Stored, check_size

__all__ = ["stored_items"]

_ROW = re.compile(rb"[0-9]{12}")


def stored_items(
    inputs: ShardInputs,
    rows: Sequence[int] | None = None,
    *,
    image_column: str | None = None,
    max_bytes: int = MAX_FILE_BYTES,
) -> Iterator[Item]:
    """Yield where the bytes of each image lie, in the order of the rows.

    Files and members of tar archives are read where they are decoded. What lies in tables is read
    here, a few images ahead; what lies in buckets is on its way from here on. An archive or table
    that is not what it was when it was planned is not read: its members lie elsewhere now.

    Args:
        inputs: The shard.
        rows: Ascending numbers of those that are wanted; None for all.
        image_column: Of tables with images; None finds it.
        max_bytes: Objects that are larger are not fetched.
    """
    chosen = range(len(inputs)) if rows is None else rows
    for (kind, place), group in groupby(chosen, key=lambda row: _place(inputs.keys[row])):
        members = list(group)
        keys = [inputs.keys[row] for row in members]
        if kind == "file":
            below = os.path.join(inputs.root, b"")
            for key in keys:
                yield Stored(key, root=inputs.root if key.startswith(below) else None)
        elif kind == "object":
            yield from (_fetched(inputs, row, None, max_bytes) for row in members)
        elif kind == "tar":
            yield from _tar_items(inputs, place, members, max_bytes)
        else:
            numbers = [int(key[-12:]) for key in keys]
            mtime_ns = int(inputs.mtimes_ns[members[0]])
            found = contents(place, numbers, image_column, mtime_ns)
            for key, content in zip(keys, found, strict=True):
                yield content if isinstance(content, ImageError) else Stored(key, content=content)


def _place(key: bytes) -> tuple[str, bytes]:
    """Return what holds an image, and its name."""
    container, separator, member = key.partition(SEPARATOR)
    if not separator:
        return ("object" if is_object(key) else "file"), b""
    return ("parquet" if _ROW.fullmatch(member) else "tar"), container


def _fetched(inputs: ShardInputs, row: int, offset: int | None, max_bytes: int) -> Item:
    """Have an image fetched; one that was not there when it was planned may be there by now."""
    size, mtime_ns = int(inputs.sizes[row]), int(inputs.mtimes_ns[row])
    try:
        if mtime_ns:
            check_size(size, max_bytes)
    except ImageError as error:
        return error
    return fetches().add(Wanted(inputs.keys[row], size, mtime_ns, offset))


def _tar_items(
    inputs: ShardInputs, archive: bytes, rows: Sequence[int], max_bytes: int
) -> Iterator[Item]:
    mtime_ns: int | None = None
    if not is_object(archive):
        try:
            mtime_ns = os.stat(archive).st_mtime_ns
        except OSError:  # the decoder will say why
            mtime_ns = None
    for row in rows:
        offset, size = int(inputs.offsets[row]), int(inputs.sizes[row])
        if offset == MISSING:
            yield ImageError(ErrorKind.NOT_FOUND, "the archive has no such member")
        elif is_object(archive):
            yield _fetched(inputs, row, offset, max_bytes)
        elif mtime_ns is not None and mtime_ns != inputs.mtimes_ns[row]:
            yield ImageError(
                ErrorKind.READ_ERROR, "the archive has changed since it was listed: run again"
            )
        else:
            yield Stored(archive, offset, size)
