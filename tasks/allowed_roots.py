"""Directories that parameters may name, where whoever runs Nightshift says so."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from shards.names import key_of
from tasks.errors import SettingsError

__all__ = ["AllowedRoots"]

_STORE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_PATTERN = re.compile(r"[*?\[{]")


@dataclass(frozen=True, slots=True)
class AllowedRoots:
    """Where files may lie.

    Attributes:
        roots: Absolute directories with all links followed, or URIs as `s3://bucket/prefix`.
    """

    roots: tuple[str, ...]

    @classmethod
    def of(cls, given: Iterable[str]) -> AllowedRoots:
        """Take what an administrator wrote.

        Raises:
            SettingsError: There is none, or one is no absolute path and no URI.
        """
        roots = tuple(given)
        wrong = [root for root in roots if not (_STORE.match(root) or Path(root).is_absolute())]
        if wrong or not roots:
            raise SettingsError(
                f"the allowed roots are {':'.join(roots)!r}: expected absolute directories or "
                f"s3://bucket/prefix, with {os.pathsep!r} between them"
            )
        return cls(tuple(r if _STORE.match(r) else os.path.realpath(r) for r in roots))

    def cover(self, text: str) -> bool:
        """Whether what a parameter names lies in one of them, links followed.

        A pattern lies where its first part does that is no pattern; what it matches is held
        against the roots when it is listed (shards.within).

        Args:
            text: A path, a `file://` URI, a URI of an object, or a pattern of these.
        """
        if _STORE.match(text) and not text.startswith("file://"):
            return ".." not in text.split("/") and self._has(text)
        try:
            path = os.fsdecode(key_of(text)) if text.startswith("file://") else text
        except ValueError:
            return False
        return self._has(os.path.realpath(_fixed(path))) if path and "\0" not in path else False

    def _has(self, place: str) -> bool:
        return any((place + "/").startswith(root.rstrip("/") + "/") for root in self.roots)

    def __str__(self) -> str:
        """For messages."""
        return ", ".join(self.roots)


def _fixed(path: str) -> str:
    """The part of a pattern before its first wildcard; all of a path that is there."""
    if os.path.lexists(path):
        return path
    parts = Path(path).parts
    for number, part in enumerate(parts):
        if _PATTERN.search(part):
            # `/data/*/../../etc` would lead out of what comes before the wildcard.
            return "/" if ".." in parts[number:] else str(Path(*parts[:number]))
    return path
