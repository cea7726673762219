"""Short locks between processes: they end with their holder, however it dies."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shards.errors import LockedError, OutputError

__all__ = ["locked"]

PATIENCE_S = 20.0
"""A holder compares and renames, which takes milliseconds, or seconds on a network file system."""

_POLL_S = 0.02
_NO_LOCKS = {errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL}


@contextmanager
def locked(path: Path, patience_s: float | None = None) -> Iterator[None]:
    """Hold the lock of a file, which is made where it is missing, and never removed.

    Args:
        path: The lock file; its text names the last holder.
        patience_s: How long to wait for another holder; None for PATIENCE_S.

    Raises:
        LockedError: Another process has held it all that time: it is stopped, or hangs.
        OutputError: The file system has no locks.
        OSError: The file cannot be made.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        _wait(descriptor, path, PATIENCE_S if patience_s is None else patience_s)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()} on {socket.gethostname()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)  # and so releases it


def _wait(descriptor: int, path: Path, patience_s: float) -> None:
    deadline = time.monotonic() + patience_s
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise LockedError(_held(descriptor, path, patience_s)) from None
            time.sleep(_POLL_S)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            raise OutputError(
                f"the file system of {path} has no locks ({error.strerror}): rows that are there "
                "cannot be replaced safely. Choose an --output on a local disk or on NFS 4."
            ) from error
        else:
            return


def _held(descriptor: int, path: Path, patience_s: float) -> str:
    holder = os.pread(descriptor, 200, 0).decode(errors="replace").strip() or "unknown"
    return (
        f"{path} has been locked for {patience_s:g} s by another run (process {holder}): it is "
        "stopped, or hangs. Continue or end it, then run the same command again."
    )
