"""An output in a file system.

A file is written in staging, flushed to the device, and then given its final name in one step that
fails if the name is taken: link(2), or renameat2(RENAME_NOREPLACE) on file systems without hard
links. A file that is rewritten: rename(2) after a comparison, under a lock that is held for no
longer.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from shards.exclusive import (
    has_hard_links,
    link,
    make_directory,
    rename_noreplace,
    sync_directory,
)
from shards.locks import locked
from shards.output import Identity, OutputTree, StagedFile, output_errors
from shards.place import Place
from shards.staging import remove_abandoned, staged_in

__all__ = ["LocalTree"]


@dataclass(frozen=True, slots=True)
class LocalTree(OutputTree):
    """An output below a directory.

    Attributes:
        directory: OUT, absolute.
        hard_links: Whether the file system has link(2); found by `create`.
    """

    directory: Path
    hard_links: bool = True

    @classmethod
    def create(cls, directory: Path) -> LocalTree:
        """Make the directories, prove that the file system can do what is needed, clear staging.

        Raises:
            OutputError: OUT is a file, cannot be written, or lies on a file system on which two
                runs could overwrite each other's files.
        """
        tree = cls(Path(os.path.abspath(directory)))  # noqa: PTH100 - resolve() would follow links
        with output_errors("create the output directory", tree.root):
            for below in ("predictions", "runs", "state/staging", "state/plans", "state/locks"):
                (tree.root / below).mkdir(parents=True, exist_ok=True)
        with output_errors("write below the output directory", tree.root):
            remove_abandoned(tree.staging)
            return cls(tree.root, hard_links=has_hard_links(tree.staging))

    @property
    def root(self) -> Path:
        """OUT, absolute."""
        return self.directory

    @property
    def staging(self) -> Path:
        """Files in the making, never `*.parquet`: on the file system of the table."""
        return self.directory / "state" / "staging"

    @property
    def locks(self) -> Path:
        """Lock files."""
        return self.directory / "state" / "locks"

    def stage(self, name: str) -> AbstractContextManager[StagedFile]:
        """Open a new file in staging."""
        return staged_in(self.staging, name)

    def publish(self, staged: StagedFile, final: Place) -> bool:
        """Give a complete staged file its final name, unless that name is taken.

        Its bytes are synced before the name exists, the directory after.
        """
        place = link if self.hard_links else rename_noreplace
        target = _path(final)
        with output_errors("write", final):
            _sync(staged)
            make_directory(target.parent)
            try:
                published = place(staged.path, target)
            except FileNotFoundError:
                # A writer that was stopped for a day finds its staged file removed as abandoned.
                if not target.exists():
                    raise
                return False
            # Also for the other run's file: the caller will count on it.
            sync_directory(target.parent)
            return published

    def identity(self, final: Place) -> Identity | None:
        """Tell which file has a name now, by inode, time of its last change and size."""
        with output_errors("read", final):
            try:
                status = _path(final).stat()
            except FileNotFoundError:
                return None
        return status.st_ino, status.st_mtime_ns, status.st_size

    def swap(self, staged: StagedFile, final: Place, expected: Identity) -> bool:
        """Compare and rename under a short lock."""
        target = _path(final)
        with output_errors("write", final):
            _sync(staged)
            with locked(self.locks / f"{target.stem}.lock"):
                if self.identity(final) != expected:
                    return False
                try:
                    staged.path.replace(target)
                except FileNotFoundError:
                    # A writer that was stopped for a day finds its staged file removed.
                    return False
                sync_directory(target.parent)
        return True

    def replace(self, staged: StagedFile, final: Place) -> None:
        """Give a complete staged file its final name, in place of what is there."""
        target = _path(final)
        with output_errors("write", final):
            _sync(staged)
            make_directory(target.parent)
            staged.path.replace(target)
            sync_directory(target.parent)

    def left_in_staging(self) -> Iterator[Path]:
        """Yield files in staging, of runs at work or killed."""
        return self.staging.iterdir() if self.staging.is_dir() else iter(())


def _path(final: Place) -> Path:
    """What the names of a local output are."""
    assert isinstance(final, Path)
    return final


def _sync(staged: StagedFile) -> None:
    staged.file.flush()
    os.fsync(staged.file.fileno())
