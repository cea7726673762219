"""Blocks of simulated device and page-locked memory, and who touches them when."""

from __future__ import annotations

from bisect import bisect_right, insort
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "FREED",
    "POISON",
    "Access",
    "Block",
    "Memory",
    "SimulatedFault",
    "SimulatedMisuse",
    "SimulatedRace",
]

POISON = 0xA5
"""What a destination holds while its copy is in flight, and fresh memory from the start."""
FREED = 0xDD
ALIGNMENT = 256
"""Of cudaMalloc, in bytes (CUDA C++ Programming Guide, 'Size and Alignment Requirement')."""


class SimulatedFault(AssertionError):
    """Undefined behaviour of the real thing; also kept in `found`, for where nobody sees it."""

    found: ClassVar[list[str]] = []

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.found.append(text)


class SimulatedRace(SimulatedFault):
    """Two parties touch the same memory, one of them writes, and nothing orders them."""


class SimulatedMisuse(SimulatedFault):
    """A call that must not be made now."""


class Access(NamedTuple):
    """What operation `number` of a stream does to bytes [start, stop) of a block."""

    stream: int
    number: int
    start: int
    stop: int
    writes: bool
    what: str


@dataclass(eq=False)
class Block:
    """One allocation. `data` is real memory, so that addresses and NumPy views are real too."""

    kind: str
    address: int
    nbytes: int
    data: NDArray[np.uint8]
    accesses: list[Access] = field(default_factory=list)
    writes_done: int = 0

    def __str__(self) -> str:
        return f"{self.kind} memory of {self.nbytes} B at {self.address:#x}"

    def touch(self, access: Access, known: dict[int, int]) -> None:
        """Note an access; `known` is how far the operation's past reaches into each stream."""
        kept = []
        for earlier in self.accesses:
            apart = earlier.stop <= access.start or access.stop <= earlier.start
            ordered = known.get(earlier.stream, 0) >= earlier.number
            if not (apart or ordered) and (earlier.writes or access.writes):
                raise SimulatedRace(
                    f"nothing orders {access.what!r} after {earlier.what!r}: both touch {self}, "
                    "and one of them writes; an event wait is missing"
                )
            covered = access.start <= earlier.start and earlier.stop <= access.stop
            if not (ordered and covered and (access.writes or not earlier.writes)):
                kept.append(earlier)
        self.accesses = [*kept, access]


class Memory:
    """All blocks, found by any address inside them."""

    def __init__(self, total_bytes: int) -> None:
        self.total_bytes = total_bytes
        self.blocks: dict[int, Block] = {}
        self.quarantine: list[Block] = []
        self._addresses: list[int] = []

    @property
    def free_bytes(self) -> int:
        """Device memory that nothing occupies."""
        used = sum(block.nbytes for block in self.blocks.values() if block.kind != "pinned")
        return self.total_bytes - used

    def allocate(self, kind: str, nbytes: int, *, backed: bool = True) -> Block | None:
        """A new poisoned block; None where the device has too little left."""
        if kind != "pinned" and nbytes > self.free_bytes:
            return None
        raw = np.full((nbytes if backed else 1) + ALIGNMENT, POISON, np.uint8)
        start = -raw.ctypes.data % ALIGNMENT
        data = raw[start : start + (nbytes if backed else 1)]
        block = Block(kind, data.ctypes.data, nbytes, data)
        self.blocks[block.address] = block
        insort(self._addresses, block.address)
        return block

    def find(self, address: int, nbytes: int) -> tuple[Block, int]:
        """The block that holds [address, address + nbytes), and where in it that begins."""
        at = bisect_right(self._addresses, address) - 1
        block = self.blocks[self._addresses[at]] if at >= 0 else None
        if block is None or address + nbytes > block.address + block.nbytes:
            raise SimulatedMisuse(
                f"{nbytes} B at {address:#x} are in no block, or run past its end"
            )
        return block, address - block.address

    def release(self, block: Block) -> None:
        """Take a block back; its bytes stay watched, so that late writes are found."""
        del self.blocks[block.address]
        self._addresses.remove(block.address)
        block.data[:] = FREED
        self.quarantine.append(block)

    def check_quarantine(self) -> None:
        """Raise where somebody wrote into a block after it was freed."""
        for block in self.quarantine:
            if (block.data != FREED).any():
                raise SimulatedMisuse(f"{block} was written after it was freed")
