"""Where the bytes of one image lie: a file, a part of one, or in memory already."""

from __future__ import annotations

from dataclasses import dataclass

from shards.names import shown

__all__ = ["Stored"]


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
