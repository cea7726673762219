"""Which images stand for all: chosen by a hash of their names, wherever they lie.

The first N of a listing would be one folder, one camera or one class. A hash of the name relative
to its directory orders images as if at random: the same on every machine and on every day, and a
growing archive keeps most of its sample.

Calibration takes images from the front of that order, the accuracy gate from its end. So the gate
sees images that the scales were not fitted to, as long as there are enough for both.
"""

from __future__ import annotations

import hashlib
import heapq
import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from shards.inputs import ShardInputs
from shards.listing import list_directory
from shards.names import SEPARATOR
from shards.plan import PlanLog
from shards.shard_ref import ShardRef
from shards.sources.reading import stored_items
from shards.stored import Item

__all__ = ["Candidate", "Sample", "draw", "in_directory", "in_shards", "real_paths", "targets"]

SPARE = 2
"""Candidates for each image wanted: up to half of them may turn out to be damaged."""

MAX_SHARDS = 32
"""Of a plan, that are looked into: some hundred thousand names, which takes a second."""


@dataclass(frozen=True, slots=True, order=True)
class Candidate:
    """An image that may be taken.

    Attributes:
        rank: Its place in the order, 0 to 2**64 - 1: a hash of `name`.
        name: Path relative to its directory.
        path: Its key: the absolute path of a file.
        size: Bytes, when it was listed.
        mtime_ns: When it was last changed, nanoseconds since the epoch.
        offset: Where it begins in its archive.
        column: Of tables with images; None finds it.
    """

    rank: int
    name: bytes
    path: bytes
    size: int
    mtime_ns: int
    offset: int = 0
    column: str | None = None

    def stored(self) -> Item:
        """Where its bytes are; has those fetched that do not lie in a file of this machine."""
        size, mtime_ns, offset = (
            np.array([value]) for value in (self.size, self.mtime_ns, self.offset)
        )
        # A root that no key begins with: links were judged when the image was listed.
        inputs = ShardInputs(ShardRef(0, 0, 1, ""), SEPARATOR, [self.path], size, mtime_ns, offset)
        return next(stored_items(inputs, image_column=self.column))


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Both ends of the order.

    Attributes:
        front: The first of the order, for calibration.
        back: The last of the order, the very last first, for the gate. Where images are few, the
            two ends overlap.
        available: Images in all.
    """

    front: tuple[Candidate, ...]
    back: tuple[Candidate, ...]
    available: int


def draw(candidates: Iterable[Candidate], *, front: int, back: int) -> Sample:
    """Take both ends of the order, without holding what lies between.

    Args:
        candidates: In any order; read once.
        front: Images wanted for calibration; twice as many are given, for some may be damaged.
        back: Images wanted for the gate; likewise.
    """
    first, last = _Largest(SPARE * front, sign=-1), _Largest(SPARE * back, sign=1)
    available = 0
    for candidate in candidates:
        available += 1
        first.offer(candidate)
        last.offer(candidate)
    return Sample(front=first.taken(), back=last.taken(), available=available)


def in_directory(
    directory: bytes, *, extensions: Collection[str], recursive: bool = True
) -> Iterator[Candidate]:
    """Every image file below a directory.

    Raises:
        SourceError: The directory, or one below it, cannot be read.
        NoImagesError: There is no image in it.
    """
    listing = list_directory(directory, extensions=extensions, recursive=recursive)
    for batch in listing:
        sizes, mtimes = batch.sizes.tolist(), batch.mtimes_ns.tolist()
        for path, size, mtime_ns in zip(batch.keys, sizes, mtimes, strict=True):
            yield _candidate(path, listing.root, size, mtime_ns)


def in_shards(
    log: PlanLog, shards: Iterable[ShardRef], image_column: str | None = None
) -> Iterator[Candidate]:
    """Every image of some shards: of all, or of 32 that a hash has chosen among more.

    Args:
        log: The plans.
        shards: Of them.
        image_column: Of tables with images; None finds it.

    Raises:
        OutputError: A plan cannot be read.
    """
    chosen = sorted(shards, key=lambda shard: shard.digest)[:MAX_SHARDS]
    for shard in sorted(chosen):  # one plan after the other: the log keeps the last one open
        yield from _in_shard(log.read(shard), image_column)


def real_paths(candidates: Iterable[Candidate]) -> frozenset[bytes]:
    """Where images lie with all links followed: two names of one file are one image."""
    return frozenset(_real(candidate.path) for candidate in candidates)


def _real(key: bytes) -> bytes:
    container, separator, member = key.partition(SEPARATOR)
    local = container[:1] == b"/"
    return (os.path.realpath(container) if local else container) + separator + member


def targets(candidates: Iterable[Candidate], labels: Mapping[str, int]) -> list[int | None]:
    """The right label of each image, where the folder it lies in is named like one."""
    return [labels.get(_folder(candidate)) for candidate in candidates]


def _folder(candidate: Candidate) -> str:
    parts = candidate.path.rsplit(b"/", 2)
    return parts[-2].decode("utf-8", "replace")


def _in_shard(inputs: ShardInputs, column: str | None) -> Iterator[Candidate]:
    attributes = (inputs.sizes.tolist(), inputs.mtimes_ns.tolist(), inputs.offsets.tolist())
    for path, size, mtime_ns, offset in zip(inputs.keys, *attributes, strict=True):
        yield _candidate(path, inputs.root, size, mtime_ns, offset, column)


def _candidate(
    path: bytes,
    root: bytes,
    size: int,
    mtime_ns: int,
    offset: int = 0,
    column: str | None = None,
) -> Candidate:
    name = path.removeprefix(root.rstrip(b"/") + b"/")
    rank = int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "big")
    return Candidate(rank, name, path, size, mtime_ns, offset, column)


class _Largest:
    """The `limit` candidates of the highest rank, or of the lowest where `sign` is -1."""

    def __init__(self, limit: int, *, sign: int) -> None:
        self._limit = limit
        self._sign = sign
        self._heap: list[tuple[int, Candidate]] = []

    def offer(self, candidate: Candidate) -> None:
        """Keep the candidate if it is among them so far."""
        entry = (self._sign * candidate.rank, candidate)
        if len(self._heap) < self._limit:
            heapq.heappush(self._heap, entry)
        elif self._heap and entry > self._heap[0]:
            heapq.heapreplace(self._heap, entry)

    def taken(self) -> tuple[Candidate, ...]:
        """The extreme one first."""
        return tuple(candidate for _, candidate in sorted(self._heap, reverse=True))
