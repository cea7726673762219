"""Files wherever they lie, by key: a path of this machine, or the URI of an object."""
# ruff: noqa: PTH113, PTH116 - pathlib refuses bytes

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from typing import BinaryIO, cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from shards.listing import absolute
from shards.names import key_of
from shards.sources.objects import attributes, checked, is_object, key_of_uri, opened_object

__all__ = [
    "are_files",
    "attributes_of",
    "directory_above",
    "named_by",
    "opened_arrow",
    "opened_binary",
    "path_of",
    "root_of",
    "tidy",
]

READ_AHEAD_BYTES = 1 << 20
"""Of an object, for whoever reads a table front to back."""


def opened_binary(key: bytes) -> BinaryIO:
    """Open a file for reading; raises OSError."""
    if is_object(key):
        return cast(BinaryIO, io.BufferedReader(opened_object(key), READ_AHEAD_BYTES))
    return open(key, "rb")


def opened_arrow(key: bytes) -> pa.NativeFile:
    """Open a file for pyarrow's readers; raises OSError."""
    if is_object(key):
        return pa.PythonFile(opened_binary(key), mode="r")
    return pa.OSFile(key)


def attributes_of(keys: Sequence[bytes]) -> NDArray[np.int64]:
    """Look at files, objects many at once.

    Args:
        keys: Either all of objects, or all of local files.

    Returns:
        int64 [2, len(keys)], size and mtime_ns; zeros where there is none: its row will say why it
        cannot be read.

    Raises:
        SourceError: A store does not answer.
    """
    if keys and is_object(keys[0]):
        found = [checked(each) or (0, 0) for each in attributes(keys)]
    else:
        found = [_local_attributes(key) for key in keys]
    return np.array(found, np.int64).reshape(len(keys), 2).T


def are_files(keys: Sequence[bytes]) -> list[bool]:
    """Say which are files, or links to one, or objects; as `attributes_of`."""
    if keys and is_object(keys[0]):
        return [checked(each) is not None for each in attributes(keys)]
    return [os.path.isfile(key) for key in keys]


def root_of(text: str) -> bytes:
    """Return the key of a directory that the user named by a path or a URI."""
    return path_of(named_by(text))


def named_by(text: str) -> str:
    """Return a path as it is, and a URI without its percent-encoding; patterns stay patterns.

    Raises:
        ValueError: It is a URI of another machine's file.
    """
    if "://" not in text:
        return text
    if text.lower().startswith("file://"):
        return os.fsdecode(key_of(text))
    return os.fsdecode(key_of_uri(os.fsencode(text), members=False))


def path_of(name: str) -> bytes:
    """Return the key of a file or directory: absolute, without a slash at its end."""
    key = os.fsencode(name)
    return key.rstrip(b"/") if "://" in name else absolute(key)


def directory_above(keys: Sequence[bytes]) -> bytes:
    """Return the nearest directory or prefix that holds all files; of one bucket, if any."""
    parts = [key.split(b"/")[:-1] for key in keys]
    first, last = min(parts), max(parts)
    count = next(
        (n for n, pair in enumerate(zip(first, last, strict=False)) if pair[0] != pair[1]),
        min(len(first), len(last)),
    )
    return b"/".join(first[:count]) or b"/"


def tidy(key: bytes) -> bytes:
    """Resolve `.` and `..` of a path; a URI keeps its bucket."""
    if not is_object(key):
        return absolute(key)
    scheme, _, rest = key.partition(b"://")
    bucket, _, name = rest.partition(b"/")
    return scheme + b"://" + bucket + os.path.normpath(b"/" + name).replace(b"//", b"/", 1)


def _local_attributes(path: bytes) -> tuple[int, int]:
    try:
        status = os.stat(path)
    except OSError:
        return 0, 0
    return status.st_size, status.st_mtime_ns
