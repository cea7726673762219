"""The output tree: where everything lies, and how a file comes to its final name.

    OUT/predictions/model=<model_id>/<shard>.parquet   finished files only: the analysts' table
    OUT/runs/<run_id>/run.json                         the record of a run, written last
    OUT/state/staging/                                 files in the making, never `*.parquet`
    OUT/state/plans/<n>.parquet                        the plan log (shards/plan.py)
    OUT/state/columns.json                             the optional columns (shards/columns.py)
    OUT/state/locks/

Readers of `predictions/**/*.parquet` open whatever they find there: polars and DuckDB also read
names that begin with `.` or `_`. So nothing is ever made there. A file is written in staging,
flushed to the device, and then given its final name in one step that fails if the name is taken:
link(2), or renameat2(RENAME_NOREPLACE) on file systems without hard links. That step is what keeps
two runs from harming each other. A file that is rewritten takes the place of the one that it was
made from, or nothing's: rename(2) after a comparison, under a lock that is held for no longer.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote
from uuid import uuid4

from shards.errors import OutputError
from shards.exclusive import (
    has_hard_links,
    link,
    make_directory,
    rename_noreplace,
    sync_directory,
)
from shards.locks import locked

__all__ = ["Identity", "OutputTree", "StagedFile", "output_errors"]

Identity = tuple[int, int, int]
"""Which file has a name: inode, time of its last change in nanoseconds, size."""

# A shard is minutes of work: a day is far beyond any writer that still runs, and if one does
# (stopped and woken), it finds its shard published by somebody else or computes it again.
STAGING_MAX_AGE_S = 24 * 3600.0

# What readers of hive partitions would take for syntax: `%41` for an A, `=` for another key.
_HIVE_SYNTAX = re.compile(r"[%=/\x00-\x1f\x7f]")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+@-]*")

_REMEDIES = {
    errno.ENOSPC: "The disk is full: free space",
    errno.EDQUOT: "The disk quota is used up: free space or raise the quota",
    errno.EROFS: "The file system is read-only: remount it or choose another --output",
    errno.EACCES: "Give this user permission to write there, or choose another --output",
    errno.EPERM: "Give this user permission to write there, or choose another --output",
    errno.EEXIST: "Part of that path is a file: choose another --output",
    errno.ENOTDIR: "Part of that path is a file: choose another --output",
    errno.EIO: "The device reports an I/O error: check the disk and the kernel log",
    errno.ESTALE: "The network file system lost the file: check the mount",
    errno.EMFILE: "Too many files are open: raise `ulimit -n`",
    errno.EXDEV: "Parts of the output lie on different file systems: choose an --output on one",
}


@contextmanager
def output_errors(doing: str, path: Path) -> Iterator[None]:
    """Turn an OSError of the block into an OutputError that names the path and what to do.

    Args:
        doing: What the block does, as in 'cannot <doing> <path>'.
        path: The file or directory that the user knows.
    """
    try:
        yield
    except OSError as error:
        remedy = _REMEDIES.get(error.errno or 0, "Remove the cause")
        reason = error.strerror or str(error)
        raise OutputError(
            f"cannot {doing} {path}: {reason}. {remedy}, then run the same command again: "
            "finished shards are kept."
        ) from error


@dataclass(frozen=True, slots=True)
class StagedFile:
    """A file in the making; exists for the length of its `with` block.

    Attributes:
        path: Where it lies until it is published.
        file: Open for writing; `publish` and `replace` flush and sync it.
    """

    path: Path
    file: BinaryIO


@dataclass(frozen=True, slots=True)
class OutputTree:
    """Paths below one OUT, and the two ways to write a file there.

    The constructor touches nothing, for those who only read; `create` is for those who write.

    Attributes:
        root: OUT, absolute.
        hard_links: Whether the file system has link(2); found by `create`.
    """

    root: Path
    hard_links: bool = True

    @classmethod
    def create(cls, root: Path) -> OutputTree:
        """Make the directories, prove that the file system can do what is needed, clear staging.

        Raises:
            OutputError: OUT is a file, cannot be written, or lies on a file system on which two
                runs could overwrite each other's files.
        """
        tree = cls(Path(os.path.abspath(root)))  # noqa: PTH100 - resolve() would follow links
        with output_errors("create the output directory", tree.root):
            for directory in (tree.predictions, tree.runs, tree.staging, tree.plans, tree.locks):
                directory.mkdir(parents=True, exist_ok=True)
        with output_errors("write below the output directory", tree.root):
            _remove_abandoned(tree.staging)
            return cls(tree.root, hard_links=has_hard_links(tree.staging))

    @property
    def predictions(self) -> Path:
        """The analysts' table."""
        return self.root / "predictions"

    @property
    def runs(self) -> Path:
        """Records of runs."""
        return self.root / "runs"

    @property
    def staging(self) -> Path:
        """Files in the making."""
        return self.root / "state" / "staging"

    @property
    def plans(self) -> Path:
        """The plan log."""
        return self.root / "state" / "plans"

    @property
    def columns(self) -> Path:
        """The record of the table's optional columns."""
        return self.root / "state" / "columns.json"

    @property
    def locks(self) -> Path:
        """Lock files."""
        return self.root / "state" / "locks"

    def shard_path(self, model_id: str, shard_id: str) -> Path:
        """Final path of one shard's rows; `%`, `=` and `/` in model_id are percent-encoded."""
        partition = _HIVE_SYNTAX.sub(lambda found: quote(found[0], safe=""), model_id)
        return self.predictions / f"model={partition}" / f"{_checked(shard_id)}.parquet"

    def plan_path(self, number: int) -> Path:
        """Path of one plan, numbered from 1."""
        return self.plans / f"{number:06d}.parquet"

    def run_path(self, run_id: str) -> Path:
        """Directory of one run's record."""
        return self.runs / _checked(run_id)

    @contextmanager
    def stage(self, name: str) -> Iterator[StagedFile]:
        """Open a new file in staging, and remove it at the end of the block, come what may.

        Its permissions are those that umask leaves of 0666 (mkstemp would make it 0600, which
        the analysts could not read).

        Raises:
            OutputError: The file cannot be created.
        """
        path = self.staging / f"{name}.{uuid4().hex}.inprogress"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        with output_errors("create a file in", self.staging):
            descriptor = os.open(path, flags, 0o666)
        try:
            with os.fdopen(descriptor, "wb") as file:
                yield StagedFile(path, file)
        finally:
            # What cannot be removed now, the next run's start removes.
            with suppress(OSError):
                path.unlink()

    def publish(self, staged: StagedFile, final: Path) -> bool:
        """Give a complete staged file its final name, unless that name is taken.

        When this returns True, the file survives a power cut: its bytes are synced before the
        name exists, the directory after.

        Returns:
            Whether this file was published; False where `final` exists already.

        Raises:
            OutputError: The file system failed. Nothing, or the complete file, lies under `final`.
        """
        place = link if self.hard_links else rename_noreplace
        with output_errors("write", final):
            _sync(staged)
            make_directory(final.parent)
            try:
                published = place(staged.path, final)
            except FileNotFoundError:
                # A writer that was stopped for a day finds its staged file removed as abandoned.
                if not final.exists():
                    raise
                return False
            # Also for the other run's file: the caller will count on it.
            sync_directory(final.parent)
            return published

    def identity(self, final: Path) -> Identity | None:
        """Tell which file has a name now; None where there is none.

        Raises:
            OutputError: The file system failed.
        """
        with output_errors("read", final):
            try:
                status = final.stat()
            except FileNotFoundError:
                return None
        return status.st_ino, status.st_mtime_ns, status.st_size

    def swap(self, staged: StagedFile, final: Path, expected: Identity) -> bool:
        """Give a complete staged file its final name, in place of one certain file.

        Compares and renames under a short lock, so that of two that replace the same file only
        one does. Readers see the old file or the new one.

        Returns:
            Whether it was done; False where another file has the name by now, or none.

        Raises:
            LockedError: Another process holds the lock, and does not go on.
            OutputError: The file system failed. The old or the new file lies under `final`,
                complete.
        """
        with output_errors("write", final):
            _sync(staged)
            with locked(self.locks / f"{final.stem}.lock"):
                if self.identity(final) != expected:
                    return False
                try:
                    staged.path.replace(final)
                except FileNotFoundError:
                    # A writer that was stopped for a day finds its staged file removed.
                    return False
                sync_directory(final.parent)
        return True

    def replace(self, staged: StagedFile, final: Path) -> None:
        """Give a complete staged file its final name, in place of what is there.

        Raises:
            OutputError: The file system failed. The old or the new file lies under `final`,
                complete.
        """
        with output_errors("write", final):
            _sync(staged)
            make_directory(final.parent)
            staged.path.replace(final)
            sync_directory(final.parent)


def _checked(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} cannot name a file of the output: expected {_NAME.pattern}")
    return name


def _sync(staged: StagedFile) -> None:
    staged.file.flush()
    os.fsync(staged.file.fileno())


def _remove_abandoned(staging: Path) -> None:
    """Remove files that killed writers left, by the file system's clock (NFS has its own)."""
    mark = staging / f"clock.{uuid4().hex}.inprogress"
    mark.touch(exist_ok=False)
    try:
        oldest = mark.stat().st_mtime - STAGING_MAX_AGE_S
    finally:
        mark.unlink(missing_ok=True)
    for path in staging.iterdir():
        # Another run may remove the same file first; another user's file is left to them.
        with suppress(OSError):
            if path.stat(follow_symlinks=False).st_mtime < oldest:
                path.unlink()
