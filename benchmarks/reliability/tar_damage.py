"""Damages tar archives in every place there is, and counts what is reported.

    python -m benchmarks.reliability.tar_damage [--members 10]

Archives of all three formats are cut at every 512 bytes, get every bit of every header flipped, and
a hole of 1 KiB of zeros at every header. Cuts behind the two blocks that end an archive are left
out: those archives are complete. Beside it: how many of the same damages Python's tarfile passes
over in silence, with fewer members or other names.
"""

from __future__ import annotations

import io
import random
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cyclopts

from shards.errors import ArchiveError
from shards.sources.tar_walk import BLOCK, walk

__all__ = ["Figures", "damage_all", "example", "main"]

FORMATS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}


@dataclass(slots=True)
class Figures:
    """What became of some damages.

    Attributes:
        tried: Damaged archives.
        reported: Those that were reported.
        silent_in_tarfile: Those that tarfile read to an end without an error.
    """

    tried: int = 0
    reported: int = 0
    silent_in_tarfile: int = 0


def main(*, members: int = 10) -> None:
    """Print a table.

    Args:
        members: Of each archive.
    """
    print("| format | damage | archives | reported | silent in tarfile |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for name in FORMATS:
            content = example(members=members, format=name)
            for kind in KINDS:
                figures = damage_all(content, Path(folder) / "damaged.tar", kinds=(kind,))
                counts = f"{figures.tried} | {figures.reported} | {figures.silent_in_tarfile}"
                print(f"| {name} | {kind} | {counts} |")


def example(*, members: int, format: str) -> bytes:
    """An archive of files of all lengths, with names that need extended headers."""
    chance = random.Random(members)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=FORMATS[format]) as archive:
        for number in range(members):
            long = "long/" * 30 if number % 5 == 4 else ""
            info = tarfile.TarInfo(f"{long}{number:06d}.jpg")
            info.size = chance.choice([0, 1, 511, 512, 513, 3000])
            archive.addfile(info, io.BytesIO(chance.randbytes(info.size)))
    return buffer.getvalue()


def damage_all(
    content: bytes, path: Path, *, flips: int = 8 * BLOCK, kinds: tuple[str, ...] = ()
) -> Figures:
    """Try every damage.

    Args:
        content: A sound archive.
        path: Where damaged ones are written, one after the other.
        flips: Bits of each header that are flipped: all, or so many by chance.
        kinds: Of KINDS; none means all.
    """
    figures = Figures()
    whole = names_of(content)
    for kind in kinds or KINDS:
        for damaged in KINDS[kind](content, flips):
            path.write_bytes(damaged)
            figures.tried += 1
            figures.reported += is_reported(path)
            figures.silent_in_tarfile += names_of(damaged) not in (None, whole)
    return figures


def is_reported(path: Path) -> bool:
    """Whether an archive is found to be damaged."""
    try:
        for _ in walk(bytes(path)):
            pass
    except ArchiveError:
        return True
    return False


def names_of(content: bytes) -> list[tuple[str, int]] | None:
    """Names and places as tarfile has them; None where it raises."""
    try:
        with tarfile.open(fileobj=io.BytesIO(content)) as archive:
            return [(member.name, member.offset_data) for member in archive]
    except Exception:
        return None


def cuts(content: bytes, _: int) -> Iterator[bytes]:
    """Cut at every block, so that something is lost."""
    for stop in range(0, _end(content) + 2 * BLOCK, BLOCK):
        yield content[:stop]


def flipped(content: bytes, flips: int) -> Iterator[bytes]:
    """Flip bits of every header, extended ones included."""
    chance = random.Random(0)
    for start in _headers(content):
        bits = range(8 * BLOCK) if flips >= 8 * BLOCK else chance.sample(range(8 * BLOCK), flips)
        for bit in bits:
            damaged = bytearray(content)
            damaged[start + bit // 8] ^= 1 << bit % 8
            yield bytes(damaged)


def holes(content: bytes, _: int) -> Iterator[bytes]:
    """Put 1 KiB of zeros over every header and what follows it, but the last."""
    for start in _headers(content)[:-1]:
        yield content[:start] + bytes(2 * BLOCK) + content[start + 2 * BLOCK :]


KINDS = {"cut": cuts, "bit flipped in a header": flipped, "1 KiB of zeros": holes}


def _headers(content: bytes) -> list[int]:
    """Where the headers of a sound archive are: those of extended headers too."""
    starts, at = [], 0
    while any(content[at : at + BLOCK]):
        starts.append(at)
        size = int(content[at + 124 : at + 135], 8)
        at += BLOCK + (size + BLOCK - 1) // BLOCK * BLOCK
    return starts


def _end(content: bytes) -> int:
    """Where the blocks of zeros begin."""
    last = _headers(content)[-1]
    size = int(content[last + 124 : last + 135], 8)
    return last + BLOCK + (size + BLOCK - 1) // BLOCK * BLOCK


if __name__ == "__main__":
    cyclopts.run(main)
