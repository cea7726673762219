"""Files in the making: they exist for the length of a block, or a day where that was killed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from shards.output import StagedFile, output_errors

__all__ = ["SUFFIX", "remove_abandoned", "staged_in"]

SUFFIX = ".inprogress"
"""No reader of Parquet takes such a name for a file of a table."""

# A shard is minutes of work: a day is far beyond any writer that still runs, and if one does
# (stopped and woken), it finds its shard published by somebody else or computes it again.
MAX_AGE_S = 24 * 3600.0


@contextmanager
def staged_in(directory: Path, name: str) -> Iterator[StagedFile]:
    """Open a new file, and remove it at the end of the block, come what may.

    Its permissions are those that umask leaves of 0666 (mkstemp would make it 0600, which the
    analysts could not read).

    Raises:
        OutputError: The file cannot be created.
    """
    path = directory / f"{name}.{uuid4().hex}{SUFFIX}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    with output_errors("create a file in", directory):
        descriptor = os.open(path, flags, 0o666)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield StagedFile(path, file)
    finally:
        # What cannot be removed now, the next run's start removes.
        with suppress(OSError):
            path.unlink()


def remove_abandoned(directory: Path) -> None:
    """Remove files that killed writers left, by the file system's clock (NFS has its own)."""
    mark = directory / f"clock.{uuid4().hex}{SUFFIX}"
    mark.touch(exist_ok=False)
    try:
        oldest = mark.stat().st_mtime - MAX_AGE_S
    finally:
        mark.unlink(missing_ok=True)
    for path in directory.iterdir():
        # Another run may remove the same file first; another user's file is left to them.
        with suppress(OSError):
            if path.stat(follow_symlinks=False).st_mtime < oldest:
                path.unlink()
