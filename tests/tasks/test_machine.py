from __future__ import annotations

import sys
from dataclasses import replace
from importlib.metadata import version

import pytest

from tasks.machine import look_at_machine, machine_checks


@pytest.fixture
def described(tmp_path):
    """A machine of files: 16 GiB, no container, a processor of 2023."""
    (tmp_path / "meminfo").write_text(
        "MemTotal:       16777216 kB\nMemFree: 100 kB\nMemAvailable:    8388608 kB\nHugePages: 0\n"
    )
    (tmp_path / "cpuinfo").write_text(
        "processor : 0\nflags\t\t: fpu avx avx2 avx512f avx512_vnni\n\nflags\t: sse\n"
    )
    return tmp_path


def look(folder):
    return look_at_machine(proc=folder, cgroup=folder)


def checks(machine):
    return {check.name: check for check in machine_checks(machine)}


def test_this_machine_is_described():
    machine = look_at_machine()
    assert machine.python == ".".join(map(str, sys.version_info[:3]))
    assert machine.packages["numpy"] == version("numpy")
    assert machine.cores >= 1
    assert machine.processor
    assert {"python", "processor", "memory", "allocator", "packages"} == checks(machine).keys()


def test_memory_and_instructions_are_read(described):
    machine = look(described)
    assert (machine.memory_bytes, machine.available_bytes) == (16 * 2**30, 8 * 2**30)
    assert machine.instructions == ("AVX2", "AVX-512", "VNNI")
    assert machine.quota is None
    found = checks(machine)
    assert found["memory"].measured == "8.0 GiB of 16.0 GiB available"
    assert found["processor"].measured.endswith("; AVX2, AVX-512, VNNI")
    assert {check.status for check in found.values()} == {"passed"}


def test_a_containers_limits_win(described):
    (described / "cpu.max").write_text("50000 100000\n")
    (described / "memory.max").write_text(f"{4 * 2**30}\n")
    (described / "memory.current").write_text(f"{3 * 2**30}\n")
    machine = look(described)
    assert (machine.quota, machine.memory_bytes, machine.available_bytes) == (
        0.5,
        4 * 2**30,
        2**30,
    )
    found = checks(machine)
    assert found["processor"].status == "warning"
    assert "of which the container may use 0.5" in found["processor"].measured
    assert "--workers 1" in found["processor"].advice
    assert found["memory"].status == "warning"
    assert "--batch-size" in found["memory"].advice


@pytest.mark.parametrize("text", ["max 100000", "max", "", "x y"])
def test_no_limit_is_none(described, text):
    (described / "cpu.max").write_text(text)
    (described / "memory.max").write_text(text)
    machine = look(described)
    assert (machine.quota, machine.memory_bytes) == (None, 16 * 2**30)


def test_a_system_that_says_nothing_is_no_fault(tmp_path):
    machine = look(tmp_path / "nowhere")
    assert (machine.memory_bytes, machine.available_bytes, machine.instructions) == (None, None, ())
    found = checks(machine)
    assert found["memory"].measured == "the system does not say how much"
    assert "no AVX2" in found["processor"].measured


def test_another_c_library_is_told(described):
    found = checks(replace(look(described), allocator=False, libc=""))
    assert found["allocator"].status == "warning"
    assert "glibc" in found["allocator"].advice
    assert not found["python"].measured.endswith(", ")
