"""Children that die with their parent, however it dies."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time

__all__ = ["die_with_parent"]

PR_SET_PDEATHSIG = 1
"""From linux/prctl.h: the signal that a process is sent when the thread that started it ends."""

WATCH_INTERVAL_S = 1.0


def die_with_parent(parent: int) -> None:
    """Make this process end when its parent does, also when that is killed with SIGKILL.

    On Linux the kernel sends SIGKILL; elsewhere a thread looks every second. Call it before
    anything slow is imported.

    Args:
        parent: Process id of the parent, as the parent itself knows it: asked for here, it could
            be the id of whoever inherited an orphan.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    else:
        threading.Thread(target=_watch, args=(parent,), daemon=True).start()
    # It may have died before the call; then nobody sends the signal any more.
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(WATCH_INTERVAL_S)
    os.kill(os.getpid(), signal.SIGKILL)
