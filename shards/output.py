"""The output tree: where everything lies, and what a file needs to come to its final name.

    OUT/predictions/model=<model_id>/<shard>.parquet   finished files only: the analysts' table
    OUT/runs/<run_id>/run.json                         the record of a run, written last
    OUT/state/plans/<n>.parquet                        the plan log (shards/plan.py)
    OUT/state/columns.json                             the optional columns (shards/columns.py)

Readers of `predictions/**/*.parquet` open whatever they find there: polars and DuckDB also read
names that begin with `.` or `_`. So nothing is ever made there. A file is written in staging and
then given its final name in one step that fails if the name is taken. That step is what keeps two
runs from harming each other. A file that is rewritten takes the place of the one that it was made
from, or nothing's. `shards.local_tree` does it with a file system, `shards.object_tree` with an
object store; `shards.trees` chooses.
"""

from __future__ import annotations

import errno
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeVar
from urllib.parse import quote

from shards.errors import OutputError
from shards.place import Place

__all__ = ["Identity", "OutputTree", "StagedFile", "output_errors"]

Item = TypeVar("Item")
Found = TypeVar("Found")

Identity = tuple[int | str | None, ...]
"""Which file has a name: of a file system inode, time of its last change in nanoseconds and size;
of an object store ETag and version."""

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
    errno.EREMOTEIO: "The object store fails: check endpoint, region, credentials and network",
    errno.ESTALE: "The network file system lost the file: check the mount",
    errno.EMFILE: "Too many files are open: raise `ulimit -n`",
    errno.EXDEV: "Parts of the output lie on different file systems: choose an --output on one",
}


@contextmanager
def output_errors(doing: str, path: Place) -> Iterator[None]:
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
            f"cannot {doing} {path}: {reason.rstrip('.')}. {remedy}, then run the same command "
            "again: finished shards are kept."
        ) from error


@dataclass(frozen=True, slots=True)
class StagedFile:
    """A file in the making; exists for the length of its `with` block.

    Attributes:
        path: Where it lies until it is published; always in a file system.
        file: Open for writing; `publish`, `swap` and `replace` flush it.
    """

    path: Path
    file: BinaryIO


class OutputTree(ABC):
    """Names below one OUT, and the ways to write a file there.

    The constructor of an implementation touches nothing, for those who only read; its `create` is
    for those who write.
    """

    @property
    @abstractmethod
    def root(self) -> Place:
        """OUT, absolute."""

    @property
    @abstractmethod
    def staging(self) -> Path:
        """Directory of files in the making, and of what does not fit into memory."""

    @property
    def predictions(self) -> Place:
        """The analysts' table."""
        return self.root / "predictions"

    @property
    def runs(self) -> Place:
        """Records of runs."""
        return self.root / "runs"

    @property
    def plans(self) -> Place:
        """The plan log."""
        return self.root / "state" / "plans"

    @property
    def columns(self) -> Place:
        """The record of the table's optional columns."""
        return self.root / "state" / "columns.json"

    def shard_path(self, model_id: str, shard_id: str) -> Place:
        """Final path of one shard's rows; `%`, `=` and `/` in model_id are percent-encoded."""
        partition = _HIVE_SYNTAX.sub(lambda found: quote(found[0], safe=""), model_id)
        return self.predictions / f"model={partition}" / f"{_checked(shard_id)}.parquet"

    def plan_path(self, number: int) -> Place:
        """Path of one plan, numbered from 1."""
        return self.plans / f"{number:06d}.parquet"

    def run_path(self, run_id: str) -> Place:
        """Directory of one run's record."""
        return self.runs / _checked(run_id)

    def is_there(self) -> bool:
        """Whether a run has begun to write here.

        Raises:
            OutputError: That cannot be told.
        """
        with output_errors("read", self.root):
            return self.plans.is_dir()

    def files(self) -> Iterator[Place]:
        """Yield whatever lies in the partitions of the table, in no order.

        Raises:
            OutputError: It cannot be listed.
        """
        with output_errors("read", self.predictions):
            for partition in self.predictions.iterdir() if self.predictions.is_dir() else ():
                if partition.is_dir():
                    yield from partition.iterdir()

    def shard_ids(self, model_id: str) -> set[str]:
        """Return the shards of a model that have a file, by the files' names alone.

        Raises:
            OutputError: They cannot be listed.
        """
        partition = self.shard_path(model_id, "any").parent
        with output_errors("read", partition):
            try:
                files = [path for path in partition.iterdir() if path.name.endswith(".parquet")]
            except FileNotFoundError:
                return set()
        return {path.stem for path in files}

    @abstractmethod
    def stage(self, name: str) -> AbstractContextManager[StagedFile]:
        """Open a new file in staging, and remove it at the end of the block, come what may.

        Raises:
            OutputError: The file cannot be created.
        """

    @abstractmethod
    def publish(self, staged: StagedFile, final: Place) -> bool:
        """Give a complete staged file its final name, unless that name is taken.

        When this returns True, the file survives a power cut.

        Returns:
            Whether this file was published; False where `final` exists already.

        Raises:
            OutputError: It failed. Nothing, or the complete file, lies under `final`.
        """

    @abstractmethod
    def identity(self, final: Place) -> Identity | None:
        """Tell which file has a name now; None where there is none.

        Raises:
            OutputError: That cannot be told.
        """

    @abstractmethod
    def swap(self, staged: StagedFile, final: Place, expected: Identity) -> bool:
        """Give a complete staged file its final name, in place of one certain file.

        Of two that replace the same file only one does. Readers see the old file or the new one.

        Returns:
            Whether it was done; False where another file has the name by now, or none.

        Raises:
            LockedError: Another process holds the lock, and does not go on.
            OutputError: It failed. The old or the new file lies under `final`, complete.
        """

    @abstractmethod
    def replace(self, staged: StagedFile, final: Place) -> None:
        """Give a complete staged file its final name, in place of what is there.

        Raises:
            OutputError: It failed. The old or the new file lies under `final`, complete.
        """

    def plans_after(self, number: int) -> list[int]:
        """Return the numbers of the plans that come after one, in order.

        Raises:
            OSError: They cannot be listed.
        """
        stems = [path.stem for path in self.plans.iterdir()]
        return sorted(int(stem) for stem in stems if stem.isdecimal() and int(stem) > number)

    def ahead(self, read: Callable[[Item], Found], items: Iterable[Item]) -> Iterator[Found]:
        """Call a function for each of many items, and yield what it returns, in their order.

        What an implementation reads from afar, it reads some items ahead, in threads. Whatever the
        function raises, is raised at its turn.
        """
        return map(read, items)

    @abstractmethod
    def left_in_staging(self) -> Iterator[Path]:
        """Yield files of this output in staging, of runs at work or killed.

        Raises:
            OSError: It cannot be read.
        """


def _checked(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} cannot name a file of the output: expected {_NAME.pattern}")
    return name
