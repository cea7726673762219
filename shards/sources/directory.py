"""A directory of images, or what a pattern finds in one; with metadata as Hugging Face has them."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from typing import cast

from shards.inputs import InputBatch
from shards.listing import list_directory
from shards.sources.metadata import Metadata, metadata_files
from shards.sources.pattern import PathPattern, split_pattern
from shards.sources.source import ListingOptions, Source

__all__ = ["DirectorySource", "GlobSource"]


class DirectorySource(Source):
    """The image files below a directory."""

    kind = "files"

    def __init__(
        self, path: bytes, given: str, options: ListingOptions, pattern: PathPattern | None = None
    ) -> None:
        """List this directory.

        Raises:
            SourceError: It is missing, not a directory, cannot be read, or is the output.
        """
        self._listing = list_directory(
            path,
            extensions=options.extensions,
            recursive=options.recursive,
            exclude=options.exclude,
            pattern=pattern,
        )
        super().__init__(self._listing.root, given)
        self.ignored = cast("Counter[str]", self._listing.ignored)
        self._options = options

    def _batches(self) -> Iterator[InputBatch]:
        self._listing.limit = self.limit
        files = metadata_files(self.root)
        if not files:
            yield from self._listing
            return
        with Metadata(files, self._options) as metadata:
            for batch in self._listing:
                yield metadata.join(batch)
            self.kinds = metadata.kinds
            if self.limit is None and (unused := metadata.unused()):
                self.ignored["metadata_without_image"] += unused


class GlobSource(DirectorySource):
    """The image files that a pattern matches."""

    def __init__(self, text: str, options: ListingOptions) -> None:
        """List what matches; see `PathPattern`.

        Raises:
            SourceError: The directory before the pattern cannot be read.
        """
        directory, rest = split_pattern(text)
        pattern = PathPattern(rest, recursive=options.recursive)
        super().__init__(os.fsencode(directory), text, options, pattern)
