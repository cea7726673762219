"""From what the user called OUT to an output tree."""

from __future__ import annotations

from pathlib import Path

from shards.bucket import SCHEMES
from shards.local_tree import LocalTree
from shards.output import OutputTree

__all__ = ["create_tree", "is_remote", "open_tree"]


def is_remote(text: str) -> bool:
    """Whether a text names what lies in a bucket."""
    scheme, separator, _ = text.partition("://")
    return bool(separator) and scheme.lower() in SCHEMES


def create_tree(text: str, *, proven: bool = False) -> OutputTree:
    """Open an output for writing, and make it where it is missing.

    Args:
        text: A directory, or `s3://bucket/prefix`.
        proven: Whether another process of this run has seen that the bucket is good: then a store
            that fails for some seconds is no reason to give up.

    Raises:
        OutputError: It cannot be written, or not safely by two runs at once.
        StoreError: The object store cannot be reached as configured.
    """
    if not is_remote(text):
        return LocalTree.create(Path(text))
    from shards.object_path import ObjectPath
    from shards.object_tree import ObjectTree

    return ObjectTree.create(ObjectPath.of(text), proven=proven)


def open_tree(text: str) -> OutputTree:
    """Open an output for reading; nothing is touched, and it need not be there.

    Args:
        text: As for `create_tree`.
    """
    if not is_remote(text):
        return LocalTree(Path(text).absolute())
    from shards.object_path import ObjectPath
    from shards.object_tree import ObjectTree

    return ObjectTree(ObjectPath.of(text))
