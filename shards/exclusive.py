"""Names that only one process can take: the step that makes a file's publication exclusive."""

from __future__ import annotations

import ctypes
import errno
import os
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

from shards.errors import OutputError

__all__ = ["has_hard_links", "link", "make_directory", "rename_noreplace", "sync_directory"]

_AT_FDCWD = -100
_RENAME_NOREPLACE = 1


def make_directory(path: Path) -> None:
    """Make a directory whose name survives a power cut, unless it is there."""
    if not path.is_dir():
        path.mkdir(parents=True, exist_ok=True)
        sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Wait until the names in a directory are on the device."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network file systems have no fsync for directories; they sync names themselves.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


def link(source: Path, target: Path) -> bool:
    """Give a file a second name; False where that name is taken.

    Raises:
        OSError: The file system failed, or has no hard links.
    """
    try:
        os.link(source, target)
    except OSError as error:
        # NFS may lose the reply to a link that succeeded: then both names are one file.
        with suppress(OSError):
            if source.samefile(target):
                return True
        if error.errno == errno.EEXIST:
            return False
        raise
    return True


def rename_noreplace(source: Path, target: Path) -> bool:
    """Give a file another name; False where that name is taken.

    Raises:
        OSError: The file system failed, or kernel, C library or file system lack the operation.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "renameat2"):  # macOS, or glibc before 2.28
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS), str(source))
    status = libc.renameat2(
        _AT_FDCWD, os.fsencode(source), _AT_FDCWD, os.fsencode(target), _RENAME_NOREPLACE
    )
    if status == 0:
        return True
    code = ctypes.get_errno()
    if code == errno.EEXIST:
        return False
    raise OSError(code, os.strerror(code), str(source))


def has_hard_links(staging: Path) -> bool:
    """Find out which exclusive operation works here: True for link, False for renameat2.

    Each is tried on a free name, which must succeed, and on a taken one, which must not.
    """
    names = [staging / f"probe.{uuid4().hex}.inprogress" for _ in range(3)]
    first, second, target = names
    try:
        for name in (first, second):
            with open(name, "xb"):
                pass
        for place in (link, rename_noreplace):
            target.unlink(missing_ok=True)
            with suppress(OSError):
                if place(first, target) and not place(second, target):
                    return place is link
    finally:
        for name in names:
            name.unlink(missing_ok=True)
    raise OutputError(
        f"the file system of {staging} has neither hard links nor exclusive rename: two runs at "
        "once could overwrite each other's rows. Choose an --output on a local disk or on NFS, "
        "and copy the finished files from there."
    )
