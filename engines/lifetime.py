"""Children that die with their parent, however it dies."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading

__all__ = ["die_with_parent"]

PR_SET_PDEATHSIG = 1
"""From linux/prctl.h: the signal that a process is sent when the thread that started it ends."""


def die_with_parent() -> None:
    """Make this process end when its parent does, also when that is killed with SIGKILL.

    Call it first thing in a child whose standard input is a pipe that the parent keeps open. On
    Linux the kernel sends SIGKILL; elsewhere a thread waits for the end of standard input.
    """
    parent = os.getppid()
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        # The parent may have died before the call; then nobody sends the signal any more.
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)
    else:
        threading.Thread(target=_wait_for_end_of_input, daemon=True).start()


def _wait_for_end_of_input() -> None:
    while os.read(0, 1 << 16):
        pass
    os.kill(os.getpid(), signal.SIGKILL)
