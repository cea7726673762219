"""A directory of images, or what a pattern finds in one; with metadata as Hugging Face has them.

A prefix of a bucket is a directory too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import cast

from shards.inputs import InputBatch
from shards.listing import Listing, list_directory
from shards.sources.bucket_listing import BucketListing
from shards.sources.located import path_of
from shards.sources.metadata import Metadata, metadata_files
from shards.sources.objects import is_object
from shards.sources.pattern import PathPattern, split_pattern
from shards.sources.source import ListingOptions, Source

__all__ = ["DirectorySource", "GlobSource"]


class DirectorySource(Source):
    """The image files below a directory.

    Attributes:
        listing: Of the directory.
    """

    kind = "files"

    def __init__(
        self, path: bytes, given: str, options: ListingOptions, pattern: PathPattern | None = None
    ) -> None:
        """List this directory; of a bucket, nothing is asked yet.

        Args:
            path: A directory, or the key of a prefix without a slash at its end.
            given: What the user named.
            options: How to list.
            pattern: Only what matches it, below the directory.

        Raises:
            SourceError: It is missing, not a directory, cannot be read, or is the output.
        """
        self.listing = _listing_of(path, options, pattern)
        super().__init__(self.listing.root, given)
        self.ignored = cast("Counter[str]", self.listing.ignored)
        self._options = options

    def _batches(self) -> Iterator[InputBatch]:
        self.listing.limit = self.limit
        files = metadata_files(self.root)
        if not files:
            yield from self.listing
            return
        if isinstance(self.listing, BucketListing):
            self.listing.know_metadata()
        with Metadata(files, self._options) as metadata:
            for batch in self.listing:
                yield metadata.join(batch)
            self.kinds = metadata.kinds
            if self.limit is None and (unused := metadata.unused()):
                self.ignored["metadata_without_image"] += unused

    def _nothing_found(self) -> str:
        return self.listing.nothing_found()


class GlobSource(DirectorySource):
    """The image files that a pattern matches."""

    def __init__(self, text: str, options: ListingOptions) -> None:
        """List what matches; see `PathPattern`.

        Raises:
            SourceError: The directory before the pattern cannot be read.
        """
        directory, rest = split_pattern(text)
        pattern = PathPattern(rest, recursive=options.recursive)
        super().__init__(path_of(directory), text, options, pattern)


def _listing_of(
    path: bytes, options: ListingOptions, pattern: PathPattern | None
) -> Listing | BucketListing:
    if is_object(path):
        return BucketListing(
            path,
            suffixes=options.suffixes,
            recursive=options.recursive,
            excluded=options.exclude,
            pattern=pattern,
            spill=options.spill,
        )
    return list_directory(
        path,
        extensions=options.extensions,
        recursive=options.recursive,
        exclude=options.exclude,
        pattern=pattern,
    )
