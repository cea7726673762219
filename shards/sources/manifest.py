"""Images that a table or a list names: each named one is a row, whether it is there or not.

Names are sorted outside of memory, so a manifest of ten million rows is planned like a directory.
What is named twice is one row, and counted. A file that is missing has its row too: its decoder
says not_found.
"""
# ruff: noqa: PTH118, PTH120 - pathlib refuses bytes

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import BinaryIO

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from shards.errors import ArchiveError, SourceError
from shards.inputs import InputBatch, keys_of
from shards.names import SEPARATOR, key_of, shown
from shards.sources.located import are_files, attributes_of, opened_binary, tidy
from shards.sources.objects import is_object, key_of_uri
from shards.sources.schemes import check_scheme, scheme_of
from shards.sources.sorting import Sorter
from shards.sources.source import BATCH_ROWS, ListingOptions, Source, in_batches
from shards.sources.tables import Blocks, Columns, list_blocks, table_blocks, table_errors
from shards.sources.tar import archive_tables

__all__ = ["MISSING", "FileSource", "ListSource", "ManifestSource", "keys_from", "without_repeats"]

MISSING = -1
"""The offset of what is named in an archive and is not there."""

_ROW = re.compile(rb"[0-9]{12}")
_UNTIDY = re.compile(rb"//|/\.\.?(?:/|$)|/$")


class ManifestSource(Source):
    """The images that a table names."""

    kind = "manifest"

    def __init__(self, path: bytes, given: str, options: ListingOptions) -> None:
        """Open a table.

        Raises:
            SourceError: It cannot be read, or has no column of paths.
        """
        super().__init__(options.root or os.path.dirname(path), given)
        self._columns: Columns | None
        self._columns, self._blocks = table_blocks(path, options)
        self._options = options

    def _batches(self) -> Iterator[InputBatch]:
        with Sorter(self._options.spill) as sorter:
            self._sort(sorter)
            for batch in in_batches(without_repeats(sorter.tables(), self.ignored)):
                yield self._looked_up(batch)

    def _sort(self, sorter: Sorter) -> None:
        """Read all names."""
        import pyarrow.compute as pc  # takes 25 ms, and directories alone do not need it

        for values, extras in self._blocks:
            named = pc.greater(pc.binary_length(values).fill_null(0), 0)
            count = pc.sum(named).as_py() or 0
            if count < len(values):
                self.ignored["no_path"] += len(values) - count
                values = values.filter(named)
                extras = None if extras is None else extras.filter(named)
            keys = self._keys(values)
            nothing = np.zeros(len(keys), np.int64)
            sorter.add(InputBatch(keys, nothing, nothing, nothing, extras).to_table())
        if self._columns is not None:
            self.kinds = self._columns.kinds

    def _keys(self, values: pa.Array) -> list[bytes]:
        return keys_from(values, self.root, self.given)

    def _looked_up(self, batch: InputBatch) -> InputBatch:
        """Find size, time and place of each image; zeros where there is none."""
        keys = batch.keys
        found = np.zeros((3, len(keys)), np.int64)
        kept = np.ones(len(keys), np.bool_)
        if any(SEPARATOR in key or key[:1] != b"/" for key in keys):
            self._look_up_groups(keys, found, kept)
        else:
            found[:2] = attributes_of(keys)
        rows = InputBatch(keys, found[0], found[1], found[2], batch.extras)
        return rows if kept.all() else InputBatch.from_table(rows.to_table().filter(pa.array(kept)))

    def _look_up_groups(
        self, keys: list[bytes], found: NDArray[np.int64], kept: NDArray[np.bool_]
    ) -> None:
        """The same for members and objects; members of a damaged archive are not kept."""
        for place, group in groupby(range(len(keys)), key=lambda row: _place(keys[row])):
            rows = list(group)
            if isinstance(place, bool):
                found[:2, rows] = attributes_of([keys[row] for row in rows])
            elif _ROW.fullmatch(keys[rows[0]][len(place) + 1 :]):
                found[:2, rows] = attributes_of([place])
            else:
                try:
                    self._find_members(place, keys, rows, found)
                except ArchiveError as error:
                    self.damaged.append(str(error))
                    kept[rows] = False

    def _find_members(
        self, archive: bytes, keys: list[bytes], rows: list[int], found: NDArray[np.int64]
    ) -> None:
        found[2, rows] = MISSING
        if not are_files([archive])[0]:
            return
        wanted = {keys[row]: row for row in rows}
        for table in archive_tables(archive, self._options, (b"",)):
            members = InputBatch.from_table(table)
            for at, key in enumerate(members.keys):
                row = wanted.get(key)
                if row is not None:
                    found[:, row] = members.sizes[at], members.mtimes_ns[at], members.offsets[at]


class ListSource(ManifestSource):
    """The images that a list names, one a line."""

    def __init__(
        self, list_: bytes | BinaryIO, root: bytes, given: str, options: ListingOptions
    ) -> None:
        """Take a list.

        Args:
            list_: A path, or a stream that is read once.
            root: What relative paths begin at.
            given: What the user named.
            options: spill.
        """
        Source.__init__(self, root, given)
        self._columns, self._blocks = None, _blocks_of(list_)
        self._options = options


class FileSource(ManifestSource):
    """Some image files that the user named one by one."""

    kind = "files"

    def __init__(
        self, paths: list[bytes], root: bytes, given: str, options: ListingOptions
    ) -> None:
        """Take these files, by their keys."""
        Source.__init__(self, root, given)
        starts = range(0, len(paths), BATCH_ROWS)
        parts = (pa.array(paths[start : start + BATCH_ROWS], pa.binary()) for start in starts)
        self._columns, self._blocks = None, ((part, None) for part in parts)
        self._options = options

    def _keys(self, values: pa.Array) -> list[bytes]:
        """They are keys: a `%` or `!` in one is that of a name, and not a URI's."""
        return keys_of(values)


def _blocks_of(list_: bytes | BinaryIO) -> Blocks:
    if not isinstance(list_, bytes):
        yield from list_blocks(list_)
        return
    with table_errors(list_), opened_binary(list_) as file:
        yield from list_blocks(file)


def keys_from(values: pa.Array, root: bytes, table: str) -> list[bytes]:
    """Return the keys of what a table names: paths, or URIs as our table has them.

    Args:
        values: Text or bytes, none of them empty.
        root: What relative paths begin at.
        table: For messages.

    Raises:
        SourceError: One names what nothing reads here.
    """
    prefix = os.path.join(root, b"")
    names = keys_of(values.cast(pa.binary()))
    together = b"\n".join(names)
    if b"\0" in together:
        odd = next(name for name in names if b"\0" in name)
        raise SourceError(f"{table} names {shown(odd)!r}, which holds a zero byte: correct it.")
    if b"://" in together or is_object(prefix):
        return [_key(name, prefix, table) for name in names]
    keys = [name if name[:1] == b"/" else prefix + name for name in names]
    if _UNTIDY.search(b"\n".join(keys).replace(b"\n", b"\0")) or b"/.\n" in together:
        return [_tidy(key) for key in keys]
    return keys


def without_repeats(tables: Iterable[pa.Table], ignored: dict[str, int]) -> Iterator[pa.Table]:
    """Leave one row of each key, the first, and count the others; no key is in two tables."""
    import pyarrow.compute as pc

    for table in tables:
        keys = table.column("key").combine_chunks()
        is_first = np.ones(len(keys), np.bool_)
        is_first[1:] = pc.not_equal(keys[1:], keys[:-1]).to_numpy(zero_copy_only=False)
        if is_first.all():
            yield table
        else:
            ignored["repeated"] = ignored.get("repeated", 0) + int(np.count_nonzero(~is_first))
            yield table.filter(pa.array(is_first))


def _key(name: bytes, prefix: bytes, table: str) -> bytes:
    scheme = scheme_of(name)
    if scheme is None:
        return _tidy(name if name[:1] == b"/" else prefix + name)
    if scheme != "file":
        check_scheme(name)
        return key_of_uri(name, members=True)
    try:
        container, *member = key_of("file" + name[4:].decode("ascii")).split(SEPARATOR)
    except ValueError as error:
        raise SourceError(
            f"{table} names {shown(name)!r}, which is no URI of a local file: expected "
            "file:///..., percent-encoded."
        ) from error
    return SEPARATOR.join([_tidy(container), *member])


def _tidy(key: bytes) -> bytes:
    return tidy(key) if _UNTIDY.search(key.partition(b"://")[2] or key) else key


def _place(key: bytes) -> bytes | bool:
    """The container of a member; else whether it is an object, and no local file."""
    container, separator, _ = key.partition(SEPARATOR)
    return container if separator else is_object(key)
