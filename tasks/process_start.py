"""When this process began, as the kernel has it: before the interpreter, and before all imports."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

__all__ = ["seconds_since_start"]

FIRST_SIGHT = time.monotonic()
"""What counts as the start where the kernel is not asked."""

START_FIELD = 22 - 3
"""proc_pid_stat(5): field 22, of those that follow the name, which may hold anything."""


def seconds_since_start(moment: float) -> float:
    """Seconds from the start of this process to a moment of `time.monotonic`, to the millisecond.

    The kernel states the start to 10 ms. Elsewhere than on Linux, this module's import counts.
    """
    started = _started() if sys.platform == "linux" else FIRST_SIGHT
    return round(moment - started, 3)


def _started() -> float:
    """The start on the clock of `time.monotonic`; the kernel's own also counts a suspended time."""
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    since_boot = int(fields[START_FIELD]) / os.sysconf("SC_CLK_TCK")
    age = time.clock_gettime(time.CLOCK_BOOTTIME) - since_boot
    return time.monotonic() - age
