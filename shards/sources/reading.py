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
from shards.sources.manifest import MISSING
from shards.sources.parquet import contents
from shards.sources.schemes import scheme_of, store_of
from shards.stored import Stored

__all__ = ["stored_items"]

_ROW = re.compile(rb"[0-9]{12}")


def stored_items(
    inputs: ShardInputs, rows: Sequence[int] | None = None, *, image_column: str | None = None
) -> Iterator[Stored | ImageError]:
    """Yield where the bytes of each image lie, in the order of the rows.

    Files and members of tar archives are read where they are decoded. What lies in tables and in
    buckets is read here, a few images ahead. An archive that is not what it was when it was planned
    is not read: its members lie elsewhere now.

    Args:
        inputs: The shard.
        rows: Ascending numbers of those that are wanted; None for all.
        image_column: Of tables with images; None finds it.
    """
    chosen = range(len(inputs)) if rows is None else rows
    for (kind, place), group in groupby(chosen, key=lambda row: _place(inputs.keys[row])):
        members = list(group)
        keys = [inputs.keys[row] for row in members]
        if kind == "file":
            below = os.path.join(inputs.root, b"")
            for key in keys:
                yield Stored(key, root=inputs.root if key.startswith(below) else None)
        elif kind == "tar":
            yield from _tar_items(inputs, place, members)
        else:
            if kind == "parquet":
                found = contents(place, [int(key[-12:]) for key in keys], image_column)
            else:
                found = store_of(place + b"://").contents(keys)
            for key, content in zip(keys, found, strict=True):
                yield content if isinstance(content, ImageError) else Stored(key, content=content)


def _place(key: bytes) -> tuple[str, bytes]:
    """Return what holds an image, and its name."""
    container, separator, member = key.partition(SEPARATOR)
    if key[:1] != b"/":
        return "object", (scheme_of(key) or "").encode()
    if not separator:
        return "file", b""
    return ("parquet" if _ROW.fullmatch(member) else "tar"), container


def _tar_items(
    inputs: ShardInputs, archive: bytes, rows: Sequence[int]
) -> Iterator[Stored | ImageError]:
    try:
        mtime_ns: int | None = os.stat(archive).st_mtime_ns
    except OSError:  # the decoder will say why
        mtime_ns = None
    for row in rows:
        offset, size = int(inputs.offsets[row]), int(inputs.sizes[row])
        if offset == MISSING:
            yield ImageError(ErrorKind.NOT_FOUND, "the archive has no such member")
        elif mtime_ns is not None and mtime_ns != inputs.mtimes_ns[row]:
            yield ImageError(
                ErrorKind.READ_ERROR, "the archive has changed since it was listed: run again"
            )
        else:
            yield Stored(archive, offset, size)
