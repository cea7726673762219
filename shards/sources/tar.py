"""Tar archives, WebDataset's included: every image in them is a row, whatever its sample.

An archive is walked to its proven end before anything of it is handed on, so of a damaged one there
is nothing. Members whose names end like images are images. WebDataset's samples are members that
follow each other with one name up to the first dot of the last part: `x/00.jpg`, `x/00.cls`,
`x/00.json`. `cls` becomes the column `target`; `txt`, and the members of an object in `json`, are
kept as columns where that is asked for.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from shards.errors import ArchiveError
from shards.inputs import InputBatch
from shards.kept import TARGET, column_name, extras_array, kind_of_value, wider
from shards.names import SEPARATOR
from shards.sources.sorting import Sorter
from shards.sources.source import BATCH_ROWS, ListingOptions, Source, in_batches
from shards.sources.tar_walk import Member, MemberKind, opened

__all__ = ["TarSource", "archive_tables"]

# A label is a number or a word, a caption a page at most.
MAX_SIDECAR_BYTES = {b"cls": 1 << 12, b"txt": 1 << 20, b"json": 1 << 20}

# As WebDataset has it: the last part of the name, up to its first dot.
_SAMPLE = re.compile(rb"((?:.*/|)[^.]+)[.]([^/]*)", re.DOTALL)
_HIDDEN = re.compile(rb"(?:.*/|)\.(?!\.?(?:/|$))", re.DOTALL)


class TarSource(Source):
    """The images in some tar archives."""

    kind = "webdataset"

    def __init__(
        self, archives: Sequence[bytes], root: bytes, given: str, options: ListingOptions
    ) -> None:
        """List these archives.

        Args:
            archives: Absolute paths, in any order.
            root: Directory above all of them.
            given: What the user named.
            options: extensions, keep, keep_all, spill.
        """
        super().__init__(root, given)
        self._archives = sorted(set(archives))
        self._options = options

    def _batches(self) -> Iterator[InputBatch]:
        for path in self._archives:
            reader = _Archive(path, self._options, self._options.suffixes)
            with Sorter(self._options.spill) as sorter:
                try:
                    reader.read(sorter.add)
                except ArchiveError as error:
                    self.damaged.append(str(error))
                    continue
                self.whole.add(path)
                self.ignored.update(reader.ignored)
                for name, kind in reader.kinds.items():
                    self.kinds[name] = wider(self.kinds.get(name), kind) or kind
                yield from in_batches(numbered(sorter.tables()))


def archive_tables(
    path: bytes, options: ListingOptions, suffixes: tuple[bytes, ...]
) -> Iterator[pa.Table]:
    """Yield the members of one archive whose names end so, in INPUT_SCHEMA, sorted.

    Raises:
        ArchiveError: It is damaged.
        SourceError: It cannot be opened.
    """
    with Sorter(options.spill) as sorter:
        _Archive(path, options, suffixes).read(sorter.add)
        yield from numbered(sorter.tables())


class _Archive:
    """One pass over one archive.

    Attributes:
        ignored: Members left out, by reason.
        kinds: Columns found, and their kinds.
    """

    def __init__(self, path: bytes, options: ListingOptions, suffixes: tuple[bytes, ...]) -> None:
        self.ignored: Counter[str] = Counter()
        self.kinds: dict[str, str] = {}
        self._path = path
        self._options = options
        self._suffixes = suffixes
        wanted = {b"cls": True, b"txt": options.keeps("txt")}
        wanted[b"json"] = options.keep_all or bool(options.keep or options.present)
        self._sidecars = tuple(kind for kind, is_wanted in wanted.items() if is_wanted)

    def read(self, add: Callable[[pa.Table], None]) -> None:
        """Hand on all images as tables in INPUT_SCHEMA, in the order of the archive."""
        members: list[Member] = []
        extras: list[dict[str, Any]] = []
        sample: bytes | None = None
        values: dict[str, Any] = {}
        with opened(self._path) as archive:
            for member in archive.members():
                if member.kind is not MemberKind.FILE:
                    if member.kind is not MemberKind.DIRECTORY:
                        self.ignored[member.kind.value] += 1
                    continue
                match = _SAMPLE.fullmatch(member.name)
                if match is None or match[1] != sample:
                    if len(members) >= BATCH_ROWS:
                        add(self._table(members, extras, archive.mtime_ns))
                        members, extras = [], []
                    sample, values = (match[1] if match else None), {}
                if _HIDDEN.match(member.name):
                    self.ignored["hidden"] += 1
                elif member.name.lower().endswith(self._suffixes):
                    members.append(member)
                    extras.append(values)  # and what is still to come for the sample
                elif match is not None and (kind := match[2].lower()) in MAX_SIDECAR_BYTES:
                    self.ignored["sidecar"] += 1
                    if kind in self._sidecars and member.size <= MAX_SIDECAR_BYTES[kind]:
                        self._take(values, kind, archive.content(member))
                else:
                    self.ignored["suffix"] += 1
            if members:
                add(self._table(members, extras, archive.mtime_ns))

    def _take(self, values: dict[str, Any], kind: bytes, content: bytes) -> None:
        """Add what a sidecar says to the values of its sample."""
        text = content.decode("utf-8", "backslashreplace").strip()
        if kind == b"cls":
            self._keep(values, TARGET, text)
        elif kind == b"txt":
            self._keep(values, "txt", text)
        else:
            try:
                found = json.loads(text)
            except ValueError:
                self.ignored["sidecar_no_json"] += 1
                return
            for name, value in found.items() if isinstance(found, dict) else ():
                if self._options.keeps(name):
                    self._keep(values, column_name(name), value)

    def _keep(self, values: dict[str, Any], name: str, value: object) -> None:
        values[name] = value
        if kind := wider(self.kinds.get(name), kind_of_value(value)):
            self.kinds[name] = kind

    def _table(
        self, members: Sequence[Member], extras: Sequence[dict[str, Any]], mtime_ns: int
    ) -> pa.Table:
        prefix = self._path + SEPARATOR
        names, offsets, sizes, _ = zip(*members, strict=True)
        return InputBatch(
            [prefix + name for name in names],
            np.array(sizes, np.int64),
            np.full(len(members), mtime_ns, np.int64),
            np.array(offsets, np.int64),
            extras_array(extras) if self.kinds else None,
        ).to_table()


def numbered(tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """Tell namesakes apart: the second of a key gets its number after it, and so on.

    Args:
        tables: Sorted by key, and of one key in the order of the archive; no key is in two of them.
    """
    import pyarrow.compute as pc  # takes 25 ms, and directories alone do not need it

    for table in tables:
        keys = table.column("key").combine_chunks()
        if pc.any(pc.equal(keys[1:], keys[:-1])).as_py():
            table = _with_numbers(table, keys.to_pylist())
        yield table


def _with_numbers(table: pa.Table, keys: list[bytes]) -> pa.Table:
    count: Counter[bytes] = Counter()
    named = []
    for key in keys:
        count[key] += 1
        named.append(key if count[key] == 1 else b"%s%s%d" % (key, SEPARATOR, count[key]))
    # Numbers are compared as bytes: 10 comes before 2.
    return table.set_column(0, table.schema.field("key"), pa.array(named, pa.binary())).sort_by(
        "key"
    )
