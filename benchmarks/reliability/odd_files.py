"""Files that are made to be trouble: bombs, headers that lie, cut and rotten images, odd names."""

from __future__ import annotations

import io
import os
import random
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, PngImagePlugin

__all__ = ["write_odd_files"]

LARGE = (9400, 9500)
"""Width and height just below the default of --max-pixels."""

SCANS = 1500
"""How often the slow scan stands in a progressive JPEG of 16 megapixels: a minute of work."""

NAMES = (
    b"\xff\xfe not text",
    b"line\nbreak",
    b"-rf",
    b"=1+1",
    b"quote'\"",
    b"n" * 251,
    b"e\xcc\x81",
)


def write_odd_files(folder: Path) -> int:
    """Write them, all as .jpg; returns how many there are."""
    folder.mkdir(parents=True)
    count = 0
    for source in (whole, damaged, strangers, bombs, liars, shapes):
        for name, content in source():
            count += 1
            (folder / f"{name}.jpg").write_bytes(content)
    for odd in NAMES:
        count += 1
        (folder / os.fsdecode(odd + b".jpg")).write_bytes(encoded("JPEG"))
    return count


def encoded(form: str, image: Image.Image | None = None, **options: object) -> bytes:
    """A small photograph, or another image, in a format."""
    stream = io.BytesIO()
    (image or photo()).save(stream, form, **options)
    return stream.getvalue()


def photo(width: int = 120, height: int = 90) -> Image.Image:
    """Smooth, with noise, and different in every corner."""
    y, x = np.mgrid[:height, :width]
    noise = np.random.default_rng(0).integers(0, 20, (height, width))
    planes = (x * 200 // width + noise, y * 200 // height + noise, (x + y) % 200 + noise)
    return Image.fromarray(np.stack(planes, axis=-1).astype(np.uint8))


def whole() -> Iterator[tuple[str, bytes]]:
    """Images that are in order, each with its own oddity."""
    for form in ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM"):
        yield f"good-{form}", encoded(form)
    for mode in ("1", "L", "LA", "P", "RGBA", "CMYK", "I;16", "F", "LAB", "YCbCr"):
        image = photo().convert("L").convert(mode) if mode in ("I;16", "F") else None
        yield f"mode-{mode.replace(';', '')}", encoded("TIFF", image or photo().convert(mode))
    for orientation in (0, 1, 2, 3, 4, 5, 6, 7, 8, 99):
        exif = Image.Exif()
        exif[274] = orientation
        yield f"exif-{orientation}", encoded("JPEG", exif=exif)
    yield "progressive", encoded("JPEG", progressive=True)
    yield "cmyk-progressive", encoded("JPEG", photo().convert("CMYK"), progressive=True)
    yield "trailing", encoded("JPEG") + bytes(range(256)) * 40
    yield "two-in-one", encoded("JPEG") + encoded("JPEG", photo(60, 60))
    frames = [photo().rotate(angle) for angle in range(0, 360, 20)]
    for form in ("GIF", "WEBP", "PNG", "TIFF"):
        yield f"frames-{form}", encoded(form, frames[0], save_all=True, append_images=frames[1:])


def damaged() -> Iterator[tuple[str, bytes]]:
    """Cut in many places, and with bits that have changed."""
    chance = random.Random(6)
    for form in ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM"):
        content = encoded(form)
        for share in range(1, 20):
            yield f"cut-{form}-{share}", content[: len(content) * share // 20]
        for missing in (1, 2, 3, 8):
            yield f"short-{form}-{missing}", content[:-missing]
        for number in range(20):
            rotten = bytearray(content)
            for _ in range(3):
                rotten[chance.randrange(len(rotten))] ^= 1 << chance.randrange(8)
            yield f"rot-{form}-{number}", bytes(rotten)
        hole = bytearray(content)
        hole[len(hole) // 2 : len(hole) // 2 + 512] = bytes(512)
        yield f"hole-{form}", bytes(hole)
        yield f"leading-{form}", b"1234" + content


def strangers() -> Iterator[tuple[str, bytes]]:
    """What is no image, or none that is read here."""
    yield "empty", b""
    yield "zeros", bytes(1 << 20)
    yield "page", b"<!DOCTYPE html><html><body>404 Not Found</body></html>"
    yield "json", b'{"error": "rate limit exceeded"}'
    yield "xml", b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>'
    yield "svg", b'<svg xmlns="http://www.w3.org/2000/svg" width="10" height="10"/>'
    yield "pdf", b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n"
    yield "eps", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(%pipe%touch /tmp/x) run\n"
    yield "video", b"\0\0\0\x20ftypisom\0\0\x02\0isomiso2avc1mp41" + bytes(999)
    yield "heic", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(999)
    yield "archive", b"PK\x03\x04" + bytes(999)
    yield "ico", encoded("ICO")
    yield "avif", b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf" + bytes(999)


def bombs() -> Iterator[tuple[str, bytes]]:
    """Small files that become large, or take long."""
    width, height = LARGE
    for mode, depth, colour, size in (("gray", 8, 0, 1), ("rgba", 8, 6, 4), ("rgb16", 16, 2, 6)):
        yield f"large-{mode}", png(width, height, depth, colour, zeros(height * (width * size + 1)))
    yield "beyond", png(30_000, 30_000, 1, 0, zeros(30_000 * 3751))
    yield (
        "interlaced",
        png(width, height, 8, 2, zeros(width * height * 3 + 8 * height), interlace=1),
    )
    exif = Image.Exif()
    exif[274] = 6
    canvas = Image.new("CMYK", LARGE, (9, 90, 200, 3))
    yield "large-turned-jpeg", encoded("JPEG", canvas, exif=exif, progressive=True)
    yield "large-lzw", encoded("TIFF", canvas, compression="tiff_lzw")
    yield "large-gif", encoded("GIF", Image.new("P", (65_000, 1376)))
    yield "large-webp", encoded("WEBP", Image.new("RGB", (16_000, 5500)), quality=0, method=0)
    text = PngImagePlugin.PngInfo()
    text.add_text("Comment", "x" * (200 << 20), zip=True)
    yield "text", encoded("PNG", pnginfo=text)
    yield "profile", chunked(encoded("PNG"), b"iCCP", b"p\0\0" + zeros(300 << 20))
    yield "scans", scans(encoded("JPEG", Image.new("L", (4000, 4000), 7), progressive=True))
    pages = [Image.new("L", (1, 1))] * 3000
    yield "pages", encoded("TIFF", pages[0], save_all=True, append_images=pages)
    yield (
        "frames",
        encoded(
            "GIF", photo(), save_all=True, append_images=[photo().rotate(i) for i in range(300)]
        ),
    )


def liars() -> Iterator[tuple[str, bytes]]:
    """Headers that promise what the file does not hold."""
    jpeg = bytearray(encoded("JPEG"))
    at = jpeg.index(b"\xff\xc0") + 5
    for name, size in (("max", (65_500, 65_500)), ("wide", (9, 65_535)), ("none", (0, 0))):
        jpeg[at : at + 4] = struct.pack(">HH", *size)
        yield f"liar-jpeg-{name}", bytes(jpeg)
    yield "liar-png", png(2**31 - 1, 2**31 - 1, 8, 2, zeros(99))
    yield "liar-png-short", png(*LARGE, 8, 6, zeros(99))
    gif = bytearray(encoded("GIF"))
    gif[6:10] = struct.pack("<HH", 65_535, 65_535)
    yield "liar-gif", bytes(gif)
    for name, size in (("max", (2**31 - 1, 2**31 - 1)), ("negative", (-9, -9)), ("short", LARGE)):
        bmp = bytearray(encoded("BMP"))
        bmp[18:26] = struct.pack("<ii", *size)
        yield f"liar-bmp-{name}", bytes(bmp)
    yield "liar-ppm", b"P6 99999 99999 255\n" + bytes(99)
    yield "liar-ppm-digits", b"P6 " + b"9" * 5000 + b" 1 255\n"
    tiff = bytearray(encoded("TIFF"))
    directory = struct.unpack_from("<I", tiff, 4)[0]
    struct.pack_into("<I", tiff, len(tiff) - 4, directory)
    yield "liar-tiff-loop", bytes(tiff)
    struct.pack_into("<H", tiff, directory, 65_535)
    yield "liar-tiff-tags", bytes(tiff)


def shapes() -> Iterator[tuple[str, bytes]]:
    """Sides that nobody expects."""
    for size in ((1, 1), (1, 60_000), (60_000, 1), (60_000, 2), (2, 60_000), (16_000, 3)):
        for form in ("PNG", "JPEG"):
            yield f"shape-{form}-{size[0]}x{size[1]}", encoded(form, Image.new("RGB", size, "red"))


def zeros(count: int) -> bytes:
    """So many zeros, deflated: a thousandth of them."""
    packer = zlib.compressobj(9)
    parts = [packer.compress(bytes(1 << 20)) for _ in range(count >> 20)]
    return b"".join((*parts, packer.compress(bytes(count & 0xFFFFF)), packer.flush()))


def png(width: int, height: int, depth: int, colour: int, data: bytes, interlace: int = 0) -> bytes:
    """A PNG of those pixels, right or not."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlace)
    chunks = ((b"IHDR", header), (b"IDAT", data), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in chunks)


def chunk(kind: bytes, data: bytes) -> bytes:
    """One chunk of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def chunked(content: bytes, kind: bytes, data: bytes) -> bytes:
    """A PNG with one more chunk behind its header."""
    return content[:33] + chunk(kind, data) + content[33:]


def scans(jpeg: bytes) -> bytes:
    """A progressive JPEG whose last scan comes again and again."""
    last = jpeg.rindex(b"\xff\xda")
    return jpeg[:-2] + jpeg[last:-2] * SCANS + jpeg[-2:]
