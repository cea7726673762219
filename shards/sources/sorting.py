"""Rows in any order in, in the byte order of their keys out, in bounded memory.

Runs of RUN_ROWS rows are sorted and set aside on disk, and merged block by block: what lies below
the last key of every block that is in memory is complete, and is sorted in one step. Up to RUN_ROWS
rows, nothing touches the disk.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryFile, gettempdir
from typing import IO

import numpy as np
import pyarrow as pa

from shards.closing import Closing
from shards.inputs import INPUT_SCHEMA
from shards.output import output_errors

__all__ = ["Sorter"]

# 15 MB of rows with keys of 70 bytes, held four times while they are sorted; ten million images
# are 80 runs.
RUN_ROWS = 1 << 17

# Rows of a run that are in memory while runs are merged.
BLOCK_ROWS = 1 << 12

_SCHEMA = INPUT_SCHEMA.append(pa.field("number", pa.int64(), nullable=False))
_ORDER = [("key", "ascending"), ("number", "ascending")]


class Sorter(Closing):
    """Sorts rows by key; rows of one key come in the order in which they were added.

    Use it in a `with` block: its files have no name, and end with it.
    """

    def __init__(self, directory: Path | None) -> None:
        """Begin with no rows.

        Args:
            directory: For what does not fit into memory; None takes the system's.
        """
        self.rows = 0
        self._directory = directory
        self._pending: list[pa.Table] = []
        self._pending_rows = 0
        self._runs: list[_Run] = []

    def add(self, rows: pa.Table) -> None:
        """Add rows in INPUT_SCHEMA.

        Raises:
            OutputError: They cannot be set aside.
        """
        numbers = pa.array(np.arange(self.rows, self.rows + len(rows)))
        self._pending.append(rows.append_column(_SCHEMA.field("number"), numbers))
        self._pending_rows += len(rows)
        self.rows += len(rows)
        if self._pending_rows >= RUN_ROWS:
            self._runs.append(_Run(self._sorted_pending(), self._directory))

    def tables(self) -> Iterator[pa.Table]:
        """Yield all rows in order, once; rows of one key are never in two tables."""
        if not self._runs:
            if self._pending_rows:
                yield self._sorted_pending().drop_columns("number")
            return
        if self._pending_rows:
            self._runs.append(_Run(self._sorted_pending(), self._directory))
        for table in _merged(self._runs):
            yield table.sort_by(_ORDER).drop_columns("number")

    def close(self) -> None:
        """Free memory and disk."""
        for run in self._runs:
            run.close()
        self._runs, self._pending, self._pending_rows = [], [], 0

    def _sorted_pending(self) -> pa.Table:
        table = pa.concat_tables(self._pending).combine_chunks().sort_by(_ORDER)
        self._pending, self._pending_rows = [], 0
        return table.combine_chunks()


class _Run:
    """Sorted rows on disk, and the first of those that have not been taken yet in memory.

    Attributes:
        head: Those in memory.
    """

    def __init__(self, rows: pa.Table, directory: Path | None) -> None:
        place = directory or Path(gettempdir())
        with output_errors("sort the names of images in", place):
            self._file: IO[bytes] = TemporaryFile(dir=place)  # noqa: SIM115 - lives as long as this
            options = pa.ipc.IpcWriteOptions(compression="lz4")
            with pa.ipc.new_file(self._file, _SCHEMA, options=options) as writer:
                writer.write_table(rows, max_chunksize=BLOCK_ROWS)
            self._file.flush()
        self._reader = pa.ipc.open_file(self._file)
        self._next = 0
        self.head = rows.slice(0, 0)
        self.grow()

    @property
    def is_whole(self) -> bool:
        """Whether nothing is left on disk."""
        return bool(self._next == self._reader.num_record_batches)

    @property
    def last_key(self) -> bytes:
        """Of the rows in memory."""
        return self.head.column("key")[-1].as_py()  # type: ignore[no-any-return]

    def grow(self) -> None:
        """Bring in one more block."""
        block = pa.Table.from_batches([self._reader.get_batch(self._next)])
        self._next += 1
        self.head = pa.concat_tables([self.head, block]).combine_chunks()

    def take_below(self, bound: bytes | None) -> pa.Table:
        """Remove and return the rows in memory whose key is less; all for None."""
        count = len(self.head)
        if bound is not None:
            keys = self.head.column("key")
            count = bisect_left(keys, bound, key=lambda key: key.as_py())
        taken, self.head = self.head.slice(0, count), self.head.slice(count)
        return taken

    def close(self) -> None:
        self._file.close()


def _merged(runs: list[_Run]) -> Iterator[pa.Table]:
    """Yield tables that follow each other in the order of keys, each of them unsorted."""
    while True:
        unfinished = [run for run in runs if not run.is_whole]
        bound = min((run.last_key for run in unfinished), default=None)
        parts = [run.take_below(bound) for run in runs]
        table = pa.concat_tables(parts)
        if len(table):
            yield table
        if bound is None:
            return
        for run in unfinished:
            if run.last_key == bound:
                run.grow()
