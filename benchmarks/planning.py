"""Measures listing and planning against the file system's own cost of listing and stat.

    python -m benchmarks.planning IMAGES [--repeats 5]

Prints the best of the repeats, in milliseconds: the bare walk (os.scandir and stat of every file),
Nightshift's listing, listing and first plan, listing and planning again with every image covered,
and reading all shards back. Plans go to a temporary directory.
"""

from __future__ import annotations

import os
import resource
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import cyclopts

from shards.listing import Listing, list_directory
from shards.output import OutputTree
from shards.plan import PlanLog, PlanUpdate, ShardRef

__all__ = ["main"]

EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
SHARD_SIZE = 10_000


def main(images: Path, *, repeats: int = 5) -> None:
    """Print the table.

    Args:
        images: Directory of image files; only their names, sizes and times are read.
        repeats: Runs of each measurement.
    """
    root = os.fsencode(images)
    with tempfile.TemporaryDirectory() as parent:
        trees = [OutputTree.create(Path(parent) / str(run)) for run in range(repeats + 1)]
        fresh = iter(trees)
        update = extend(root, trees[-1])
        rows = {
            "scandir and stat": best(repeats, lambda: walk(root)),
            "listing": best(repeats, lambda: list(listing(root))),
            "listing, first plan": best(repeats, lambda: extend(root, next(fresh))),
            "listing, all planned": best(repeats, lambda: extend(root, trees[-1])),
            "reading the shards": best(repeats, lambda: read(trees[-1], update.shards)),
        }
    base = rows["scandir and stat"]
    print(f"{update.inputs:,} images\n\n| step | ms | of scandir and stat |\n| --- | --- | --- |")
    for name, seconds in rows.items():
        print(f"| {name} | {seconds * 1000:,.0f} | {seconds / base:.2f} |")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"\npeak resident memory: {peak:,.0f} MiB")


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


def extend(root: bytes, tree: OutputTree) -> PlanUpdate:
    """List and plan."""
    found = listing(root)
    return plan_log(tree).extend(found, root=found.root, shard_size=SHARD_SIZE, run_id="benchmark")


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
