"""What the JSON files beside an engine have in common: a format, and one kind of error."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

__all__ = ["parsing"]


@contextmanager
def parsing(what: str, content: Mapping[str, Any], version: int) -> Iterator[None]:
    """Read `content` in the block, which takes what it needs and lets what is missing raise.

    Args:
        what: What it should be, in a word.
        content: Of the file.
        version: The `format` that is understood.

    Raises:
        ValueError: It is something else, or of a later version.
    """
    if content.get("format") != version:
        raise ValueError(f"it is no {what} of format {version}")
    try:
        yield
    except (KeyError, TypeError) as error:
        raise ValueError(f"it is no {what}: {error!r}") from error
