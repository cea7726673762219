"""TIFF directories: checked before Pillow reads them, and read where EXIF hides in one.

Pillow answers a damaged directory with a Python warning and goes on without the tag. Warnings
belong to the whole process and cannot be caught in a thread, so a damaged directory is refused
first, with what is wrong with it.
"""

from __future__ import annotations

import contextlib
import ctypes
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from PIL import Image, TiffImagePlugin, _imaging

from shards.errors import ErrorKind, ImageError

__all__ = [
    "BITS_PER_SAMPLE",
    "METHODS",
    "ORIENTATION",
    "PHOTOMETRIC",
    "Entry",
    "TiffFile",
    "check_directory",
    "entries",
    "number",
]

BITS_PER_SAMPLE = 258
PHOTOMETRIC = 262
ORIENTATION = 274
SAMPLES_PER_PIXEL = 277

METHODS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF's orientation to what turns such an image upright (as PIL.ImageOps.exif_transpose)."""

_TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4,
               16: 8, 17: 8, 18: 8}  # fmt: skip
"""Bytes of one value by the type's number (TIFF 6.0 page 15; BigTIFF adds 13 and 16 to 18)."""

_SINGLE = frozenset((256, 257, 259, 266, 274, 277, 278, 282, 283, 284, 296, 322, 323))
"""Tags that Pillow reads and that have exactly one value."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One tag of a directory.

    Attributes:
        tag: Its number.
        kind: Number of its type.
        count: How many values.
        size: Bytes of all values.
        offset: Where the values begin.
    """

    tag: int
    kind: int
    count: int
    size: int
    offset: int


def entries(data: bytes) -> Iterator[Entry]:
    """Yield the tags of the first directory whose types are known.

    Raises:
        struct.error: The directory is not wholly inside the data.
        ValueError: The data do not begin like a TIFF.
    """
    order = byte_order(data)
    big = struct.unpack_from(f"{order}H", data, 2)[0] == 43
    head, layout, pointer, inline = ("Q", "HHQ", "Q", 8) if big else ("H", "HHL", "L", 4)
    (start,) = struct.unpack_from(order + pointer, data, 8 if big else 4)
    if start > len(data):
        raise struct.error(f"directory at byte {start} of {len(data)}")
    (count,) = struct.unpack_from(order + head, data, start)
    position = start + struct.calcsize(order + head)
    for _ in range(count):
        tag, kind, values = struct.unpack_from(order + layout, data, position)
        position += struct.calcsize(order + layout)
        size = values * _TYPE_BYTES.get(kind, 0)
        offset = position
        if size > inline:
            (offset,) = struct.unpack_from(order + pointer, data, position)
        position += inline
        if kind in _TYPE_BYTES:
            yield Entry(tag, kind, values, size, offset)
    struct.unpack_from(order + pointer, data, position)


def byte_order(data: bytes) -> str:
    """The struct module's sign for the byte order of a TIFF."""
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None:
        raise ValueError("begins with neither II nor MM")
    return order


def number(data: bytes, entry: Entry) -> int | None:
    """The value of a tag that holds one whole number of 8, 16 or 32 bits."""
    layout = {1: "B", 3: "H", 4: "L"}.get(entry.kind)
    if layout is None or entry.count != 1:
        return None
    value: int = struct.unpack_from(byte_order(data) + layout, data, entry.offset)[0]
    return value


def check_directory(data: bytes) -> None:
    """Refuse a TIFF whose first directory Pillow would warn about.

    Raises:
        ImageError: The directory, or what it points to, lies behind the end of the file
            (TRUNCATED), a tag has several values where one is expected (CORRUPT), or pixels have
            more samples than any colour needs (UNSUPPORTED_PIXELS).
    """
    total = 0
    try:
        for entry in entries(data):
            if entry.count > 1 and entry.tag in _SINGLE:
                raise ImageError(
                    ErrorKind.CORRUPT, f"TIFF: tag {entry.tag} has {entry.count} values; expected 1"
                )
            samples = number(data, entry) if entry.tag == SAMPLES_PER_PIXEL else None
            if samples is not None and samples > TiffImagePlugin.MAX_SAMPLESPERPIXEL:
                raise ImageError(ErrorKind.UNSUPPORTED_PIXELS, f"TIFF: {samples} samples per pixel")
            total += entry.size
            if max(entry.offset + entry.size, total) > len(data):
                raise ImageError(
                    ErrorKind.TRUNCATED,
                    f"TIFF: tag {entry.tag} lies behind the end of the file ({len(data)} bytes)",
                )
    except struct.error as error:
        raise ImageError(ErrorKind.TRUNCATED, f"TIFF: directory is cut off: {error}") from error


def _silence_libtiff() -> None:
    """Keep libtiff from printing on stderr what Pillow raises anyway.

    The symbols are found in whatever libtiff Pillow's extension is linked with; where it exports
    none, its messages stay.
    """
    library = ctypes.CDLL(_imaging.__file__)
    with contextlib.suppress(AttributeError):
        library.TIFFSetErrorHandler(None)
        library.TIFFSetWarningHandler(None)


_silence_libtiff()


class TiffFile(TiffImagePlugin.TiffImageFile):
    """A TIFF that leaves its EXIF and GPS directories alone.

    Pillow reads them after the pixels, only to keep them, and warns where they are damaged.
    """

    def load_end(self) -> None:
        """Turn the pixels upright, as Pillow does; `size` is swapped already."""
        method = METHODS.get(self.tag_v2.get(ORIENTATION, 1))
        if method is not None:
            self.im = self.im.transpose(method)
            self._size = self.im.size
