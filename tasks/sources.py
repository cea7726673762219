"""What the settings say of the images, as sources."""

from __future__ import annotations

import os

from shards.columns import recorded_columns
from shards.kept import column_name
from shards.sources.located import root_of
from shards.sources.parse import open_sources
from shards.sources.source import ListingOptions, Source
from tasks.job import Job
from tasks.settings import Settings

__all__ = ["kept_names", "sources_of"]

ALL = "all"
"""Stands for every column."""


def kept_names(settings: Settings) -> tuple[str, ...]:
    """What the columns that were asked for by name are called in the table."""
    return tuple(column_name(name) for name in settings.keep_columns or () if name != ALL)


def sources_of(job: Job) -> list[Source]:
    """Open what the user named; nothing is listed yet.

    Raises:
        SourceError: Something is not there, or of no known kind.
    """
    settings = job.settings
    keep = tuple(settings.keep_columns or ())
    options = ListingOptions(
        extensions=tuple(settings.extensions),
        recursive=settings.recursive,
        exclude=os.fsencode(str(job.tree.root)),
        spill=job.tree.staging,
        image_column=settings.image_column,
        uri_column=settings.uri_column,
        root=None if settings.root is None else root_of(settings.root),
        keep=tuple(name for name in keep if name != ALL),
        keep_all=ALL in keep,
        present=tuple(name for name, _ in recorded_columns(job.tree).kept),
    )
    sources = open_sources(settings.sources, options, settings.input_format)
    for source in sources:
        source.allowed = None if job.allowed is None else job.allowed.roots
    return sources
