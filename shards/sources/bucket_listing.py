"""Prefixes of buckets in, images out: as shards.listing lists directories, with the same rules.

Stores list keys in byte order, which is the order of keys here; that is checked. A directory is
what lies between two slashes of a key. One that is not entered is skipped by a new request where it
is longer than a page, so hidden trees and the output cost little.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from shards.errors import SourceError
from shards.inputs import InputBatch
from shards.listing import IgnoredReason, why_nothing
from shards.names import shown
from shards.object_version import version_ns
from shards.sources.bucket_pages import LAST, has_below, is_sorted, pages
from shards.sources.objects import attributes, place_of
from shards.sources.pattern import PathPattern
from shards.sources.sorting import Sorter
from shards.sources.source import BATCH_ROWS, in_batches

if TYPE_CHECKING:
    from obstore import ObjectMeta

__all__ = ["METADATA", "BucketListing"]

METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
"""What Hugging Face's imagefolder puts beside images (shards.sources.metadata)."""


class BucketListing:
    """The images below one prefix, in batches, and then the counts.

    Attributes:
        root: Key of the prefix, without a slash at its end.
        ignored: What was left out so far, by reason.
        limit: Images that are wanted; None for all.
    """

    def __init__(
        self,
        root: bytes,
        *,
        suffixes: tuple[bytes, ...],
        recursive: bool,
        excluded: bytes | None = None,
        pattern: PathPattern | None = None,
        spill: Path | None = None,
    ) -> None:
        """See that it can be listed; nothing is yet.

        Args:
            root: Key of the prefix, without a slash at its end.
            suffixes: As names of images end, in lower case.
            recursive: Whether to enter what lies behind further slashes.
            excluded: Key of a prefix that is not entered: the output.
            pattern: Only images whose path below the root matches.
            spill: Where keys are sorted that come in no order.

        Raises:
            SourceError: The prefix is the output, or cannot be listed.
            StoreError: The store cannot be reached as configured.
        """
        if excluded is not None and root == excluded:
            raise SourceError(
                f"{shown(root)} is both the images and the output. "
                "Give --output a prefix of its own; it may lie among the images."
            )
        try:
            self._place = place_of(root)
        except OSError as error:
            raise SourceError(f"cannot list {shown(root)}: {error.strerror}.") from error
        has_below(root)
        self.root = root
        self.limit: int | None = None
        self.ignored: Counter[IgnoredReason] = Counter()
        self._prefix = f"{self._place.key}/" if self._place.key else ""
        below = root + b"/"
        output = excluded[len(below) :] if excluded and excluded.startswith(below) else None
        self._names = _Names(suffixes, recursive, output, pattern, self.ignored)
        self._suffixes = suffixes
        self._recursive = recursive
        self._spill = spill
        self._in_order = is_sorted(self._place.uri)
        self._last = ""
        self.seen = 0

    def __iter__(self) -> Iterator[InputBatch]:
        """Yield batches in byte order.

        Raises:
            SourceError: The store cannot be listed, or holds what has no name in obstore.
        """
        if self._in_order:
            yield from self._batches()
            return
        with Sorter(self._spill) as sorter:
            for batch in self._batches():
                sorter.add(batch.to_table())
            yield from in_batches(sorter.tables())

    def _batches(self) -> Iterator[InputBatch]:
        rows: list[ObjectMeta] = []
        handed = 0
        for page in self._pages():
            rows += self._without_marks([meta for meta in page if self._is_meant(meta)])
            enough = self._in_order and self.limit is not None and handed + len(rows) >= self.limit
            if enough or len(rows) >= BATCH_ROWS:
                yield self._batch(rows)
                handed, rows = handed + len(rows), []
            if enough:
                return
        if rows:
            yield self._batch(rows)

    def _pages(self) -> Iterator[Sequence[ObjectMeta]]:
        """Yield what is listed, without the rest of long directories that are not entered."""
        after: str | None = None
        while True:
            for page in pages(self.root, after):
                yield page
                if self._in_order and self._is_closed(page):
                    after = f"{self._prefix}{self._names.closed}{LAST}"
                    break
            else:
                return

    def _is_closed(self, page: Sequence[ObjectMeta]) -> bool:
        """Whether all of a page lies in a directory that is not entered."""
        closed = f"{self._prefix}{self._names.closed}/"
        return self._names.closed is not None and (
            page[0]["path"].startswith(closed) and page[-1]["path"].startswith(closed)
        )

    def _is_meant(self, meta: ObjectMeta) -> bool:
        path = meta["path"]
        self.seen += 1
        if path <= self._last and self._in_order:
            if meta["size"] == 0:  # a folder's mark: obstore drops the slash at its end
                return False
            raise SourceError(
                f"{self._place.uri} lists {path!r} after {self._last!r}, which is not in the order "
                "of bytes; or a key begins with a slash. Its images cannot be told apart: list "
                "them, and give the list."
            )
        if len(path) < len(self._prefix):  # the mark of the prefix itself
            return False
        self._last = path
        return self._names.is_meant(path[len(self._prefix) :])

    def _without_marks(self, rows: list[ObjectMeta]) -> list[ObjectMeta]:
        """Leave out marks of folders that are named like images, as `album.jpg/`.

        obstore drops the slash, and then there is no such object. One without bytes may be one.
        """
        empty = [meta["path"] for meta in rows if meta["size"] == 0]
        if not empty:
            return rows
        bucket = self._place.uri.encode() + b"/"
        found = attributes([bucket + path.encode() for path in empty])
        marks = {
            path
            for path, what in zip(empty, found, strict=True)
            if isinstance(what, FileNotFoundError)
        }
        return [meta for meta in rows if meta["path"] not in marks]

    def _batch(self, rows: list[ObjectMeta]) -> InputBatch:
        bucket = self._place.uri.encode() + b"/"
        return InputBatch(
            [bucket + meta["path"].encode() for meta in rows],
            np.array([meta["size"] for meta in rows], np.int64),
            np.array([version_ns(meta["last_modified"], meta["e_tag"]) for meta in rows], np.int64),
            np.zeros(len(rows), np.int64),
        )

    def know_metadata(self) -> None:
        """Metadata are read: tables of metadata further down add nothing, and are not missed."""
        self._names.knows_metadata = True

    def nothing_found(self) -> str:
        """Say why there is no image."""
        if not self.seen:
            return (
                f"no image in {shown(self.root)}/: no object's key begins so. Check the name, as "
                "by `aws s3 ls`; capital letters count."
            )
        reason = why_nothing(self._suffixes, self.ignored, recursive=self._recursive)
        return f"no image in {shown(self.root)}/: {reason}"


class _Names:
    """Judges paths below a prefix, in byte order; counts what is left out, a directory once.

    Attributes:
        closed: The last directory that is not entered.
        knows_metadata: Whether metadata are read; else they are counted, as too many to look for.
    """

    def __init__(
        self,
        suffixes: tuple[bytes, ...],
        recursive: bool,
        output: bytes | None,
        pattern: PathPattern | None,
        ignored: Counter[IgnoredReason],
    ) -> None:
        self.closed: str | None = None
        self.knows_metadata = False
        self._suffixes = tuple(suffix.decode() for suffix in suffixes)
        self._recursive = recursive
        self._output = None if output is None else output.decode()
        self._pattern = pattern
        self._ignored = ignored
        self._directory = ""
        self._is_open = True

    def is_meant(self, path: str) -> bool:
        """Whether an object is an image that is asked for."""
        directory, _, name = path.rpartition("/")
        if directory != self._directory:
            self._directory, self._is_open = directory, self._opens(directory)
        if not self._is_open:
            return False
        if name.startswith("."):
            self._ignored[IgnoredReason.HIDDEN] += 1
        elif self._pattern is not None and not self._pattern.matches(path.encode()):
            pass
        elif not name.lower().endswith(self._suffixes):
            self._ignored[self._why_no_image(path, name)] += 1
        else:
            return True
        return False

    def _why_no_image(self, path: str, name: str) -> IgnoredReason:
        if name in METADATA and path.count("/") == 1 and not self.knows_metadata:
            return IgnoredReason.METADATA
        return IgnoredReason.SUFFIX

    def _opens(self, directory: str) -> bool:
        parts = directory.split("/") if directory else []
        for count in range(1, len(parts) + 1):
            path = "/".join(parts[:count])
            if path == self.closed:
                return False
            reason = self._why_closed(path, parts[count - 1])
            if reason is not None:
                self.closed = path
                if reason:
                    self._ignored[IgnoredReason(reason)] += 1
                return False
        return True

    def _why_closed(self, path: str, name: str) -> str | None:
        """Why a directory is not entered, empty where that is not counted; None if it is."""
        if name.startswith("."):
            return IgnoredReason.HIDDEN
        if self._pattern is not None and not self._pattern.may_hold(path.encode()):
            return ""
        if not self._recursive:
            return IgnoredReason.SUBDIRECTORY
        return IgnoredReason.OUTPUT if path == self._output else None
