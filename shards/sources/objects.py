"""Objects of buckets as sources need them: what a URI means, what is there, and its bytes.

An object's key in our sense is its URI with nothing percent-encoded: `s3://bucket/my photos/1.jpg`.
Requests wait for the network, not for this process, so many are made at once.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from functools import cache, partial
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from shards.bucket import ORDINARY, Patience, bucket_of
from shards.errors import SourceError
from shards.names import SEPARATOR, shown
from shards.object_path import NO_KEY, ObjectPath
from shards.object_reader import ObjectReader
from shards.object_version import version_ns
from shards.request_threads import RequestThreads
from shards.sources.schemes import scheme_of
from shards.store_request import store_errors

__all__ = [
    "REQUESTS",
    "Attributes",
    "attributes",
    "checked",
    "is_object",
    "key_of_uri",
    "opened_object",
    "place_of",
    "requests",
]

REQUESTS = 64
"""That are under way at once: an answer takes some 30 ms, and 0.1 ms of this process."""

_AHEAD = 16 * REQUESTS
"""Requests that wait for their turn; each takes a kilobyte."""


class Attributes(NamedTuple):
    """What plans hold of an object.

    Attributes:
        size: Bytes.
        mtime_ns: When it was written, and which version (shards.object_version).
    """

    size: int
    mtime_ns: int


def is_object(key: bytes) -> bool:
    """Whether a key, or the container in it, is an object's; else it is a local path's."""
    return key[:1] != b"/"


def key_of_uri(uri: bytes, *, members: bool) -> bytes:
    """Return the key of a URI as our table has it, or as people write it.

    What is not percent-encoded stands for itself.

    Args:
        uri: With a scheme.
        members: Whether `!` stands between a container and a member's name, as in our table.
    """
    scheme = scheme_of(uri)
    if scheme is None:
        raise ValueError(f"{uri!r} has no scheme")
    start = scheme.encode() + b"://"
    rest = uri[len(start) :]
    parts = rest.split(b"!") if members else [rest]
    return start + SEPARATOR.join(map(unquote_to_bytes, parts))


def place_of(key: bytes) -> ObjectPath:
    """Return bucket and key of an object, or of a prefix without a slash at its end.

    Raises:
        OSError: obstore has no name for it, EINVAL.
    """
    scheme, _, rest = key.partition(b"://")
    bucket, slash, name = rest.partition(b"/")
    try:
        text = name.decode()
    except UnicodeDecodeError as error:
        raise OSError(errno.EINVAL, "its key is not UTF-8, as all keys are", shown(key)) from error
    if (slash and NO_KEY.search(text)) or not bucket:
        reason = "its key has an empty part, '.', '..' or a control character: rename it"
        raise OSError(errno.EINVAL, reason, shown(key))
    return ObjectPath((scheme + b"://" + bucket).decode(), text)


def opened_object(key: bytes) -> ObjectReader:
    """Open the version of an object that is there.

    Raises:
        OSError: It cannot be read.
        StoreError: The store cannot be reached as configured.
    """
    place = place_of(key)
    return ObjectReader(bucket_of(place.uri).store, place.key, str(place))


def attributes(
    keys: Sequence[bytes], patience: Patience = ORDINARY
) -> Iterator[Attributes | OSError]:
    """Look at objects, many at once.

    Yields:
        For each key what it is, or why that cannot be told; FileNotFoundError for no object.

    Raises:
        StoreError: The store cannot be reached as configured.
    """
    for start in range(0, len(keys), _AHEAD):
        yield from requests().map(partial(_look, patience), keys[start : start + _AHEAD])


def checked(found: Attributes | OSError) -> Attributes | None:
    """Return what is known of an object, None where there is none or none that we may see.

    Its row will say why. Where the store does not answer, every row would, so there is none.

    Raises:
        SourceError: It cannot be told whether there is one.
    """
    if isinstance(found, Attributes):
        return found
    if isinstance(found, FileNotFoundError | PermissionError) or found.errno == errno.EINVAL:
        return None
    raise SourceError(
        f"cannot look at {found.filename}: {found.strerror}. Run the same command again once the "
        "store answers."
    ) from found


@cache
def _requests(_process: int) -> RequestThreads:
    return RequestThreads(REQUESTS)


def requests() -> RequestThreads:
    """The threads of this process that wait for answers."""
    return _requests(os.getpid())


def _look(patience: Patience, key: bytes) -> Attributes | OSError:
    import obstore

    try:
        place = place_of(key)
        store = bucket_of(place.uri).store_with(patience)
        with store_errors(shown(key)):
            meta = obstore.head(store, place.key)
    except OSError as error:
        return error
    return Attributes(meta["size"], version_ns(meta["last_modified"], meta["e_tag"]))
