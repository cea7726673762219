"""Advisory locks of the kernel on files: they end with their process, however it ends.

flock(2), never a file whose existence means "locked": `kill -9` would leave that behind. Lock
files are created and never removed: unlinking one that somebody waits for splits the lock in two.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Callable
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Self

__all__ = ["FileLock"]

UNSUPPORTED = frozenset({errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL})
"""What flock answers on file systems without locks."""

POLL_S = 0.1
"""Between two tries: flock itself cannot wait with a deadline."""

ON_WAIT_S = 5.0


class FileLock:
    """A held lock; `close` lets go. Held by the open file, so also against this process's threads.

    Attributes:
        effective: Whether the file system really locks. Where it does not, everybody gets the
            lock, and only what is right without one may be done.
    """

    def __init__(self, path: Path, *, shared: bool = False) -> None:
        """Take the lock at once.

        Raises:
            BlockingIOError: Somebody else holds it.
            OSError: The lock file cannot be opened; a symbolic link is refused.
        """
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        self._file = FileIO(os.open(path, flags, 0o600))
        try:
            kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
            fcntl.flock(self._file, kind | fcntl.LOCK_NB)
            self.effective = True
        except OSError as error:
            if error.errno not in UNSUPPORTED:
                self._file.close()
                raise
            self.effective = False

    @classmethod
    def wait(
        cls,
        path: Path,
        *,
        shared: bool = False,
        timeout_s: float,
        on_wait: Callable[[], None] = lambda: None,
    ) -> Self | None:
        """Take the lock as soon as it is free.

        Args:
            path: The lock file; created where there is none.
            shared: Others may hold it as shared, too.
            timeout_s: Seconds to wait for it.
            on_wait: Called at once and every 5 s while it has to be waited for.

        Returns:
            The lock, or None where it was not free in time.
        """
        now = time.monotonic()
        deadline, next_call = now + timeout_s, now
        while True:
            try:
                return cls(path, shared=shared)
            except BlockingIOError:
                now = time.monotonic()
            if now >= deadline:
                return None
            if now >= next_call:
                next_call = now + ON_WAIT_S
                on_wait()
            time.sleep(POLL_S)

    def touch(self) -> None:
        """Set the lock file's time of change to now: when what it guards was last used."""
        os.utime(self._file.fileno())

    def close(self) -> None:
        """Let go. Idempotent."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
