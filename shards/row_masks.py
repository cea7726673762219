"""Masks over the rows of a shard as plans list it: which of its images a question is about."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from shards.inputs import GONE

__all__ = ["RowMask", "equal_to", "places_of", "there_in", "unchanged", "unpacked"]

RowMask = NDArray[np.bool_]
"""bool [rows of the plan], those of images that are gone included."""


def there_in(rows: pa.Table) -> RowMask:
    """Return which rows of a plan are of images that are there."""
    return np.asarray(rows.column("size").to_numpy() != GONE)


def unchanged(one: pa.Table, other: pa.Table) -> RowMask:
    """Return which images are there in both of two revisions of a shard, and have not changed."""
    same = there_in(one)
    for name in ("size", "mtime_ns"):
        same &= one.column(name).to_numpy() == other.column(name).to_numpy()
    return same


def equal_to(rows: pa.Table, column: str, value: str) -> NDArray[np.bool_]:
    """Return which rows of a file have a value: bool [rows of the file]."""
    import pyarrow.compute as pc  # takes 50 ms, and only a file that is written anew needs it

    return pc.equal(rows.column(column), value).to_numpy(zero_copy_only=False)  # type: ignore[no-any-return]


def places_of(mask: RowMask) -> NDArray[np.int64]:
    """Return for each row of the plan its number among those that are set: int64 [rows]."""
    return np.cumsum(mask, dtype=np.int64) - 1


def unpacked(bits: bytes, like: RowMask) -> RowMask:
    """Return the mask of a shard that `numpy.packbits` made bytes of, as long as another."""
    return np.unpackbits(np.frombuffer(bits, np.uint8), count=len(like)).astype(np.bool_)
