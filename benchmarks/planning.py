"""Measures listing and planning against the file system's own cost of listing and stat.

    python -m benchmarks.planning IMAGES [--repeats 5] [--make 200000]

Prints the best of the repeats, in milliseconds: the bare walk (os.scandir and stat of every file),
Nightshift's listing, listing and first plan, listing and planning again with every image covered,
with one image new, with 1 % changed all over, with 1 % gone and pruned, and reading all shards
back. Then what this takes in memory. Plans go to a temporary directory.
"""

from __future__ import annotations

import os
import resource
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import cyclopts
import numpy as np

from shards.inputs import InputBatch
from shards.listing import Listing, list_directory
from shards.local_tree import LocalTree
from shards.output import OutputTree
from shards.plan import PlanLog, PlanUpdate, Prune, ShardRef

__all__ = ["main"]

EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
SHARD_SIZE = 10_000


def main(images: Path, *, repeats: int = 5, make: int | None = None) -> None:
    """Print the table.

    Args:
        images: Directory of image files; only their names, sizes and times are read.
        repeats: Runs of each measurement.
        make: Make so many empty files there first, 1,000 in a directory.
    """
    if make is not None:
        make_files(images, make)
    root = os.fsencode(images)
    with tempfile.TemporaryDirectory() as parent:
        trees = [LocalTree.create(Path(parent) / str(run)) for run in range(repeats + 1)]
        planned = trees[-1]
        fresh = iter(trees)
        update = extend(root, planned)
        rows = {
            "scandir and stat": best(repeats, lambda: walk(root)),
            "listing": best(repeats, lambda: deque(listing(root), maxlen=0)),
            "listing, first plan": best(repeats, lambda: extend(root, next(fresh))),
            "listing, all planned": best(repeats, lambda: extend(root, planned)),
        }
        numbers = iter(range(10 * repeats))
        changes: dict[str, Callable[[int], Callable[[InputBatch], InputBatch]]] = {
            "listing, one image new": with_a_new_one,
            "listing, 1 % changed": with_changes,
            "listing, 1 % gone, pruned": without_some,
        }
        for name, change in changes.items():
            rows[name] = best(repeats, partial(extend_changed, root, planned, change, numbers))
        rows["reading the shards"] = best(repeats, lambda: read(planned, update.shards))
    base = rows["scandir and stat"]
    print(f"{update.inputs:,} images\n\n| step | ms | of scandir and stat |\n| --- | --- | --- |")
    for name, seconds in rows.items():
        print(f"| {name} | {seconds * 1000:,.0f} | {seconds / base:.2f} |")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"\npeak resident memory: {peak:,.0f} MiB")


def make_files(images: Path, count: int) -> None:
    """Make empty files with the names of images."""
    for number in range(count):
        if number % 1000 == 0:
            directory = images / f"{number // 1000:05d}"
            directory.mkdir(parents=True, exist_ok=True)
        (directory / f"image-{number:08d}.jpg").touch()


def with_a_new_one(number: int) -> Callable[[InputBatch], InputBatch]:
    """Add an image to the listing, after the first that is listed."""
    added = False

    def change(batch: InputBatch) -> InputBatch:
        nonlocal added
        if added:
            return batch
        added = True
        keys = [batch.keys[0], batch.keys[0] + b"-%d.jpg" % number, *batch.keys[1:]]
        arrays = (batch.sizes, batch.mtimes_ns, batch.offsets)
        return InputBatch(keys, *(np.insert(array, 1, 0) for array in arrays))

    return change


def with_changes(number: int) -> Callable[[InputBatch], InputBatch]:
    """Give every hundredth image another time."""

    def change(batch: InputBatch) -> InputBatch:
        times = batch.mtimes_ns.copy()
        times[number % 100 :: 100] += 1 + number
        return InputBatch(batch.keys, batch.sizes, times, batch.offsets)

    return change


def without_some(number: int) -> Callable[[InputBatch], InputBatch]:
    """Leave every hundredth image out."""

    def change(batch: InputBatch) -> InputBatch:
        left = np.ones(len(batch), np.bool_)
        left[number % 100 :: 100] = False
        keys = [batch.keys[row] for row in np.flatnonzero(left)]
        arrays = (batch.sizes, batch.mtimes_ns, batch.offsets)
        return InputBatch(keys, *(array[left] for array in arrays))

    return change


def best(repeats: int, work: Callable[[], object]) -> float:
    """Return the shortest time of some runs, in seconds."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def walk(directory: bytes) -> int:
    """Stat every file below a directory in the cheapest way there is in Python."""
    count = 0
    with os.scandir(directory) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                count += walk(entry.path)
            else:
                status = entry.stat(follow_symlinks=False)
                count += status.st_size >= 0 and status.st_mtime_ns is not None
    return count


def listing(root: bytes) -> Listing:
    """List the images."""
    return list_directory(root, extensions=EXTENSIONS)


def extend(
    root: bytes, tree: OutputTree, change: Callable[[InputBatch], InputBatch] | None = None
) -> PlanUpdate:
    """List and plan; with a change to what is listed, prune as well."""
    found = listing(root)
    return plan_log(tree).extend(
        found if change is None else map(change, found),
        root=found.root,
        shard_size=SHARD_SIZE,
        run_id="benchmark",
        prune=None if change is None else Prune(gone=lambda keys: [True] * len(keys), limit=1.0),
    )


def extend_changed(
    root: bytes,
    tree: OutputTree,
    change: Callable[[int], Callable[[InputBatch], InputBatch]],
    numbers: Iterator[int],
) -> PlanUpdate:
    """List and plan what has changed in another way than ever before."""
    return extend(root, tree, change(next(numbers)))


def plan_log(tree: OutputTree) -> PlanLog:
    """Open the log, with nothing of it in memory."""
    return PlanLog(tree, tool_version="benchmark")


def read(tree: OutputTree, shards: Sequence[ShardRef]) -> None:
    """Read every shard's images."""
    log = plan_log(tree)
    for shard in shards:
        log.read(shard)


if __name__ == "__main__":
    cyclopts.run(main)
