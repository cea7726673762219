"""An output in a bucket.

A file is written on the local disk, and put under its final key in one request that fails if the
key is taken (If-None-Match: *). A file that is rewritten is put on the condition that the very
version is there that it was made from (If-Match; Google's generation). An object is there whole or
not at all, and for every reader once the request has returned, so nothing else is needed: no
directories, no locks, no multipart upload. Stores that pass over the conditions are found out by
`create`, and refused.
"""

from __future__ import annotations

import mmap
import os
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from shards.ahead import read_ahead
from shards.errors import OutputError
from shards.object_path import ObjectPath, Version
from shards.object_probe import is_anything_below, prove_conditions
from shards.object_write import Data, create, overwrite, update
from shards.output import Identity, OutputTree, StagedFile, output_errors
from shards.place import Place
from shards.staging import remove_abandoned, staged_in

__all__ = ["ObjectTree"]

Item = TypeVar("Item")
Found = TypeVar("Found")

READERS = 16
"""Requests at once: an answer takes some 30 ms, whatever else is asked."""


@dataclass(frozen=True, slots=True)
class ObjectTree(OutputTree):
    """An output below a prefix.

    Attributes:
        prefix: OUT.
    """

    prefix: ObjectPath

    @classmethod
    def create(cls, prefix: ObjectPath, *, proven: bool = False) -> ObjectTree:
        """Prove that the store keeps to conditions, unless that was proven; make room for staging.

        Raises:
            OutputError: There is no room for staging.
            StoreError: The bucket is not there or cannot be written as configured, or its store
                lets two runs overwrite each other's files.
        """
        tree = cls(prefix)
        with output_errors("make room for files in the making in", tree.staging):
            _make_own(tree.staging)
            remove_abandoned(tree.staging)
        if not proven:
            prove_conditions(prefix)
        return tree

    @property
    def root(self) -> ObjectPath:
        """OUT."""
        return self.prefix

    @property
    def staging(self) -> Path:
        """This user's directory for temporary files."""
        return Path(tempfile.gettempdir()) / f"nightshift-{os.getuid()}"

    def is_there(self) -> bool:
        """Whether a run has begun to write here; raises StoreError where there is no bucket."""
        return is_anything_below(self.prefix, _object(self.plans))

    def plans_after(self, number: int) -> list[int]:
        """Return the numbers of the plans that come after one, in order; in one request."""
        last = self.plan_path(number).name
        stems = [path.stem for path in _object(self.plans).iterdir_after(last)]
        return sorted(int(stem) for stem in stems if stem.isdecimal())

    def ahead(self, read: Callable[[Item], Found], items: Iterable[Item]) -> Iterator[Found]:
        """Call a function for each of many items, some at a time; yields in their order."""
        return read_ahead(read, items, threads=READERS)

    def stage(self, name: str) -> AbstractContextManager[StagedFile]:
        """Open a new file on the local disk."""
        return staged_in(self.staging, name)

    def publish(self, staged: StagedFile, final: Place) -> bool:
        """Put a complete staged file under its final key, unless that is taken."""
        with output_errors("write", final), _bytes_of(staged) as data:
            return create(data, _object(final))

    def identity(self, final: Place) -> Identity | None:
        """Tell which object has a key now, by ETag and version."""
        with output_errors("read", final):
            return _object(final).version()

    def swap(self, staged: StagedFile, final: Place, expected: Identity) -> bool:
        """Put a complete staged file in place of a certain version."""
        version = Version(*expected)  # type: ignore[arg-type]  # of `identity`
        with output_errors("write", final), _bytes_of(staged) as data:
            return update(data, _object(final), version)

    def replace(self, staged: StagedFile, final: Place) -> None:
        """Put a complete staged file under its final key, in place of what is there."""
        with output_errors("write", final), _bytes_of(staged) as data:
            overwrite(data, _object(final))

    def left_in_staging(self) -> Iterator[Path]:
        """Yield nothing: what is in the making lies on the machine that makes it."""
        return iter(())


def _object(final: Place) -> ObjectPath:
    """What the names of an output in a bucket are."""
    assert isinstance(final, ObjectPath)
    return final


@contextmanager
def _bytes_of(staged: StagedFile) -> Iterator[Data]:
    """Map a file into memory: what is uploaded takes no more than pages of the cache.

    It is not unmapped here: a request that was left behind by a signal may still read it.
    """
    staged.file.flush()
    with open(staged.path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        yield mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if size else b""


def _make_own(directory: Path) -> None:
    """Make a directory that no other user can put anything into, or see."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = directory.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
        raise OutputError(
            f"{directory} belongs to another user: remove it, or set TMPDIR to a directory of "
            "your own."
        )
    if stat.S_IMODE(status.st_mode) & 0o077:
        directory.chmod(0o700)
