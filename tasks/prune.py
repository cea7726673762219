"""Which images --prune may take out."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from shards.names import SEPARATOR
from shards.plan import Prune
from shards.sources.manifest import ManifestSource
from shards.sources.source import Source
from tasks.settings import Settings

__all__ = ["prune_of"]

_log = logging.getLogger(__name__)


def prune_of(source: Source, settings: Settings) -> Prune | None:
    """How images are taken out that a source no longer has; None where they all stay.

    A list that does not name an image says nothing about it, so lists and tables prune nothing.
    """
    if not settings.prune:
        return None
    if isinstance(source, ManifestSource):
        _log.warning("--prune: %s is a list, and says nothing about other images", source.given)
        return None
    suffixes = tuple(b"." + text.lower().lstrip(".").encode() for text in settings.extensions)

    def gone(keys: Sequence[bytes]) -> list[bool]:
        return [
            is_gone and _is_looked_for(key, suffixes)
            for key, is_gone in zip(keys, source.gone(keys), strict=True)
        ]

    return Prune(gone=gone, limit=settings.prune_limit)


def _is_looked_for(key: bytes, suffixes: tuple[bytes, ...]) -> bool:
    """Whether this run would list an image if it was there.

    A member of an archive that other --extensions would list may still be there.
    """
    if SEPARATOR not in key:
        return True
    name = key.split(SEPARATOR)[1]
    return name.lower().endswith(suffixes) or name.isdigit()  # a row of a Parquet file
