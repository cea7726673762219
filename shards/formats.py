"""Which files are images here, and how each format is opened.

The content decides, never the name. Pillow's plugins are called by themselves: `Image.open` would
try formats that nobody asked for (EPS in a .jpg starts Ghostscript), and warns on the way. AVIF is
left out: its decoder starts threads of its own, and warns where EXIF is damaged.
"""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO

from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    WebPImagePlugin,
)

from shards.errors import ErrorKind, ImageError
from shards.tiff import TiffFile, check_directory

__all__ = ["format_of", "is_cut_off", "lacks_its_end", "open_image"]

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_END = b"\0\0\0\0IEND\xae\x42\x60\x82"
_ANIMATION_CHUNKS = (b"acTL", b"fcTL", b"fdAT")


class _JpegFile(JpegImagePlugin.JpegImageFile):
    """A JPEG whose EXIF is not parsed for its resolution: slow, and warns where EXIF is damaged.

    Of a multi-picture file (MPO) this is the first picture.
    """

    def _read_dpi_from_exif(self) -> None:
        pass


def _open_png(data: bytes) -> ImageFile.ImageFile:
    return PngImagePlugin.PngImageFile(BytesIO(_without_animation(data)))


def _open_tiff(data: bytes) -> ImageFile.ImageFile:
    check_directory(data)
    return TiffFile(BytesIO(data))


_OPENERS: dict[str, Callable[[bytes], ImageFile.ImageFile]] = {
    "BMP": lambda data: BmpImagePlugin.BmpImageFile(BytesIO(data)),
    "GIF": lambda data: GifImagePlugin.GifImageFile(BytesIO(data)),
    "JPEG": lambda data: _JpegFile(BytesIO(data)),
    "PNG": _open_png,
    "PPM": lambda data: PpmImagePlugin.PpmImageFile(BytesIO(data)),
    "TIFF": _open_tiff,
    "WEBP": lambda data: WebPImagePlugin.WebPImageFile(BytesIO(data)),
}

_MAGIC = (
    (b"\xff\xd8\xff", "JPEG"),
    (_PNG_SIGNATURE, "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
    (b"BM", "BMP"),
)


def format_of(data: bytes) -> str:
    """The format's name, told from the first bytes.

    Raises:
        ImageError: There are none (EMPTY), or they are no known format's (NOT_AN_IMAGE).
    """
    if not data:
        raise ImageError(ErrorKind.EMPTY, "the file has 0 bytes")
    for magic, name in _MAGIC:
        if data.startswith(magic):
            return name
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    if data[:1] == b"P" and data[1:2] in b"123456f" and data[2:3].isspace():
        return "PPM"
    raise ImageError(
        ErrorKind.NOT_AN_IMAGE,
        f"begins with {data[:16]!a}; expected one of {', '.join(_OPENERS)}",
    )


def open_image(name: str, data: bytes) -> ImageFile.ImageFile:
    """Read the header; pixels follow at `load`.

    Args:
        name: The format.
        data: The whole file; not copied, but for animated PNG.

    Raises:
        ImageError: A TIFF's directory is damaged.
        Exception: Whatever Pillow raises for a damaged header.
    """
    image = _OPENERS[name](data)
    # The decoder gets the file in one piece instead of blocks of 64 KiB, and takes the GIL once.
    image.decodermaxblock = max(len(data), ImageFile.MAXBLOCK)
    return image


def is_cut_off(name: str, data: bytes) -> bool:
    """Whether a file that could not be decoded lacks its end.

    BMP and WebP tell their size; JPEG, PNG and GIF have an end marker, which zeros may follow.
    """
    tail = data[-64:].rstrip(b"\0")
    match name:
        case "JPEG":
            return not tail.endswith(b"\xff\xd9")
        case "PNG":
            return b"IEND" not in tail
        case "GIF":
            return not tail.endswith(b";")
        case "WEBP":
            return int.from_bytes(data[4:8], "little") + 8 > len(data)
        case "BMP":
            return int.from_bytes(data[2:6], "little") > len(data)
        case _:
            return False


def lacks_its_end(name: str, data: bytes) -> bool:
    """Whether a file whose pixels were decoded was cut off behind them.

    Pillow asks for no more than the pixels of the first picture, and all formats but these two end
    there, or tell their size. Whatever follows the end does no harm.
    """
    match name:
        case "PNG":
            return data.rfind(_PNG_END) < 0
        case "GIF":
            return not (data.rstrip(b"\0").endswith(b";") or _gif_ends(data))
        case _:
            return False


def _gif_ends(data: bytes) -> bool:
    """Walk a GIF's blocks (GIF89a, sections 15 to 27) to its trailer."""
    try:
        at = 13 + _table_bytes(data[10])
        while (kind := data[at]) != 0x3B:
            if kind == 0x2C:  # image: descriptor, colour table, code size
                at += 11 + _table_bytes(data[at + 9])
            elif kind == 0x21:  # extension: label
                at += 2
            else:
                return False
            while length := data[at]:
                at += 1 + length
            at += 1
    except IndexError:
        return False
    return True


def _table_bytes(flags: int) -> int:
    """Size of the colour table that a descriptor announces."""
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def _without_animation(data: bytes) -> bytes:
    """A PNG without the chunks of its animation, of which Pillow warns where they are damaged."""
    if data.find(b"acTL", 0, data.find(b"IDAT")) < 0:
        return data
    kept = [_PNG_SIGNATURE]
    position = len(_PNG_SIGNATURE)
    while position < len(data):
        end = position + 12 + int.from_bytes(data[position : position + 4], "big")
        if data[position + 4 : position + 8] not in _ANIMATION_CHUNKS:
            kept.append(data[position:end])
        position = end
    return b"".join(kept)
