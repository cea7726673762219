"""What Hugging Face's imagefolder puts beside images: metadata.csv, .jsonl or .parquet.

It lies in the directory or in those directly below it (train/, test/), and names images relative to
itself in `file_name`. It adds columns; which images there are, the directory says.
"""
# ruff: noqa: PTH118, PTH120 - pathlib refuses bytes

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from itertools import compress
from types import TracebackType
from typing import Self

import numpy as np
import pyarrow as pa

from shards.inputs import InputBatch
from shards.kept import wider
from shards.names import shown
from shards.sources.bucket_listing import METADATA
from shards.sources.bucket_pages import first_directories
from shards.sources.located import are_files
from shards.sources.manifest import keys_from, without_repeats
from shards.sources.objects import is_object
from shards.sources.sorting import Sorter
from shards.sources.source import ListingOptions
from shards.sources.tables import table_blocks

__all__ = ["Metadata", "metadata_files"]

_NAMES = tuple(name.encode() for name in METADATA)
_COLUMNS = ("file_name", "*_file_name")


def metadata_files(directory: bytes) -> list[bytes]:
    """Return the metadata of a directory: its own, or those of the directories below it."""
    found = _metadata_in([directory])
    return found or _metadata_in(_directories_in(directory))


class Metadata:
    """The rows of some metadata, sorted, to be joined with a listing.

    Use it in a `with` block: what does not fit into memory is on disk.

    Attributes:
        kinds: Columns that it adds, and their kinds (shards.kept).
    """

    def __init__(self, files: Sequence[bytes], options: ListingOptions) -> None:
        """Read the files.

        Raises:
            SourceError: One cannot be read, or does not name images.
        """
        self.kinds: dict[str, str] = {}
        self._sorter = Sorter(options.spill)
        self._rows = 0
        self._used = 0
        for path in files:
            columns, blocks = table_blocks(path, options, _COLUMNS)
            folder = os.path.dirname(path)
            for values, extras in blocks:
                keys = keys_from(values.drop_null(), folder, shown(path))
                named = None if extras is None else extras.filter(values.is_valid())
                nothing = np.zeros(len(keys), np.int64)
                self._sorter.add(InputBatch(keys, nothing, nothing, nothing, named).to_table())
            for name, kind in columns.kinds.items():
                self.kinds[name] = wider(self.kinds.get(name), kind) or kind
        self._tables = self._counted()
        self._ahead: pa.Table | None = next(self._tables, None)

    def join(self, batch: InputBatch) -> InputBatch:
        """Return a batch with its extras; batches must come in order."""
        import pyarrow.compute as pc  # takes 25 ms, and directories alone do not need it

        parts = [part for part in self._until(batch.keys[-1]) if len(part)]
        if not parts:
            return batch
        known = pa.concat_tables(parts)
        rows = pc.index_in(
            pa.array(batch.keys, pa.binary()), value_set=known.column("key").combine_chunks()
        )
        self._used += len(rows) - rows.null_count
        extras = known.column("extra").combine_chunks().take(rows)
        return InputBatch(batch.keys, batch.sizes, batch.mtimes_ns, batch.offsets, extras)

    def unused(self) -> int:
        """Return how many rows name no image of the listing, once that has ended."""
        for _ in self._tables:
            pass
        return self._rows - self._used

    def _counted(self) -> Iterator[pa.Table]:
        repeated: dict[str, int] = {}
        for table in without_repeats(self._sorter.tables(), repeated):
            self._rows += len(table)
            yield table
        self._rows += repeated.get("repeated", 0)

    def _until(self, key: bytes) -> Iterator[pa.Table]:
        """Take the rows up to a key."""
        import pyarrow.compute as pc

        while self._ahead is not None:
            keys = self._ahead.column("key").combine_chunks()
            count = pc.sum(pc.less_equal(keys, key)).as_py() or 0
            yield self._ahead.slice(0, count)
            if count < len(keys):
                self._ahead = self._ahead.slice(count)
                return
            self._ahead = next(self._tables, None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._sorter.close()


def _directories_in(directory: bytes) -> list[bytes]:
    if is_object(directory):
        return first_directories(directory)
    with os.scandir(directory) as entries:
        return sorted(entry.path for entry in entries if entry.is_dir(follow_symlinks=False))


def _metadata_in(directories: Sequence[bytes]) -> list[bytes]:
    """The first of the names in each directory that has one."""
    paths = [os.path.join(directory, name) for directory in directories for name in _NAMES]
    there = are_files(paths)
    count = len(_NAMES)
    starts = range(0, len(paths), count)
    return [
        path
        for start in starts
        for path in list(compress(paths[start : start + count], there[start : start + count]))[:1]
    ]
