"""Directories in, image files out: streamed, in one order, with nothing lost in silence.

The order is the byte order of full paths. A directory therefore sorts as its name with a slash
(`a.jpg` < `a/b.jpg` < `a0.jpg`), and two listings, or a listing and a plan, can be compared in one
pass without holding either.

Every directory entry is listed, entered, or counted under an IgnoredReason; what cannot be read
raises. Names are bytes, for Linux file names need not be text.
"""
# ruff: noqa: PTH100, PTH110, PTH116, PTH118 - pathlib refuses bytes

from __future__ import annotations

import os
import stat
from bisect import bisect_left
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum

import numpy as np

from shards.errors import NoImagesError, SourceError
from shards.file_statuses import FileStatuses
from shards.inputs import InputBatch
from shards.names import shown
from shards.sources.pattern import PathPattern

__all__ = ["IgnoredReason", "Listing", "absolute", "list_directory", "why_nothing"]

# Rows that are handed on at once: bounds memory (about 200 bytes a row), and makes the planner's
# cost per batch (two binary searches a plan) vanish among that of its rows.
BATCH_ROWS = 65_536


class IgnoredReason(StrEnum):
    """Why a directory entry is neither listed nor entered."""

    SUFFIX = "suffix"
    HIDDEN = "hidden"
    SPECIAL_FILE = "special_file"
    BROKEN_LINK = "broken_link"
    LINK_OUTSIDE = "link_outside"
    LINKED_DIRECTORY = "linked_directory"
    SUBDIRECTORY = "subdirectory"
    OUTPUT = "output"
    VANISHED = "vanished"
    METADATA = "metadata_not_read"


def list_directory(
    root: bytes,
    *,
    extensions: Collection[str],
    recursive: bool = True,
    limit: int | None = None,
    exclude: bytes | None = None,
    pattern: PathPattern | None = None,
) -> Listing:
    """List the image files below a directory, in byte order of their paths.

    Listed are regular files whose name ends in one of the extensions, whatever its case, and links
    to such files that end below the root. Links to directories are not followed, so no loop can
    hang it. Names that begin with a dot and all else are left out and counted.

    Args:
        root: Directory; made absolute, links in it are kept as given.
        extensions: As `.jpg` or `jpg`.
        recursive: Whether to enter subdirectories.
        limit: Stop after so many files; None lists all.
        exclude: A directory that is not entered, by whatever name it is reached: the output,
            which may lie among the images.
        pattern: Only files whose path below the root matches; others are as if they were not there.

    Returns:
        Batches of files, to be iterated once, and counts.

    Raises:
        SourceError: The root is missing, not a directory, cannot be read, or is `exclude`.
    """
    if not extensions or not all(text.strip(".") for text in extensions):
        raise ValueError(f"extensions must be a list as ['.jpg'], not {extensions!r}")
    if limit is not None and limit < 1:
        raise ValueError(f"limit must be at least 1, or None for no limit, not {limit}")
    root = absolute(root)
    excluded = os.stat(exclude) if exclude is not None and os.path.exists(exclude) else None
    _check_root(root, excluded)
    suffixes = tuple(sorted({b"." + text.lower().lstrip(".").encode() for text in extensions}))
    return Listing(
        root, suffixes, recursive=recursive, limit=limit, excluded=excluded, pattern=pattern
    )


class Listing:
    """The image files below one directory, in batches, and then the counts.

    Holds the names in the directories between the root and the current file, and one batch.

    Attributes:
        root: Absolute path of the directory.
        listed: Files handed on so far.
        limit: How many at most; None for all.
        ignored: Entries left out so far, by reason.
    """

    def __init__(
        self,
        root: bytes,
        suffixes: tuple[bytes, ...],
        *,
        recursive: bool,
        limit: int | None,
        excluded: os.stat_result | None,
        pattern: PathPattern | None = None,
    ) -> None:
        self.root = root
        self.listed = 0
        self.ignored: Counter[IgnoredReason] = Counter()
        self._suffixes = suffixes
        self._recursive = recursive
        self.limit = limit
        self._pattern = pattern
        self._excluded = excluded
        # A link is followed only to a place below this one.
        self._home = os.path.join(os.path.realpath(root), b"")

    def __iter__(self) -> Iterator[InputBatch]:
        """Yield batches in byte order.

        Raises:
            SourceError: A directory, or a file's size and time, cannot be read.
            NoImagesError: There is no image; the message says what there is.
        """
        limit = self.limit
        paths: list[bytes] = []
        sizes: list[int] = []
        mtimes: list[int] = []
        with FileStatuses() as statuses:
            for directory, names in self._parts():
                every = [directory + name for name in names]
                if (known := statuses.of(every)) is None:
                    self._stat(directory, names, paths, sizes, mtimes)
                else:
                    paths += every
                    sizes += known[0]
                    mtimes += known[1]
                if limit is not None and self.listed + len(paths) >= limit:
                    left = limit - self.listed
                    yield self._batch(paths[:left], sizes[:left], mtimes[:left])
                    return
                if len(paths) >= BATCH_ROWS:
                    yield self._batch(paths, sizes, mtimes)
                    paths, sizes, mtimes = [], [], []
        if paths:
            yield self._batch(paths, sizes, mtimes)
        if self.listed == 0:
            raise NoImagesError(self.nothing_found())

    def _batch(self, paths: list[bytes], sizes: list[int], mtimes: list[int]) -> InputBatch:
        self.listed += len(paths)
        offsets = np.zeros(len(paths), np.int64)
        return InputBatch(paths, np.array(sizes, np.int64), np.array(mtimes, np.int64), offsets)

    def _parts(self) -> Iterator[tuple[bytes, Sequence[bytes]]]:
        """Yield what `_directories` does, no more names at once than a batch has rows."""
        for directory, names in self._directories():
            for start in range(0, len(names), BATCH_ROWS):
                yield directory, names[start : start + BATCH_ROWS]

    def _directories(self) -> Iterator[tuple[bytes, Sequence[bytes]]]:
        """Yield (directory with slash, sorted names of image files) in byte order of the paths.

        A directory with subdirectories comes in pieces, one before each of them. The stack is
        explicit: depth is bounded by the file system, not by the interpreter.
        """
        stack = [self._pieces(self.root)]
        while stack:
            for directory, names, subdirectory in stack[-1]:
                if names:
                    yield directory, names
                if subdirectory is not None:
                    stack.append(self._pieces(directory + subdirectory))
                    break
            else:
                stack.pop()

    def _pieces(self, directory: bytes) -> Iterator[tuple[bytes, list[bytes], bytes | None]]:
        """Yield (directory, files before the subdirectory, subdirectory), None after the last."""
        prefix = os.path.join(directory, b"")
        files, subdirectories = self._names(directory)
        start = 0
        for subdirectory in subdirectories:
            stop = bisect_left(files, subdirectory, start)
            yield prefix, files[start:stop], subdirectory
            start = stop
        yield prefix, files[start:] if start else files, None

    def _names(self, directory: bytes) -> tuple[list[bytes], list[bytes]]:
        """Return the sorted names to list, and those to enter, which end in a slash."""
        files: list[bytes] = []
        subdirectories: list[bytes] = []
        suffixes, ignored = self._suffixes, self.ignored
        pattern = self._pattern
        below = os.path.join(directory, b"")[len(os.path.join(self.root, b"")) :]
        try:
            with os.scandir(directory) as entries:
                for entry in entries:
                    name = entry.name
                    if name.startswith(b"."):  # editors' and AppleDouble files beside the images
                        ignored[IgnoredReason.HIDDEN] += 1
                    elif pattern is not None and not self._is_meant(pattern, below, entry):
                        continue
                    elif entry.is_file(follow_symlinks=False):
                        if name.endswith(suffixes) or name.lower().endswith(suffixes):
                            files.append(name)
                        else:
                            ignored[IgnoredReason.SUFFIX] += 1
                    elif (reason := self._why_not(entry)) is not None:
                        ignored[reason] += 1
                    elif entry.is_symlink():
                        files.append(name)
                    else:
                        subdirectories.append(name + b"/")
        except FileNotFoundError as error:
            if directory == self.root:
                raise _unreadable(directory, error) from error
            ignored[IgnoredReason.VANISHED] += 1
        except OSError as error:
            raise _unreadable(directory, error) from error
        files.sort()
        subdirectories.sort()
        return files, subdirectories

    def _is_meant(self, pattern: PathPattern, below: bytes, entry: os.DirEntry[bytes]) -> bool:
        """Whether an entry matches, or is a directory on the way to what does."""
        if entry.is_dir(follow_symlinks=False):
            return pattern.may_hold(below + entry.name)
        return pattern.matches(below + entry.name)

    def _why_not(self, entry: os.DirEntry[bytes]) -> IgnoredReason | None:
        """Judge what is no regular file; None for links to list and directories to enter."""
        if entry.is_symlink():
            return self._why_not_link(entry)
        if not entry.is_dir(follow_symlinks=False):
            return IgnoredReason.SPECIAL_FILE
        if not self._recursive:
            return IgnoredReason.SUBDIRECTORY
        if (
            self._excluded is not None
            and entry.inode() == self._excluded.st_ino
            and os.path.samestat(entry.stat(follow_symlinks=False), self._excluded)
        ):
            return IgnoredReason.OUTPUT
        return None

    def _why_not_link(self, entry: os.DirEntry[bytes]) -> IgnoredReason | None:
        """Judge a link; None where it ends at an image file below the root."""
        try:
            target = os.path.realpath(entry.path, strict=True)
            mode = os.stat(target).st_mode
        except OSError:  # dangling, a loop, or through what this user may not read
            return IgnoredReason.BROKEN_LINK
        if stat.S_ISDIR(mode):
            return IgnoredReason.LINKED_DIRECTORY
        if not stat.S_ISREG(mode):
            return IgnoredReason.SPECIAL_FILE
        if not entry.name.lower().endswith(self._suffixes):
            return IgnoredReason.SUFFIX
        return None if target.startswith(self._home) else IgnoredReason.LINK_OUTSIDE

    def _stat(
        self,
        directory: bytes,
        names: Sequence[bytes],
        paths: list[bytes],
        sizes: list[int],
        mtimes: list[int],
    ) -> None:
        """Append path, size and time of each file; count or name those that cannot be looked at."""
        with _opened(directory) as place:
            for name in names:
                path = directory + name
                try:
                    try:
                        status = os.stat(name, dir_fd=place)
                    except OSError:  # the path has the last word, also where the directory moved
                        status = os.stat(path)
                except FileNotFoundError:
                    self.ignored[IgnoredReason.VANISHED] += 1
                    continue
                except OSError as error:
                    raise _unreadable(path, error) from error
                paths.append(path)
                sizes.append(status.st_size)
                mtimes.append(status.st_mtime_ns)

    def nothing_found(self) -> str:
        """Say why there is no image."""
        reason = why_nothing(self._suffixes, self.ignored, recursive=self._recursive)
        return f"no image in {shown(self.root)}: {reason}"


def why_nothing(suffixes: Sequence[bytes], ignored: Counter[IgnoredReason], recursive: bool) -> str:
    """Say what was looked for, and what there is instead."""
    counts = ", ".join(f"{count} {reason}" for reason, count in sorted(ignored.items()))
    return (
        f"no file ends in {', '.join(shown(suffix) for suffix in suffixes)}"
        f"{'' if recursive else ' (subdirectories are not searched)'}; "
        f"ignored: {counts or 'nothing, the directory is empty'}. "
        "Check the directory and --extensions."
    )


@contextmanager
def _opened(directory: bytes) -> Iterator[int]:
    """Open a directory to look at files from there, a sixth cheaper than by full paths.

    -1, with which nothing is found, where it cannot be opened.
    """
    try:
        place = os.open(directory, os.O_PATH | os.O_DIRECTORY)
    except OSError:
        place = -1
    try:
        yield place
    finally:
        if place != -1:
            os.close(place)


def absolute(path: bytes) -> bytes:
    """Make a path absolute. Only one with `..` is resolved: behind a link, that lies elsewhere."""
    if b".." in path.split(b"/"):
        return os.path.realpath(path)
    absolute = os.path.abspath(path)
    return absolute[1:] if absolute.startswith(b"//") else absolute


def _check_root(root: bytes, excluded: os.stat_result | None) -> None:
    try:
        status = os.stat(root)
    except FileNotFoundError as error:
        raise SourceError(
            f"no such directory: {shown(root)}. Give a directory that holds images."
        ) from error
    except OSError as error:
        raise _unreadable(root, error) from error
    if not stat.S_ISDIR(status.st_mode):
        raise SourceError(f"{shown(root)} is not a directory. Give the directory that holds it.")
    if excluded is not None and os.path.samestat(status, excluded):
        raise SourceError(
            f"{shown(root)} is both the images and the output. "
            "Give --output a directory of its own; it may lie among the images."
        )


def _unreadable(path: bytes, error: OSError) -> SourceError:
    return SourceError(
        f"cannot read {shown(path)}: {error.strerror or error}. Its images would be missing from "
        "the table: make it readable for this user, or give directories that leave it out."
    )
