"""Shell patterns over paths: `photos/**/*.jpg`, `scans/2026-0[1-6]/*`."""

from __future__ import annotations

import os
import re

__all__ = ["PathPattern", "is_pattern", "split_pattern"]

_MAGIC = re.compile(r"[*?[]")


def is_pattern(text: str) -> bool:
    """Whether a text has characters that patterns give a meaning."""
    return bool(_MAGIC.search(text))


def split_pattern(text: str) -> tuple[str, str]:
    """Split a pattern into the directory before its first special part, and the rest."""
    parts = text.split("/")
    first = next(number for number, part in enumerate(parts) if is_pattern(part))
    return "/".join(parts[:first]) or ("/" if first else "."), "/".join(parts[first:])


class PathPattern:
    """A pattern for paths relative to a directory.

    `*` and `?` stand for any characters and one character of a name, `[a-z]` and `[!a-z]` for one
    of some, `**` for any number of directories. As in a shell, a directory that matches stands for
    what lies in it.
    """

    def __init__(self, text: str, *, recursive: bool) -> None:
        """Compile a pattern.

        Args:
            text: Relative, not empty.
            recursive: Whether a directory that matches stands for the whole tree below it.
        """
        parts = [part for part in text.split("/") if part not in ("", ".")]
        whole = _whole(parts) + ("(?:/.*)?" if recursive else "(?:/[^/]*)?")
        self._file = re.compile(whole, re.DOTALL)
        self._directory = re.compile(f"(?:{_beginnings(parts)})|(?:{whole})", re.DOTALL)

    def matches(self, path: bytes) -> bool:
        """Whether a file is meant."""
        return self._file.fullmatch(os.fsdecode(path)) is not None

    def may_hold(self, directory: bytes) -> bool:
        """Whether files below a directory can be meant."""
        return self._directory.fullmatch(os.fsdecode(directory)) is not None


def _whole(parts: list[str]) -> str:
    text = ""
    for number, part in enumerate(parts):
        last = number == len(parts) - 1
        if part == "**":
            text += ".*" if last else "(?:.*/)?"
        else:
            text += _name(part) + ("" if last else "/")
    return text


def _beginnings(parts: list[str]) -> str:
    """A pattern for the directories on the way to what the whole pattern matches."""
    if not parts:
        return ""
    if parts[0] == "**":
        return ".*"
    rest = _beginnings(parts[1:])
    return _name(parts[0]) + (f"(?:/{rest})?" if rest else "")


def _name(part: str) -> str:
    """One component as a regular expression."""
    text, at = "", 0
    while at < len(part):
        char = part[at]
        end = part.find("]", at + 2) if char == "[" else -1
        if char == "*":
            text += "[^/]*"
        elif char == "?":
            text += "[^/]"
        elif end > 0:
            inside = part[at + 1 : end]
            negated = inside[0] in "!^"
            inside = re.sub(r"([\\\[\]^&~|])", r"\\\1", inside[1:] if negated else inside)
            text += f"(?!/)[{'^' if negated else ''}{inside}]"
            at = end
        else:
            text += re.escape(char)
        at += 1
    return text
