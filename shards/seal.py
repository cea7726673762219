"""The seal: a digest over all of a Parquet file, in the file itself.

Parquet's page checksums cover the data in pages, and neither page headers, page index nor footer: a
bit that flips there can hide rows from a reader. So the footer has an entry `nightshift.sha256`,
the SHA-256 of the whole file with 64 zeros where the entry's value stands. It needs no record
beside the file that could be lost or disagree, and travels with every copy.
"""

from __future__ import annotations

import hashlib
import os
from typing import IO

__all__ = ["BLANK", "SEAL_KEY", "is_intact", "seal", "seal_file"]

SEAL_KEY = b"nightshift.sha256"
"""Of the entry among the footer's key-value metadata."""

BLANK = b"0" * 64
"""Its value until the file is sealed, and while a digest is computed."""

# Thrift writes an entry's value as field header (type 8, one field further), length
# and bytes. The JSON of another entry cannot hold this: it escapes control characters.
_ENTRY = SEAL_KEY + b"\x18\x40"

_CHUNK_BYTES = 1 << 20
_ENDING = 8  # the footer's length in four bytes, and "PAR1"


def seal(content: memoryview) -> None:
    """Put the seal into a complete Parquet file in memory.

    Args:
        content: uint8 [bytes], writable, with an entry that is BLANK.

    Raises:
        ValueError: It has no such entry.
    """
    size = len(content)
    footer = _footer_bytes(bytes(content[-_ENDING:]), size)
    start = _entry(bytes(content[size - footer :]), size)
    content[start : start + len(BLANK)] = hashlib.sha256(content).hexdigest().encode()


def seal_file(file: IO[bytes]) -> None:
    """Put the seal into a complete Parquet file.

    Args:
        file: Open for reading and writing in binary, with an entry that is BLANK.

    Raises:
        ValueError: It has no such entry.
        OSError: It cannot be read or written.
    """
    start = _find(file)
    digest = _digest(file, start)
    file.seek(start)
    file.write(digest)


def is_intact(file: IO[bytes]) -> bool | None:
    """Read a whole file, and say whether it is what was sealed; None where it has no seal.

    Raises:
        OSError: It cannot be read.
    """
    try:
        start = _find(file)
    except ValueError:
        return None
    file.seek(start)
    return file.read(len(BLANK)) == _digest(file, start)


def _find(file: IO[bytes]) -> int:
    """Return where the entry's value begins."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _ENDING))
    footer = _footer_bytes(file.read(), size)
    file.seek(size - footer)
    return _entry(file.read(), size)


def _footer_bytes(ending: bytes, size: int) -> int:
    """Return how many bytes at the end of a file are its footer, length and magic included."""
    length = int.from_bytes(ending[:4], "little") + _ENDING
    if ending[4:] != b"PAR1" or length > size:
        raise ValueError("the file does not end as Parquet files do")
    return length


def _entry(footer: bytes, size: int) -> int:
    at = footer.rfind(_ENTRY)
    if at < 0 or at + len(_ENTRY) + len(BLANK) > len(footer):
        raise ValueError(f"the file's footer has no entry {SEAL_KEY!r}")
    return size - len(footer) + at + len(_ENTRY)


def _digest(file: IO[bytes], start: int) -> bytes:
    """Return the SHA-256 in hexadecimal of a file whose seal, at `start`, is BLANK."""
    digest = hashlib.sha256()
    file.seek(0)
    left = start
    while left and (chunk := file.read(min(left, _CHUNK_BYTES))):
        digest.update(chunk)
        left -= len(chunk)
    digest.update(BLANK)
    file.seek(start + len(BLANK))
    while chunk := file.read(_CHUNK_BYTES):
        digest.update(chunk)
    return digest.hexdigest().encode()
