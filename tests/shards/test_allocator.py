from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

from shards.allocator import tune_allocator

CHILD = """
import ctypes, sys
sys.path.insert(0, ".")
from shards.allocator import tune_allocator

class Mallinfo2(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in (
        "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks",
        "fordblks", "keepcost")]

library = ctypes.CDLL(None)
library.mallinfo2.restype = Mallinfo2
library.malloc.restype = ctypes.c_void_p
library.malloc.argtypes = (ctypes.c_size_t,)

def mappings():
    before = library.mallinfo2().hblks
    library.malloc(8 << 20)
    return library.mallinfo2().hblks - before

print(mappings(), tune_allocator(), mappings())
"""


@pytest.mark.skipif(
    not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="only glibc 2.33 tells its mappings"
)
def test_a_frame_of_8_mib_gets_no_mapping_of_its_own_any_more() -> None:
    result = subprocess.run(
        [sys.executable, "-c", CHILD], capture_output=True, text=True, check=True, timeout=60
    )
    assert result.stdout.split() == ["1", "True", "0"]


def test_other_systems_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert tune_allocator() is False


def test_other_c_libraries_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(ctypes, "CDLL", lambda _: object())
    assert tune_allocator() is False
