"""One file of the plan log: which images a run found first, and their shards.

Rows are sorted by key, and a shard is `shard_size` consecutive rows, so a shard is found by
arithmetic and read without the rest. Row groups are whole shards. Files are compared with a sorted
listing group by group, in Arrow buffers: no Python object per row that was there before.
"""

from __future__ import annotations

import hashlib
import os
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from shards.inputs import INPUT_SCHEMA, InputBatch, text_and_offsets
from shards.plan_header import HEADER_KEY, PlanHeader, damaged, header_json, parse_header

__all__ = ["Match", "PlanFile", "PlanWriter"]

# Small enough to decode one shard of a plan in a millisecond, large enough that ten million images
# are some hundred groups in the footer.
GROUP_ROWS = 16_384

_SCHEMA = INPUT_SCHEMA.append(pa.field("shard", pa.int32(), nullable=False))
_ENCODINGS = {
    "key": "DELTA_BYTE_ARRAY",
    "size": "DELTA_BINARY_PACKED",
    "mtime_ns": "DELTA_BINARY_PACKED",
    "offset": "DELTA_BINARY_PACKED",
    "extra": "PLAIN",
    "shard": "DELTA_BINARY_PACKED",
}

# What is compared with a listing; the others are read with a shard.
_COMPARED = ["key", "size", "mtime_ns"]


@dataclass(frozen=True, slots=True)
class Match:
    """Rows of a batch that a plan has.

    Attributes:
        rows: int64 [matches], row numbers in the batch, ascending.
        shards: int64 [matches], the shard ordinals they belong to.
        changed: bool [matches], whether size or time differ from the plan's.
    """

    rows: NDArray[np.int64]
    shards: NDArray[np.int64]
    changed: NDArray[np.bool_]


class PlanWriter:
    """Writes a plan file, row group by row group; holds one group of rows.

    Nothing is a plan before `finish` returned and the file was published.
    """

    def __init__(self, file: BinaryIO, *, root: bytes, shard_size: int) -> None:
        self.rows = 0
        self._root = root
        self._shard_size = shard_size
        self._group_rows = max(1, GROUP_ROWS // shard_size) * shard_size
        self._pending: list[pa.Table] = []
        self._pending_rows = 0
        self._digests: list[str] = []
        self._writer = pq.ParquetWriter(
            file,
            _SCHEMA,
            compression="zstd",
            use_dictionary=False,
            column_encoding=_ENCODINGS,
            write_page_checksum=True,
        )

    def append(self, rows: pa.Table) -> None:
        """Add rows, in INPUT_SCHEMA, that sort after all before them."""
        if len(rows) == 0:
            return
        shard = np.arange(self.rows, self.rows + len(rows)) // self._shard_size
        self._pending.append(
            rows.append_column(_SCHEMA.field("shard"), pa.array(shard, pa.int32()))
        )
        self._pending_rows += len(rows)
        self.rows += len(rows)
        if self._pending_rows >= self._group_rows:
            self._flush(self._pending_rows // self._group_rows * self._group_rows)

    def finish(self, *, plan: int, run_id: str, tool_version: str, created_at: str) -> PlanHeader:
        """Write what is pending and the footer."""
        self._flush(self._pending_rows)
        header = PlanHeader(
            plan=plan,
            root=self._root,
            run_id=run_id,
            tool_version=tool_version,
            created_at=created_at,
            shard_size=self._shard_size,
            group_rows=self._group_rows,
            rows=self.rows,
            digests=tuple(self._digests),
        )
        self._writer.add_key_value_metadata({HEADER_KEY: header_json(header)})
        self._writer.close()
        return header

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        # Arrow's writer writes a valid footer when it is closed, also for half of the rows. The
        # file is removed unread; what a full disk says to that has been said.
        with suppress(OSError, pa.ArrowException):
            self._writer.close()

    def _flush(self, rows: int) -> None:
        table = pa.concat_tables(self._pending).combine_chunks() if self._pending else None
        if table is None or rows == 0:
            return
        for start in range(0, rows, self._shard_size):
            stop = min(start + self._shard_size, rows)
            self._digests.append(_digest(self._root, table.slice(start, stop - start)))
        self._writer.write_table(table.slice(0, rows), row_group_size=self._group_rows)
        self._pending = [table.slice(rows)] if rows < table.num_rows else []
        self._pending_rows = table.num_rows - rows


class PlanFile:
    """One finished plan, opened for reading; no file stays open between calls.

    Not thread-safe: it remembers the row group it read last.

    Attributes:
        header: What it says of itself.
    """

    def __init__(self, path: Path) -> None:
        """Read the footer.

        Raises:
            OutputError: It is missing, damaged, or written by a newer Nightshift.
        """
        self._path = path
        with _plan_errors(path), _opened(path) as source:
            self._metadata = pq.read_metadata(source)
        self.header = parse_header(path, self._metadata)
        self._group = 0
        self._loaded: tuple[tuple[int, int], pa.Table] | None = None

    def match(self, batch: InputBatch, keys: pa.Array) -> Iterator[Match]:
        """Find the rows of a batch that this plan has; batches must come in order.

        Args:
            batch: Sorted by key.
            keys: `batch.keys` as Arrow binary.
        """
        while self._group < self._metadata.num_row_groups:
            low, high = self._bounds(self._group)
            if low > batch.keys[-1]:
                return
            if high >= batch.keys[0]:
                match = self._match_group(batch, keys)
                if len(match.rows):
                    yield match
            if high > batch.keys[-1]:
                return
            self._group += 1
            self._loaded = None

    def forget(self) -> None:
        """Free the row group that was read last."""
        self._loaded = None

    def read(self, rows: range) -> InputBatch:
        """Return some consecutive rows."""
        group_rows = self.header.group_rows
        parts = []
        for group in range(rows.start // group_rows, (rows.stop - 1) // group_rows + 1):
            first = group * group_rows
            table = self._read_group(group, INPUT_SCHEMA.names)
            parts.append(
                table.slice(max(0, rows.start - first), rows.stop - max(first, rows.start))
            )
        return InputBatch.from_table(pa.concat_tables(parts))

    def batches(self) -> Iterator[InputBatch]:
        """Yield all rows, a row group at a time."""
        step = self.header.group_rows
        for start in range(0, self.header.rows, step):
            yield self.read(range(start, min(start + step, self.header.rows)))

    def _match_group(self, batch: InputBatch, keys: pa.Array) -> Match:
        table = self._read_group(self._group, _COMPARED)
        planned = _column(table, "key")
        # Both sides cut to their common range: what was listed before and has not changed since
        # is equal as a whole, and the comparison is one memcmp.
        start = bisect_left(batch.keys, planned[0].as_py())
        stop = bisect_right(batch.keys, planned[-1].as_py())
        first = bisect_left(planned, batch.keys[0], key=_to_bytes)
        last = bisect_right(planned, batch.keys[-1], key=_to_bytes)
        listed, planned = keys[start:stop], planned[first:last]
        if listed.equals(planned):
            rows = np.arange(start, stop)
            found = np.arange(first, last)
        else:
            # Takes 50 ms to import, and only a folder that has changed needs it.
            import pyarrow.compute as pc

            positions = pc.index_in(listed, value_set=planned).fill_null(-1).to_numpy()
            rows = np.flatnonzero(positions >= 0)
            found = positions[rows] + first
            rows += start
        same_size = batch.sizes[rows] == _column(table, "size").to_numpy()[found]
        same_time = batch.mtimes_ns[rows] == _column(table, "mtime_ns").to_numpy()[found]
        shards = (found + self._group * self.header.group_rows) // self.header.shard_size
        return Match(rows, shards, ~(same_size & same_time))

    def _bounds(self, group: int) -> tuple[bytes, bytes]:
        """Return a row group's first and last key."""
        statistics = self._metadata.row_group(group).column(0).statistics
        if statistics is not None and statistics.has_min_max:
            return statistics.min, statistics.max
        keys = _column(self._read_group(group, _COMPARED), "key")  # very long bounds are left out
        return keys[0].as_py(), keys[-1].as_py()

    def _read_group(self, group: int, columns: list[str]) -> pa.Table:
        if self._loaded is None or self._loaded[0] != (group, len(columns)):
            with _plan_errors(self._path), _opened(self._path) as source:
                file = pq.ParquetFile(
                    source, metadata=self._metadata, page_checksum_verification=True
                )
                # Names that a file lacks are passed over: only format 1 has a "path".
                table = file.read_row_group(group, columns=[*columns, "path"])
            table = _in_format_2(table).select(columns).combine_chunks()
            self._loaded = ((group, len(columns)), table)
        return self._loaded[1]


def _opened(path: Path) -> pa.NativeFile:
    return pa.OSFile(os.fsencode(path))  # a str would have to be UTF-8


@contextmanager
def _plan_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        raise damaged(path, str(error)) from error


def _in_format_2(table: pa.Table) -> pa.Table:
    """Name and complete the columns of format 1, which had neither archives nor extras."""
    if "path" not in table.column_names:
        return table
    columns = {
        "key": table.column("path"),
        "size": table.column("size"),
        "mtime_ns": table.column("mtime_ns"),
        "offset": pa.repeat(pa.scalar(0, pa.int64()), len(table)),
        "extra": pa.nulls(len(table), pa.string()),
    }
    return pa.table(columns, schema=INPUT_SCHEMA)


def _column(table: pa.Table, name: str) -> pa.Array:
    """Return a column of a table whose chunks have been combined."""
    return table.column(name).chunk(0)


def _to_bytes(value: pa.Scalar) -> bytes:
    return value.as_py()  # type: ignore[no-any-return]


def _digest(root: bytes, rows: pa.Table) -> str:
    """Return the SHA-256 over all that makes a shard's rows what they are."""
    rows = rows.combine_chunks()
    data, offsets = text_and_offsets(_column(rows, "key"))
    digest = hashlib.sha256(b"nightshift shard 1\0")
    digest.update(len(root).to_bytes(8, "little") + root)
    digest.update(len(rows).to_bytes(8, "little"))
    digest.update(np.diff(offsets).astype("<i8").tobytes())
    digest.update(data)
    for name in ("size", "mtime_ns"):
        digest.update(_column(rows, name).to_numpy().astype("<i8").tobytes())
    return digest.hexdigest()
