"""What a process that decodes other people's files may still do."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
from contextlib import suppress
from pathlib import Path

__all__ = ["confine", "die_with_parent"]

# linux/prctl.h
_PR_SET_PDEATHSIG = 1
_PR_SET_NO_NEW_PRIVS = 38

_OPEN_FILES = 64
"""A decoder opens one at a time."""


def die_with_parent(parent: int) -> None:
    """Let the kernel kill this process when the one that made it ends, however that ends.

    Linux only; elsewhere the worker ends when its connection is closed.

    Args:
        parent: Its process id, as it knows itself.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it died before the call
        os.kill(os.getpid(), signal.SIGKILL)


def confine(memory_bytes: int) -> None:
    """Take away what no decoder needs, for good.

    No file grows, no core is dumped, no program that is started gains rights, and this process
    never has more than `memory_bytes` resident: an allocation fails before, and the image is a row.
    Where all memory of the machine is short, the kernel ends this process before others.
    It is a second fence behind Pillow's checks, and no sandbox: files can still be read.

    Args:
        memory_bytes: Most memory. What is mapped and not resident today, as libraries, is not
            counted.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        with suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text("1000")
        mapped, resident = map(int, Path("/proc/self/statm").read_text().split()[:2])
        idle = (mapped - resident) * resource.getpagesize()
        _lower(resource.RLIMIT_AS, idle + memory_bytes)
    _lower(resource.RLIMIT_CORE, 0)
    _lower(resource.RLIMIT_NOFILE, _OPEN_FILES)
    _lower(resource.RLIMIT_FSIZE, 0)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a write fails instead


def _lower(limit: int, value: int) -> None:
    """Set a limit, unless a lower one holds already."""
    _, hard = resource.getrlimit(limit)
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(limit, (value, value))
