"""Which version of an object there is, in the one number that plans hold of a file's time."""

from __future__ import annotations

import hashlib
from datetime import datetime

__all__ = ["version_ns"]

_SECOND = 10**9


def version_ns(last_modified: datetime, e_tag: str | None) -> int:
    """Return when an object was written, and below the second a digest of what is in it.

    S3 knows times in whole seconds, so one that is overwritten within a second by as many bytes
    would look the same. Its ETag does not: 30 bits of a hash of it stand where a file's nanoseconds
    stand.

    Args:
        last_modified: As the store says; listings of some stores have fractions that their answers
            to single requests lack, so those count for nothing.
        e_tag: As the store says, with or without quotes, as lists and headers differ; None where
            the store has none.

    Returns:
        Nanoseconds since the epoch, right to the second; the same for every request and machine.
    """
    seconds = int(last_modified.timestamp())
    if e_tag is None:
        return seconds * _SECOND
    text = e_tag.removeprefix("W/").strip('"').encode()
    digest = int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big")
    return seconds * _SECOND + digest % _SECOND
