"""Which scheme of a URI is read by what; stores of objects register here."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from shards.errors import ImageError, SourceError
from shards.names import shown
from shards.sources.source import ListingOptions, Source

__all__ = ["STORES", "ObjectStore", "scheme_of", "store_of"]

_SCHEME = re.compile(rb"([A-Za-z][A-Za-z0-9+.-]*)://")


class ObjectStore(Protocol):
    """What a store of objects must do to be a source."""

    def source(self, given: str, options: ListingOptions) -> Source:
        """List what a URI names: a prefix, or a pattern; checks it without listing."""

    def attributes(self, keys: Sequence[bytes]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return size and mtime_ns of each object, 0 and 0 where there is none."""

    def contents(self, keys: Sequence[bytes]) -> Iterator[bytes | ImageError]:
        """Yield the objects' bytes, in order, fetched ahead in bounded numbers."""


STORES: dict[str, Callable[[], ObjectStore]] = {}
"""By scheme, as `s3`; called when a source names it."""


def scheme_of(text: bytes) -> str | None:
    """Return the scheme of a URI, in lower case; None for a path."""
    match = _SCHEME.match(text)
    return match[1].decode().lower() if match else None


def store_of(text: bytes) -> ObjectStore:
    """Return what reads a URI.

    Raises:
        SourceError: Nothing does.
    """
    scheme = scheme_of(text) or "file"
    if scheme in ("http", "https"):
        raise SourceError(
            f"{shown(text)}: web addresses are not read, for whoever names them would choose what "
            "this machine asks for. Download the images, or give s3:// or local paths."
        )
    if scheme not in STORES:
        known = ", ".join(f"{name}://" for name in ("file", *sorted(STORES)))
        raise SourceError(f"{shown(text)}: nothing reads {scheme}:// here. Known are {known}.")
    return STORES[scheme]()
