"""One file of the plan log: which images a run found first, and their shards.

Rows are sorted by path, and a shard is `shard_size` consecutive rows, so a shard is found by
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
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from shards.listing import InputBatch
from shards.plan_header import HEADER_KEY, PlanHeader, damaged, header_json, parse_header

__all__ = ["Match", "PlanFile", "PlanWriter"]

# Small enough to decode one shard of a plan in a millisecond, large enough that ten million images
# are some hundred groups in the footer.
GROUP_ROWS = 16_384

_SCHEMA = pa.schema(
    [
        pa.field("path", pa.binary(), nullable=False),
        pa.field("size", pa.int64(), nullable=False),
        pa.field("mtime_ns", pa.int64(), nullable=False),
        pa.field("shard", pa.int32(), nullable=False),
    ]
)
_ENCODINGS = {
    "path": "DELTA_BYTE_ARRAY",
    "size": "DELTA_BINARY_PACKED",
    "mtime_ns": "DELTA_BINARY_PACKED",
    "shard": "DELTA_BINARY_PACKED",
}


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

    def append(self, paths: pa.Array, sizes: pa.Array, mtimes_ns: pa.Array) -> None:
        """Add rows that sort after all before them."""
        if len(paths) == 0:
            return
        shard = np.arange(self.rows, self.rows + len(paths)) // self._shard_size
        columns = [paths, sizes, mtimes_ns, pa.array(shard, pa.int32())]
        self._pending.append(pa.Table.from_arrays(columns, schema=_SCHEMA))
        self._pending_rows += len(paths)
        self.rows += len(paths)
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
        self._loaded: tuple[int, pa.Table] | None = None

    def match(self, batch: InputBatch, paths: pa.Array) -> Iterator[Match]:
        """Find the rows of a batch that this plan has; batches must come in order.

        Args:
            batch: Sorted by path.
            paths: `batch.paths` as Arrow binary.
        """
        while self._group < self._metadata.num_row_groups:
            low, high = self._bounds(self._group)
            if low > batch.paths[-1]:
                return
            if high >= batch.paths[0]:
                match = self._match_group(batch, paths)
                if len(match.rows):
                    yield match
            if high > batch.paths[-1]:
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
            table = self._read_group(group)
            parts.append(
                table.slice(max(0, rows.start - first), rows.stop - max(first, rows.start))
            )
        table = pa.concat_tables(parts).combine_chunks()
        return InputBatch(
            _bytes_list(_column(table, "path")),
            _column(table, "size").to_numpy(),
            _column(table, "mtime_ns").to_numpy(),
        )

    def batches(self) -> Iterator[InputBatch]:
        """Yield all rows, a row group at a time."""
        step = self.header.group_rows
        for start in range(0, self.header.rows, step):
            yield self.read(range(start, min(start + step, self.header.rows)))

    def _match_group(self, batch: InputBatch, paths: pa.Array) -> Match:
        table = self._read_group(self._group)
        planned = _column(table, "path")
        # Both sides cut to their common range: what was listed before and has not changed since
        # is equal as a whole, and the comparison is one memcmp.
        start = bisect_left(batch.paths, planned[0].as_py())
        stop = bisect_right(batch.paths, planned[-1].as_py())
        first = bisect_left(planned, batch.paths[0], key=_to_bytes)
        last = bisect_right(planned, batch.paths[-1], key=_to_bytes)
        listed, planned = paths[start:stop], planned[first:last]
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
        """Return a row group's first and last path."""
        statistics = self._metadata.row_group(group).column(0).statistics
        if statistics is not None and statistics.has_min_max:
            return statistics.min, statistics.max
        paths = _column(self._read_group(group), "path")  # Parquet leaves out very long bounds
        return paths[0].as_py(), paths[-1].as_py()

    def _read_group(self, group: int) -> pa.Table:
        if self._loaded is None or self._loaded[0] != group:
            with _plan_errors(self._path), _opened(self._path) as source:
                file = pq.ParquetFile(
                    source, metadata=self._metadata, page_checksum_verification=True
                )
                table = file.read_row_group(group, columns=["path", "size", "mtime_ns"])
            self._loaded = (group, table.combine_chunks())
        return self._loaded[1]


def _opened(path: Path) -> pa.NativeFile:
    return pa.OSFile(os.fsencode(path))  # a str would have to be UTF-8


@contextmanager
def _plan_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        raise damaged(path, str(error)) from error


def _column(table: pa.Table, name: str) -> pa.Array:
    """Return a column of a table whose chunks have been combined."""
    return table.column(name).chunk(0)


def _to_bytes(value: pa.Scalar) -> bytes:
    return value.as_py()  # type: ignore[no-any-return]


def _text_and_offsets(paths: pa.Array) -> tuple[memoryview, NDArray[np.int32]]:
    """Return a binary array's bytes, and where each value begins and ends in them."""
    _, offsets, data = paths.buffers()
    begins = np.frombuffer(offsets, np.int32)[paths.offset : paths.offset + len(paths) + 1]
    return memoryview(data)[begins[0] : begins[-1]], begins - begins[0]


def _bytes_list(paths: pa.Array) -> list[bytes]:
    """Return the values; a third of the time of `to_pylist`, which makes a scalar of each."""
    data, offsets = _text_and_offsets(paths)
    text, ends = bytes(data), offsets.tolist()
    return [text[start:stop] for start, stop in pairwise(ends)]


def _digest(root: bytes, rows: pa.Table) -> str:
    """Return the SHA-256 over all that makes a shard's rows what they are."""
    rows = rows.combine_chunks()
    data, offsets = _text_and_offsets(_column(rows, "path"))
    digest = hashlib.sha256(b"nightshift shard 1\0")
    digest.update(len(root).to_bytes(8, "little") + root)
    digest.update(len(rows).to_bytes(8, "little"))
    digest.update(np.diff(offsets).astype("<i8").tobytes())
    digest.update(data)
    for name in ("size", "mtime_ns"):
        digest.update(_column(rows, name).to_numpy().astype("<i8").tobytes())
    return digest.hexdigest()
