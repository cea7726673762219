"""What is known of images before they are read: where each lies, its size, its time.

An input is a key of bytes, and keys are compared in byte order:

    /photos/a.jpg                      a local file: its absolute path
    s3://bucket/a.jpg                  an object
    /photos/a.tar NUL dir/b.jpg        a member of an archive; NUL is in no path
    /photos/a.tar NUL dir/b.jpg NUL 2  the second of that name in it
    /photos/a.parquet NUL 000000000041 row 41 of a table

`shards.names` writes keys as text.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from shards.shard_ref import ShardRef

__all__ = [
    "GONE",
    "INPUT_ENCODINGS",
    "INPUT_SCHEMA",
    "InputBatch",
    "ShardInputs",
    "keys_of",
    "text_and_offsets",
]

GONE = -1
"""The size, in plans, of an image that was pruned: its key keeps its place in its shard."""

INPUT_SCHEMA = pa.schema(
    [
        pa.field("key", pa.binary(), nullable=False),
        pa.field("size", pa.int64(), nullable=False),
        pa.field("mtime_ns", pa.int64(), nullable=False),
        pa.field("offset", pa.int64(), nullable=False),
        pa.field("extra", pa.string()),
    ]
)
"""A batch as an Arrow table."""

INPUT_ENCODINGS = {
    "key": "DELTA_BYTE_ARRAY",
    "size": "DELTA_BINARY_PACKED",
    "mtime_ns": "DELTA_BINARY_PACKED",
    "offset": "DELTA_BINARY_PACKED",
    "extra": "PLAIN",
}
"""How its columns are stored in plans: keys share beginnings, and numbers lie close together."""


@dataclass(frozen=True, slots=True)
class InputBatch:
    """Some images, in byte order of their keys.

    Attributes:
        keys: What they are called.
        sizes: int64 [rows], bytes.
        mtimes_ns: int64 [rows], nanoseconds since the epoch, of the file that holds the image; 0
            where that is not known.
        offsets: int64 [rows], where a tar member's bytes begin in its archive; 0 otherwise.
        extras: string [rows], what came with each image and goes into the table: a JSON object, or
            null; None where there is nothing for any.
    """

    keys: list[bytes]
    sizes: NDArray[np.int64]
    mtimes_ns: NDArray[np.int64]
    offsets: NDArray[np.int64]
    extras: pa.Array | None = None

    def __len__(self) -> int:
        return len(self.keys)

    def slice(self, start: int, stop: int) -> InputBatch:
        """Some consecutive rows; shares their arrays."""
        rows = slice(start, stop)
        return InputBatch(
            self.keys[rows],
            self.sizes[rows],
            self.mtimes_ns[rows],
            self.offsets[rows],
            None if self.extras is None else self.extras[rows],
        )

    def to_table(self) -> pa.Table:
        """The rows in INPUT_SCHEMA, one chunk a column."""
        columns = [
            pa.array(self.keys, pa.binary()),
            pa.array(self.sizes),
            pa.array(self.mtimes_ns),
            pa.array(self.offsets),
            pa.nulls(len(self), pa.string()) if self.extras is None else self.extras,
        ]
        return pa.Table.from_arrays(columns, schema=INPUT_SCHEMA)

    @classmethod
    def from_table(cls, rows: pa.Table) -> InputBatch:
        """Read what has the columns of INPUT_SCHEMA; copies the keys alone."""
        key, size, mtime_ns, offset, extra = (
            rows.column(name).combine_chunks() for name in INPUT_SCHEMA.names
        )
        return cls(
            keys_of(key),
            size.to_numpy(),
            mtime_ns.to_numpy(),
            offset.to_numpy(),
            None if extra.null_count == len(extra) else extra,
        )


@dataclass(frozen=True, slots=True)
class ShardInputs:
    """The images of one shard.

    Attributes:
        ref: Which shard.
        root: Key of the directory that file names are relative to.
        keys: Sorted.
        sizes: int64 [rows], bytes when planned.
        mtimes_ns: int64 [rows], nanoseconds since the epoch when planned.
        offsets: int64 [rows], as in `InputBatch`.
        extras: As in `InputBatch`.
    """

    ref: ShardRef
    root: bytes
    keys: list[bytes]
    sizes: NDArray[np.int64]
    mtimes_ns: NDArray[np.int64]
    offsets: NDArray[np.int64]
    extras: pa.Array | None = None

    def __len__(self) -> int:
        return len(self.keys)


def text_and_offsets(keys: pa.Array) -> tuple[memoryview, NDArray[np.int32]]:
    """Return a binary array's bytes, and where each value begins and ends in them."""
    _, offsets, data = keys.buffers()
    begins = np.frombuffer(offsets, np.int32)[keys.offset : keys.offset + len(keys) + 1]
    return memoryview(data)[begins[0] : begins[-1]], begins - begins[0]


def keys_of(keys: pa.Array) -> list[bytes]:
    """Return a binary array's values; a third of the time of `to_pylist`, with its scalars."""
    if len(keys) == 0:
        return []
    data, offsets = text_and_offsets(keys)
    text, ends = bytes(data), offsets.tolist()
    return [text[start:stop] for start, stop in pairwise(ends)]
