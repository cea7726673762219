"""What the settings say of the images, as sources."""

from __future__ import annotations

import os

from shards.listing import absolute
from shards.sources.parse import open_sources
from shards.sources.source import ListingOptions, Source
from tasks.job import Job

__all__ = ["sources_of"]


def sources_of(job: Job) -> list[Source]:
    """Open what the user named; nothing is listed yet.

    Raises:
        SourceError: Something is not there, or of no known kind.
    """
    settings = job.settings
    options = ListingOptions(
        extensions=tuple(settings.extensions),
        recursive=settings.recursive,
        exclude=os.fsencode(job.tree.root),
        spill=job.tree.staging,
        image_column=settings.image_column,
        uri_column=settings.uri_column,
        root=None if settings.root is None else absolute(os.fsencode(settings.root)),
    )
    return open_sources(settings.sources, options, settings.input_format)
