"""The machine that this process may use: processor, memory, C library, and a container's share."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from engines.check import Check
from engines.onnx_runtime import processor_name
from engines.ort_session import available_cores
from shards.allocator import tune_allocator

__all__ = ["PACKAGES", "Machine", "look_at_machine", "machine_checks"]

PACKAGES = (
    "numpy",
    "pillow",
    "pyarrow",
    "onnx",
    "onnxruntime",
    "prefect",
    "pydantic",
    "cyclopts",
    "tensorrt",
    "cuda-python",
    "obstore",
    "boto3",
)

CGROUP = Path("/sys/fs/cgroup")

LITTLE_MEMORY = 2 * 2**30
"""Bytes: libraries, a model of 100 MB and its activations for a batch of 64 fill one of them."""

_INSTRUCTIONS = {"avx2": "AVX2", "avx512f": "AVX-512", "avx512_vnni": "VNNI", "avx_vnni": "VNNI"}
"""What Linux calls them, and what people do: int8 is fast where there is VNNI."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What was found; None where the system does not say.

    Attributes:
        python: Its version.
        system: Kernel and machine, as 'Linux 6.1.0 x86_64'.
        libc: As 'glibc 2.36'; '' where it is another one.
        processor: By name.
        cores: That this process may run on.
        quota: Cores' worth of time that the container may use; None for no limit.
        instructions: Of AVX2, AVX-512 and VNNI, those that it has.
        memory_bytes: Of the machine, or what the container may use.
        available_bytes: What of it is free or can be freed.
        allocator: Whether malloc was tuned for decoding.
        packages: Name to version, of those that are installed.
    """

    python: str
    system: str
    libc: str
    processor: str
    cores: int
    quota: float | None
    instructions: tuple[str, ...]
    memory_bytes: int | None
    available_bytes: int | None
    allocator: bool
    packages: Mapping[str, str]


def look_at_machine(*, proc: Path = Path("/proc"), cgroup: Path = CGROUP) -> Machine:
    """Read what the system says of itself; tunes malloc in this process to see that it can be."""
    memory = _memory(proc / "meminfo")
    limit = _number(cgroup / "memory.max")
    total = memory.get("MemTotal")
    if limit is not None and (total is None or limit < total):
        total = limit
    libc, libc_version = platform.libc_ver()
    return Machine(
        python=platform.python_version(),
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        libc=f"{libc} {libc_version}".strip(),
        processor=processor_name(),
        cores=available_cores(),
        quota=_quota(cgroup / "cpu.max"),
        instructions=_instructions(proc / "cpuinfo"),
        memory_bytes=total,
        available_bytes=_available(memory, limit, _number(cgroup / "memory.current")),
        allocator=tune_allocator(),
        packages=_packages(),
    )


def machine_checks(machine: Machine) -> tuple[Check, ...]:
    """What of it is as it should be."""
    return (
        Check(
            name="python",
            status="passed",
            measured=f"{machine.python}, {machine.system}{', ' * bool(machine.libc)}{machine.libc}",
            expected="3.11 or newer",
        ),
        _processor(machine),
        _memory_check(machine),
        Check(
            name="allocator",
            status="passed" if machine.allocator else "warning",
            measured="malloc keeps the memory of decoded images"
            if machine.allocator
            else "this C library's malloc cannot be tuned",
            expected="glibc",
            advice=""
            if machine.allocator
            else "Decoding in threads may take twice as long: use an image with glibc, as Debian's",
        ),
        Check(
            name="packages",
            status="passed",
            measured=", ".join(f"{name} {number}" for name, number in machine.packages.items()),
            expected="see constraints.txt for the versions that were tested",
        ),
    )


def _processor(machine: Machine) -> Check:
    quota = machine.quota
    starved = quota is not None and quota < machine.cores
    cores = f"{machine.cores} core{'s' * (machine.cores > 1)}"
    if starved:
        cores += f", of which the container may use {quota:g}"
    instructions = ", ".join(machine.instructions) or "no AVX2"
    return Check(
        name="processor",
        status="warning" if starved else "passed",
        measured=f"{machine.processor}, {cores}; {instructions}",
        expected="as many cores as the container may use",
        advice=f"Threads would be stopped in turns: give the container cores instead of time "
        f"(--cpuset-cpus), or start with --workers {max(1, int(quota or 1))}"
        if starved
        else "",
    )


def _memory_check(machine: Machine) -> Check:
    if machine.memory_bytes is None or machine.available_bytes is None:
        measured, little = "the system does not say how much", False
    else:
        measured = (
            f"{_gibibytes(machine.available_bytes)} of {_gibibytes(machine.memory_bytes)} available"
        )
        little = machine.available_bytes < LITTLE_MEMORY
    return Check(
        name="memory",
        status="warning" if little else "passed",
        measured=measured,
        expected=f"{_gibibytes(LITTLE_MEMORY)} or more",
        advice="Take a smaller --batch-size if the run is ended for want of memory"
        if little
        else "",
    )


def _memory(file: Path) -> dict[str, int]:
    """Bytes by name, of /proc/meminfo."""
    try:
        lines = file.read_text().splitlines()
    except OSError:
        return {}
    fields = (line.split() for line in lines)
    return {name.rstrip(":"): int(value) * 1024 for name, value, *unit in fields if unit == ["kB"]}


def _available(memory: Mapping[str, int], limit: int | None, used: int | None) -> int | None:
    """The lesser of what the machine has left and what the container may still take."""
    left = [memory["MemAvailable"]] if "MemAvailable" in memory else []
    if limit is not None and used is not None:
        left.append(max(0, limit - used))
    return min(left, default=None)


def _number(file: Path) -> int | None:
    """What a file of cgroup version 2 says; None for 'max', or where there is none."""
    try:
        return int(file.read_text())
    except (OSError, ValueError):
        return None


def _quota(file: Path) -> float | None:
    """Microseconds of processor time in so many microseconds, as '200000 100000'."""
    try:
        quota, period = file.read_text().split()
        return int(quota) / int(period)
    except (OSError, ValueError):
        return None


def _instructions(file: Path) -> tuple[str, ...]:
    try:
        lines = file.read_text(errors="replace").splitlines()
    except OSError:
        return ()
    flags: set[str] = set()
    for line in lines:
        if line.startswith("flags"):
            flags = set(line.split())
            break
    return tuple(dict.fromkeys(name for flag, name in _INSTRUCTIONS.items() if flag in flags))


def _packages() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _gibibytes(nbytes: int) -> str:
    return f"{nbytes / 2**30:,.1f} GiB"
