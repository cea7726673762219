"""The same files in a directory and in a bucket, and what sources make of both."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa

from shards.inputs import InputBatch, ShardInputs
from shards.names import SEPARATOR
from shards.shard_ref import ShardRef
from shards.sources.parse import InputFormat, open_sources
from shards.sources.reading import stored_items
from shards.sources.source import ListingOptions, Source
from shards.stored import Stored
from tests.simulators.small_store import SmallStore

__all__ = ["content_of", "fill", "keys_in", "listed", "opened", "options", "read", "shard_of"]


def fill(store: SmallStore, directory: Path) -> None:
    """Make a bucket hold what a directory does, and nothing else."""
    store.blobs.clear()
    for path in directory.rglob("*"):
        if path.is_file():
            store.put(path.relative_to(directory).as_posix(), path.read_bytes(), {})


def options(**changes: object) -> ListingOptions:
    return ListingOptions(**{"extensions": (".jpg", ".png"), **changes})


def opened(given: str | list[str], format: InputFormat = "auto", **changes: object) -> list[Source]:
    return open_sources([given] if isinstance(given, str) else given, options(**changes), format)


def listed(source: Source, limit: int | None = None) -> InputBatch:
    """Everything of a source; its order is checked."""
    batches = list(source.batches(limit))
    keys = [key for batch in batches for key in batch.keys]
    assert keys == sorted(set(keys))
    return InputBatch.from_table(pa.concat_tables([batch.to_table() for batch in batches]))


def shard_of(source: Source, batch: InputBatch) -> ShardInputs:
    ref = ShardRef(1, 0, max(len(batch), 1), "")
    return ShardInputs(
        ref, source.root, batch.keys, batch.sizes, batch.mtimes_ns, batch.offsets, batch.extras
    )


def read(source: Source, batch: InputBatch | None = None, **limits: int) -> dict[bytes, object]:
    """Key to bytes or error_kind of every image, as a shard would be read."""
    batch = listed(source) if batch is None else batch
    found: dict[bytes, object] = {}
    # All are asked for before the first is taken, as a batch does.
    items = list(stored_items(shard_of(source, batch), **limits))
    for key, item in zip(batch.keys, items, strict=True):
        arrived = item.taken() if hasattr(item, "taken") else item
        found[key] = content_of(arrived) if isinstance(arrived, Stored) else arrived.kind.value
    return found


def content_of(item: Stored, missing: object = "not_found") -> object:
    """The bytes that a decoder would get; `missing` for no file."""
    if item.content is not None:
        return item.content
    if not os.path.exists(item.path):
        return missing
    with open(item.path, "rb") as file:
        size = 1 << 20 if item.size is None else item.size
        return os.pread(file.fileno(), size, item.offset)


def keys_in(found: Iterable[bytes], root: str) -> set[str]:
    """Keys relative to a root, `!` before a member."""
    prefix = root.encode() + b"/"
    return {key.removeprefix(prefix).replace(SEPARATOR, b"!").decode() for key in found}
