"""Where the bytes of one image lie: a file, a part of one, in memory, or on their way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from shards.errors import ErrorKind, ImageError
from shards.names import shown

__all__ = ["MAX_FILE_BYTES", "Arriving", "Item", "Stored", "check_size"]

MAX_FILE_BYTES = 256 << 20
"""Of one encoded image: one of 61 megapixels without compression."""


@dataclass(frozen=True, slots=True)
class Stored:
    """The encoded bytes of one image.

    Attributes:
        path: File that holds them, as the system names it.
        offset: Where in the file they begin; 0 for a file of its own.
        size: How many there are; None for all that follow.
        content: The bytes themselves, where they were read already, as from an object store; then
            nothing is opened.
        root: Directory that the file must lie in once all links are followed; None for anywhere.
            It may itself be a link, or be reached by one.
    """

    path: bytes
    offset: int = 0
    size: int | None = None
    content: bytes | None = None
    root: bytes | None = None

    def __str__(self) -> str:
        """For messages; not the bytes."""
        return shown(self.path) + (f" at byte {self.offset}" if self.offset else "")


@runtime_checkable
class Arriving(Protocol):
    """An image whose bytes are fetched meanwhile."""

    def taken(self) -> Stored | ImageError:
        """Wait for the bytes and hand them over, once: they are the caller's then."""


Item = Stored | ImageError | Arriving
"""What is to be decoded, or why there is nothing."""


def check_size(size: int, most: int) -> None:
    """See that there are bytes, and not too many.

    Raises:
        ImageError: There are none, or too many.
    """
    if size > most:
        text = f"the file has {size} bytes; the limit is {most}"
        raise ImageError(ErrorKind.TOO_LARGE, text)
    if size <= 0:
        raise ImageError(ErrorKind.EMPTY, "the file has 0 bytes")
