"""What is there under the names that a user gives: a file, a directory, or nothing.

A bucket has no directories, only keys with slashes. A name with a slash at its end is a directory
there, and so is one that is no object and does not end like a file.
"""
# ruff: noqa: PTH112 - pathlib refuses bytes

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from enum import Enum

from shards.bucket import FIRST
from shards.errors import SourceError
from shards.object_probe import remedy_of
from shards.sources.braces import has_braces
from shards.sources.bucket_pages import has_below
from shards.sources.located import path_of
from shards.sources.objects import Attributes, attributes
from shards.sources.pattern import is_pattern

__all__ = ["PathKind", "bucket_name", "kinds_of"]


class PathKind(Enum):
    """What is there."""

    FILE = "file"
    DIRECTORY = "directory"


def kinds_of(names: Sequence[str], suffixes: tuple[bytes, ...]) -> list[PathKind | None]:
    """Look at names; objects many at once.

    Args:
        names: Either all of them paths, or all of them URIs that are not percent-encoded.
        suffixes: As files end, in lower case.

    Returns:
        What each is, None for nothing.

    Raises:
        SourceError: That cannot be told.
        StoreError: A store cannot be reached as configured.
    """
    if "://" not in names[0]:
        return [_local_kind(path_of(name)) for name in names]
    keys = [path_of(name) for name in names]
    is_prefix = [n.endswith("/") or bucket_name(k) == k for n, k in zip(names, keys, strict=True)]
    asked = [key for key, is_one in zip(keys, is_prefix, strict=True) if not is_one]
    found = attributes(asked, FIRST)
    return [
        PathKind.DIRECTORY if is_one else _remote_kind(name, key, next(found), suffixes)
        for name, key, is_one in zip(names, keys, is_prefix, strict=True)
    ]


def bucket_name(key: bytes) -> bytes:
    """Return the key of the bucket that an object lies in; nothing for a local file."""
    return b"/".join(key.split(b"/")[:3]) if b"://" in key else b""


def _local_kind(path: bytes) -> PathKind | None:
    if not os.path.lexists(path):
        return None
    return PathKind.DIRECTORY if os.path.isdir(path) else PathKind.FILE


def _remote_kind(
    name: str, key: bytes, found: Attributes | OSError, suffixes: tuple[bytes, ...]
) -> PathKind | None:
    ends_like_file = key.lower().endswith(suffixes)
    if isinstance(found, Attributes):
        return PathKind.FILE
    if isinstance(found, PermissionError):
        # Who may not list is told the same of an object that is not there.
        return PathKind.FILE if ends_like_file else PathKind.DIRECTORY
    if not isinstance(found, FileNotFoundError):
        at = f"{name}: {found.strerror}"
        if found.errno == errno.EINVAL and not ends_like_file and not is_pattern(name):
            raise SourceError(f"{at}.") from found
        if found.errno != errno.EINVAL:
            remedy = remedy_of(str(found.strerror), name)
            raise SourceError(f"cannot look at {at}. {remedy}.") from found
        return None
    if ends_like_file or is_pattern(name) or has_braces(name):
        return PathKind.DIRECTORY if has_below(key) else None
    return PathKind.DIRECTORY
