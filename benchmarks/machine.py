"""What was measured on, and with what; the same lines in every report. Needs no other package."""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

__all__ = ["cores", "facts"]

GPU_FIELDS = ("name", "driver_version", "memory.total")


def facts(packages: Sequence[str]) -> dict[str, object]:
    """Date, command, processor, GPU and versions.

    Args:
        packages: Distributions whose versions matter; those that are not installed are left out.
    """
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join(["python", *sys.orig_argv[1:]]),
        "processor": _processor(),
        "cores": cores(),
        "gpu": _gpu(),
        "versions": {"python": platform.python_version(), **_versions(packages)},
    }


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))


def _processor() -> str:
    """As /proc/cpuinfo names it."""
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _gpu() -> str | None:
    """The first GPU, asked of the driver; None where there is no driver."""
    query = ["nvidia-smi", f"--query-gpu={','.join(GPU_FIELDS)}", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    name, driver, memory = done.stdout.splitlines()[0].split(", ")
    return f"{name} ({memory}, driver {driver})"


def _versions(packages: Sequence[str]) -> dict[str, str]:
    found = {}
    for name in packages:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
