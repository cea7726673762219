"""Encoded images for the decoding tests: good, odd, damaged and hostile."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image

__all__ = [
    "chunk",
    "encode",
    "exif",
    "photo",
    "png",
    "png_header",
    "retagged",
    "tiff_tag",
    "with_app1",
]


def photo(width: int = 48, height: int = 32) -> Image.Image:
    """A smooth RGB image whose corners are all different."""
    x = np.linspace(0, 255, width)
    y = np.linspace(0, 255, height)[:, np.newaxis]
    planes = [x + 0 * y, y + 0 * x, (x + y) / 2]
    return Image.fromarray(np.stack(planes, axis=-1).astype(np.uint8))


def encode(image: Image.Image, file_format: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, file_format, **options)
    return file.getvalue()


def exif(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[274] = orientation
    return tags


def chunk(kind: bytes, data: bytes) -> bytes:
    """One chunk of a PNG, with its checksum."""
    return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")


def png_header(width: int, height: int) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + chunk(
        b"IHDR", struct.pack(">LLBBBBB", width, height, 8, 2, 0, 0, 0)
    )


def png(*extra: bytes) -> bytes:
    """A small PNG with more chunks before its pixels."""
    data = encode(photo(), "PNG")
    return data[:33] + b"".join(extra) + data[33:]


def with_app1(jpeg: bytes, payload: bytes) -> bytes:
    """A JPEG with an APP1 segment of any content in the place of JFIF."""
    assert jpeg[2:4] == b"\xff\xe0"
    after_jfif = 4 + int.from_bytes(jpeg[4:6], "big")
    segment = b"\xff\xe1" + (len(payload) + 2).to_bytes(2, "big") + payload
    return jpeg[:2] + segment + jpeg[after_jfif:]


def tiff_tag(data: bytes, tag: int) -> int:
    """Where the 12 bytes of a tag begin in a little-endian TIFF."""
    (start,) = struct.unpack_from("<L", data, 4)
    (count,) = struct.unpack_from("<H", data, start)
    for index in range(count):
        position = start + 2 + 12 * index
        if struct.unpack_from("<H", data, position)[0] == tag:
            return position
    raise LookupError(tag)


def retagged(data: bytes, tag: int, kind: int, count: int, value: int) -> bytes:
    """A TIFF with another content of one tag."""
    position = tiff_tag(data, tag)
    changed = struct.pack("<HHLL", tag, kind, count, value)
    return data[:position] + changed + data[position + 12 :]
