"""Ranges in names of files: `shard-{000000..000099}.tar`, `{train,test}.tar`."""

from __future__ import annotations

import re
from itertools import product

from shards.errors import SourceError

__all__ = ["MAX_NAMES", "expanded", "has_braces"]

MAX_NAMES = 100_000
"""A slip of the pen must not make a list of billions."""

_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d{1,18})\.\.(\d{1,18})", re.ASCII)


def has_braces(text: str) -> bool:
    """Whether a text holds a range or alternatives."""
    return any(_RANGE.fullmatch(inside) or "," in inside for inside in _BRACES.findall(text))


def expanded(text: str) -> list[str]:
    """Return all names that a text with braces stands for, in its order.

    As in a shell, numbers are as wide as the wider of a range's ends if one begins with zero.

    Raises:
        SourceError: They are too many, or a range runs downwards.
    """
    parts = _BRACES.split(text)  # literal, inside, literal, inside, ..., literal
    choices = [
        [part] if number % 2 == 0 else _choices(part, text) for number, part in enumerate(parts)
    ]
    count = 1
    for choice in choices:
        count *= len(choice)
    if count > MAX_NAMES:
        raise _too_many(text, count)
    return ["".join(names) for names in product(*choices)]


def _choices(inside: str, text: str) -> list[str]:
    match = _RANGE.fullmatch(inside)
    if match is None:
        return inside.split(",") if "," in inside else ["{" + inside + "}"]
    first, last = int(match[1]), int(match[2])
    if first > last:
        raise SourceError(
            f"{text}: the range {{{inside}}} runs downwards. Give the lower end first."
        )
    if last - first >= MAX_NAMES:
        raise _too_many(text, last - first + 1)
    padded = any(len(end) > 1 and end.startswith("0") for end in match.groups())
    width = max(map(len, match.groups())) if padded else 0
    return [f"{number:0{width}d}" for number in range(first, last + 1)]


def _too_many(text: str, count: int) -> SourceError:
    return SourceError(
        f"{text} stands for {count:,} names; at most {MAX_NAMES:,} are expanded. "
        "Check the range, or give a pattern as shard-*.tar."
    )
