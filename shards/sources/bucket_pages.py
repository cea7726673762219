"""What a store lists below a prefix: pages of 1,000 objects, and what one page tells."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from shards.bucket import FIRST, ORDINARY, Patience, bucket_of
from shards.errors import SourceError
from shards.names import shown
from shards.object_probe import remedy_of
from shards.sources.objects import place_of
from shards.store_request import asked

if TYPE_CHECKING:
    from obstore import ObjectMeta

__all__ = ["LAST", "first_directories", "has_below", "is_sorted", "pages"]

PAGE = 1000
"""Keys of one answer: as many as S3 gives."""

FEW = 32
"""Directories that are looked into for metadata."""

LAST = "/\U0010ffff"
"""Behind what a directory holds."""

_UNSORTED = "--x-s3"
"""How the names of S3's directory buckets end, which list in no order."""


def is_sorted(bucket: str) -> bool:
    """Whether a store lists a bucket in byte order of its keys, by the bucket's URI."""
    return not bucket.endswith(_UNSORTED)


def pages(
    prefix: bytes, after: str | None = None, patience: Patience = ORDINARY
) -> Iterator[Sequence[ObjectMeta]]:
    """Yield what the store lists below a prefix, 1,000 objects a request.

    Args:
        prefix: Key, without a slash at its end.
        after: Key in the bucket behind which to begin.
        patience: How long to wait for an answer.

    Raises:
        SourceError: It cannot be listed.
    """
    import obstore

    place = place_of(prefix)
    store = bucket_of(place.uri).store_with(patience)
    stream = obstore.list(store, place.key or None, offset=after, chunk_size=PAGE)
    end: Sequence[ObjectMeta] = ()
    try:
        while page := asked(shown(prefix), lambda: next(stream, end)):
            if after is not None and not _is_behind(page[0], after):
                raise SourceError(
                    f"cannot list {shown(prefix)}: the store begins lists at their beginning "
                    "where it is asked to begin later (start-after)."
                )
            yield page
    except OSError as error:
        raise _unlistable(place.uri, shown(prefix), error) from error


def _is_behind(meta: ObjectMeta, after: str) -> bool:
    """Whether an object's key is greater; obstore drops the slash of a folder's mark."""
    path = meta["path"]
    return path > after or (meta["size"] == 0 and path + "/" > after)


def first_directories(prefix: bytes) -> list[bytes]:
    """Return the directories directly below a prefix; none where they are more than a few.

    There is no request for them alone whose answer would not grow with the objects beside them. So
    each takes a request, which asks for what lies behind it.

    Raises:
        SourceError: It cannot be listed.
    """
    place = place_of(prefix)
    start = len(place.key) + 1 if place.key else 0
    found: list[bytes] = []
    after: str | None = None
    while page := next(pages(prefix, after), None):
        names = [meta["path"][start:].partition("/") for meta in page]
        inside = [name for name, slash, _ in names if slash]
        found += [prefix + b"/" + name.encode() for name in dict.fromkeys(inside)]
        is_last = len(page) < PAGE
        if len(found) > FEW or not (inside or is_last) or not (is_sorted(place.uri) or is_last):
            return []
        if is_last:
            break
        last, slash, _ = names[-1]
        after = page[-1]["path"][:start] + last + (LAST if slash else "")
    return found


def has_below(prefix: bytes) -> bool:
    """Whether any object's key begins with a key and a slash; does not wait for long.

    Raises:
        SourceError: It cannot be listed.
        StoreError: The store cannot be reached as configured.
    """
    return next(pages(prefix, patience=FIRST), None) is not None


def _unlistable(bucket: str, prefix: str, error: OSError) -> SourceError:
    reason = error.strerror or str(error)
    if "invalid path" in reason:
        return SourceError(
            f"cannot list {prefix}: {reason}. A key there has an empty part (//), '.', '..' or a "
            "control character, for which obstore has no name; its image would be missing from the "
            "table. Rename it, or give prefixes that leave it out."
        )
    if isinstance(error, FileNotFoundError) or "NoSuchBucket" in reason:
        return SourceError(f"no such bucket: {bucket} ({reason}). Check its name.")
    return SourceError(f"cannot list {prefix}: {reason}. {remedy_of(reason, bucket)}.")
