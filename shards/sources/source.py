"""What every source of images is: batches in byte order, to be iterated once, and then counts."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pyarrow as pa

from shards.errors import ArchiveError, NoImagesError
from shards.inputs import InputBatch
from shards.kept import column_name
from shards.names import SEPARATOR
from shards.sources.objects import attributes, is_object
from shards.within import within

__all__ = ["BATCH_ROWS", "ListingOptions", "Source", "in_batches"]

BATCH_ROWS = 65_536
"""Rows that are handed on at once; see shards.listing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListingOptions:
    """How sources are listed.

    Attributes:
        extensions: Suffixes that make a name an image, as `.jpg`.
        recursive: Whether subdirectories are entered.
        exclude: A directory that is not entered: the output.
        spill: Where rows wait that have to be sorted and do not fit into memory; None takes the
            system's directory for temporary files.
        image_column: Of tables with image bytes; None finds it.
        uri_column: Of manifests; None finds it.
        root: What relative paths of manifests and lists begin at; None takes the directory of the
            file.
        keep: Columns that go into the table; a table of theirs without one is refused.
        keep_all: Whether all columns do.
        present: Columns that our table has already: they are taken where they are there.
    """

    extensions: tuple[str, ...]
    recursive: bool = True
    exclude: bytes | None = None
    spill: Path | None = None
    image_column: str | None = None
    uri_column: str | None = None
    root: bytes | None = None
    keep: tuple[str, ...] = ()
    keep_all: bool = False
    present: tuple[str, ...] = ()

    @property
    def suffixes(self) -> tuple[bytes, ...]:
        """The extensions as names end."""
        return tuple(sorted({b"." + text.lower().lstrip(".").encode() for text in self.extensions}))

    def keeps(self, name: str) -> bool:
        """Whether a column goes into the table."""
        return self.keep_all or name in self.keep or column_name(name) in self.present


class Source(ABC):
    """Images that the user named by one word, or by several of a kind.

    Attributes:
        kind: How run.json counts them.
        root: Key of the directory that file names are relative to.
        given: What the user named, as text.
        listed: Images handed on so far.
        ignored: Things left out so far, by reason.
        damaged: Archives of which nothing was handed on: which, where, and why.
        kinds: Columns that came with the images so far, and their kinds (shards.kept).
        limit: Images that are wanted; None for all.
        allowed: Where they may lie (shards.within); None for anywhere.
        whole: Containers that were read to their end: what is not listed of them is not in them.
    """

    kind: ClassVar[str]

    def __init__(self, root: bytes, given: str) -> None:
        self.root = root
        self.given = given
        self.listed = 0
        self.ignored: Counter[str] = Counter()
        self.damaged: list[str] = []
        self.kinds: dict[str, str] = {}
        self.limit: int | None = None
        self.allowed: tuple[str, ...] | None = None
        self.whole: set[bytes] = set()

    @abstractmethod
    def _batches(self) -> Iterator[InputBatch]:
        """Yield the images in byte order of their keys, each once."""

    def batches(self, limit: int | None = None) -> Iterator[InputBatch]:
        """Yield the images in byte order of their keys, each once.

        Args:
            limit: Stop after so many; None lists all.

        Raises:
            SourceError: Something cannot be read, so that images would be missing; or an image
                lies where it may not.
            ArchiveError: There is no image, and a damaged archive.
            NoImagesError: There is no image; the message says what there is.
        """
        self.limit = limit
        for batch in within(self._batches(), self.allowed):
            if limit is not None and self.listed + len(batch) >= limit:
                batch = batch.slice(0, limit - self.listed)
            self.listed += len(batch)
            if len(batch):
                yield batch
            if self.listed == limit:
                break
        if self.listed == 0:
            if self.damaged:
                raise ArchiveError("; ".join(self.damaged))
            raise NoImagesError(self._nothing_found())

    def gone(self, keys: Sequence[bytes]) -> list[bool]:
        """Say which images, of those that were not listed, are no more.

        What cannot be looked at, as a damaged archive, has lost nothing.
        """
        containers = dict.fromkeys(key.partition(SEPARATOR)[0] for key in keys)
        remote = [each for each in containers if is_object(each)]
        missing = {
            each
            for each, found in zip(remote, attributes(remote), strict=True)
            if isinstance(found, FileNotFoundError)
        }
        return [self._is_gone(key, missing) for key in keys]

    def _is_gone(self, key: bytes, missing: Collection[bytes]) -> bool:
        container, separator, _ = key.partition(SEPARATOR)
        if separator and container in self.whole:
            return True
        if is_object(container):
            return container in missing
        try:
            os.lstat(container)
        except (FileNotFoundError, NotADirectoryError):
            return True
        except OSError:  # os.path.lexists would take it for an absence
            return False
        return False

    def _nothing_found(self) -> str:
        counts = ", ".join(f"{count} {reason}" for reason, count in sorted(self.ignored.items()))
        return f"no image in {self.given}; ignored: {counts or 'nothing, for it is empty'}."


def in_batches(tables: Iterator[pa.Table]) -> Iterator[InputBatch]:
    """Cut sorted tables in INPUT_SCHEMA into batches."""
    for table in tables:
        for start in range(0, len(table), BATCH_ROWS):
            yield InputBatch.from_table(table.slice(start, BATCH_ROWS))
