"""One file of the plan log: which images a run found first, and their shards.

Rows are sorted by key, and a shard is `shard_size` consecutive rows, so a shard is found by
arithmetic and read without the rest. Row groups are whole shards.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from shards.inputs import INPUT_ENCODINGS, INPUT_SCHEMA, InputBatch, text_and_offsets
from shards.place import Place, opened_in_parts
from shards.plan_header import HEADER_KEY, PlanHeader, damaged, header_json, parse_header

__all__ = [
    "GROUP_ROWS",
    "PlanFile",
    "PlanWriter",
    "digest_of",
    "plan_errors",
    "plan_metadata",
]

# Small enough to decode one shard of a plan in a millisecond, large enough that ten million images
# are some hundred groups in the footer.
GROUP_ROWS = 16_384

_SCHEMA = INPUT_SCHEMA.append(pa.field("shard", pa.int32(), nullable=False))
_ENCODINGS = {**INPUT_ENCODINGS, "shard": "DELTA_BINARY_PACKED"}


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
            self._digests.append(digest_of(self._root, table.slice(start, stop - start)))
        self._writer.write_table(table.slice(0, rows), row_group_size=self._group_rows)
        self._pending = [table.slice(rows)] if rows < table.num_rows else []
        self._pending_rows = table.num_rows - rows


class PlanFile:
    """One finished plan, opened for reading; no file stays open between calls.

    Not thread-safe: it remembers the row group it read last.

    Attributes:
        header: What it says of itself.
    """

    def __init__(self, path: Place, metadata: pq.FileMetaData | None = None) -> None:
        """Read the footer, unless it was read before.

        Raises:
            OutputError: It is missing, damaged, or written by a newer Nightshift.
        """
        self._path = path
        self._metadata = plan_metadata(path) if metadata is None else metadata
        self.header = parse_header(path, self._metadata)
        self._loaded: tuple[tuple[int, int], pa.Table] | None = None

    @property
    def groups(self) -> int:
        """Row groups in it."""
        return int(self._metadata.num_row_groups)

    def forget(self) -> None:
        """Free the row group that was read last."""
        self._loaded = None

    def read(self, rows: range) -> pa.Table:
        """Return some consecutive rows, in INPUT_SCHEMA."""
        group_rows = self.header.group_rows
        parts = []
        for group in range(rows.start // group_rows, (rows.stop - 1) // group_rows + 1):
            first = group * group_rows
            table = self.group(group, INPUT_SCHEMA.names)
            parts.append(
                table.slice(max(0, rows.start - first), rows.stop - max(first, rows.start))
            )
        return pa.concat_tables(parts).combine_chunks()

    def batches(self) -> Iterator[InputBatch]:
        """Yield all rows, a row group at a time."""
        step = self.header.group_rows
        for start in range(0, self.header.rows, step):
            yield InputBatch.from_table(
                self.read(range(start, min(start + step, self.header.rows)))
            )

    def bounds(self, group: int) -> tuple[bytes, bytes]:
        """Return a row group's first and last key."""
        statistics = self._metadata.row_group(group).column(0).statistics
        if statistics is not None and statistics.has_min_max:
            return statistics.min, statistics.max
        keys = self.group(group, ["key"]).column("key")  # very long bounds are left out
        return keys[0].as_py(), keys[-1].as_py()

    def group(self, group: int, columns: list[str]) -> pa.Table:
        """Return one row group, one chunk a column; it is remembered until another is read."""
        if self._loaded is None or self._loaded[0] != (group, len(columns)):
            with plan_errors(self._path), opened_in_parts(self._path) as source:
                file = pq.ParquetFile(
                    source, metadata=self._metadata, page_checksum_verification=True
                )
                # Names that a file lacks are passed over: only format 1 has a "path".
                table = file.read_row_group(group, columns=[*columns, "path"])
            table = _in_format_2(table).select(columns).combine_chunks()
            self._loaded = ((group, len(columns)), table)
        return self._loaded[1]


def plan_metadata(path: Place) -> pq.FileMetaData:
    """Return a plan's footer.

    Raises:
        OutputError: The file is missing or damaged.
    """
    with plan_errors(path), opened_in_parts(path) as source:
        return pq.read_metadata(source)


@contextmanager
def plan_errors(path: Place) -> Iterator[None]:
    """Turn errors of the file system and of Arrow into OutputErrors that name the plan."""
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


def digest_of(root: bytes, rows: pa.Table) -> str:
    """Return the SHA-256 over all that makes a shard's rows what they are."""
    data, offsets = text_and_offsets(rows.column("key").combine_chunks())
    digest = hashlib.sha256(b"nightshift shard 1\0")
    digest.update(len(root).to_bytes(8, "little") + root)
    digest.update(len(rows).to_bytes(8, "little"))
    digest.update(np.diff(offsets).astype("<i8").tobytes())
    digest.update(data)
    for name in ("size", "mtime_ns"):
        digest.update(rows.column(name).to_numpy().astype("<i8").tobytes())
    return digest.hexdigest()
