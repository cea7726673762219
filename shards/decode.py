"""One image file into one row of a batch, or the reason why not.

Whatever is wrong with a file becomes an ImageError with one of the documented kinds; nothing that a
file holds raises anything else, hangs, prints, or takes memory beyond the limits. Everything here
may be called from many threads at once: Pillow decodes and resizes without the GIL.
"""

from __future__ import annotations

import errno
import os
import resource
import stat
import sys
from dataclasses import dataclass
from functools import cache

import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import Image

from shards.colour import to_rgb
from shards.errors import ErrorKind, ImageError
from shards.formats import format_of, is_cut_off, lacks_its_end, open_image
from shards.names import shown
from shards.orientation import upright_method
from shards.stored import MAX_FILE_BYTES, Stored, check_size
from shards.transform import Transform, apply

__all__ = ["Decoded", "Limits", "decode", "decode_file", "read_file", "read_stored"]

if int(PIL.__version__.split(".")[0]) < 13:
    raise ImportError(
        f"Pillow {PIL.__version__} is installed; 13.0.0 or newer is needed: older ones have a heap "
        "overflow in the JPEG decoder (CVE-2026-112403). Run: pip install 'pillow>=13.0.0'"
    )

# Pillow's own limit warns where ours refuses, and is the same for the whole process.
Image.MAX_IMAGE_PIXELS = None

_OPEN_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY

_ERRNO_KINDS = {
    errno.ENOENT: ErrorKind.NOT_FOUND,
    errno.ENOTDIR: ErrorKind.NOT_FOUND,
    errno.EACCES: ErrorKind.PERMISSION_DENIED,
    errno.EPERM: ErrorKind.PERMISSION_DENIED,
    errno.EISDIR: ErrorKind.NOT_A_FILE,
    errno.ELOOP: ErrorKind.NOT_A_FILE,
    errno.ENXIO: ErrorKind.NOT_A_FILE,
    errno.ENOMEM: ErrorKind.OUT_OF_MEMORY,
}
"""Everything else is READ_ERROR."""

_UNSUPPORTED = ("nsupported", "cannot handle", "unknown pixel mode")
"""What Pillow says of pixels that a format can hold and it cannot read."""

_MESSAGE_CHARACTERS = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one image may cost.

    Attributes:
        max_pixels: Width times height. 2**26 takes the 61 megapixels of today's largest full-frame
            cameras, and 256 MiB a decoding thread (Pillow keeps 4 bytes a pixel).
        max_file_bytes: Size of the encoded file.
    """

    max_pixels: int = 1 << 26
    max_file_bytes: int = MAX_FILE_BYTES

    def __post_init__(self) -> None:
        for name in ("max_pixels", "max_file_bytes"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected at least 1")


@dataclass(frozen=True, slots=True)
class Decoded:
    """The size of the upright image.

    Attributes:
        width: Columns, after EXIF.
        height: Rows, after EXIF.
    """

    width: int
    height: int


def decode_file(
    path: bytes, out: NDArray[np.uint8], transform: Transform, limits: Limits
) -> Decoded:
    """Read, decode and transform one file.

    Args:
        path: The file's name as the system has it.
        out: uint8 [transform.height, transform.width, 3], RGB, contiguous; the caller's, written
            wholly on success and of any content after an error.
        transform: Resize and crop.
        limits: Beyond them the image is refused before memory is taken.

    Raises:
        ImageError: The file cannot be read, or is no image that can be classified.
    """
    return decode(read_file(path, limits), out, transform, limits)


def read_stored(item: Stored, limits: Limits) -> bytes:
    """The encoded bytes of one image.

    Nothing blocks, no file is read that is not a regular one, and none that lies outside of
    `item.root`. That is asked of the file that was opened: a link, or a directory on the way, may
    have been exchanged since it was listed, or may be at any moment.

    Raises:
        ImageError: They cannot be read, are fewer than said or too many, or there are none.
    """
    if item.content is not None:
        check_size(len(item.content), limits.max_file_bytes)
        return item.content
    try:
        descriptor = os.open(item.path, _OPEN_FLAGS)
        try:
            return _read(descriptor, item, limits)
        finally:
            os.close(descriptor)
    except OSError as error:
        kind = _ERRNO_KINDS.get(error.errno or 0, ErrorKind.READ_ERROR)
        raise ImageError(kind, _one_line(error.strerror or str(error))) from error
    except ValueError as error:  # A name with a zero byte, which no file has.
        raise ImageError(ErrorKind.NOT_FOUND, _one_line(str(error))) from error
    except MemoryError as error:
        raise ImageError(ErrorKind.OUT_OF_MEMORY, "no memory to read the file") from error


def read_file(path: bytes, limits: Limits) -> bytes:
    """The content of a regular file; see `read_stored`."""
    return read_stored(Stored(path), limits)


def decode(data: bytes, out: NDArray[np.uint8], transform: Transform, limits: Limits) -> Decoded:
    """Decode and transform one encoded image.

    Args:
        data: The whole file.
        out: As for `decode_file`.
        transform: Resize and crop.
        limits: Beyond them the image is refused before memory is taken.

    Raises:
        ImageError: Kinds EMPTY, NOT_AN_IMAGE, TRUNCATED (it fails, and its end is missing), CORRUPT
            (it fails otherwise), TOO_LARGE, UNSUPPORTED_PIXELS, OUT_OF_MEMORY.
    """
    name = format_of(data)
    needed = 0
    try:
        image = open_image(name, data)
        needed = _coefficient_bytes(image)
        _check_pixels(image, limits)
        image.load()
        if lacks_its_end(name, data):
            raise ImageError(ErrorKind.TRUNCATED, f"{name}: the end of the file is missing")
        method = upright_method(image)
        rgb = to_rgb(image, transform.alpha)
        del image  # a large one may leave no room for two copies of it
        if method is not None:
            rgb = rgb.transpose(method)
        apply(rgb, transform, out)
        return Decoded(rgb.width, rgb.height)
    except ImageError:
        raise
    except Exception as error:  # Pillow raises eight kinds of exception for damaged files.
        text = _one_line(f"{name}: {error}" if str(error) else f"{name}: {type(error).__name__}")
        if needed > _memory_limit() // 2:
            # libjpeg has one answer to everything that goes wrong.
            raise ImageError(ErrorKind.OUT_OF_MEMORY, f"{text}, or too little memory") from error
        raise ImageError(_kind(error, name, data), text) from error


def _read(descriptor: int, item: Stored, limits: Limits) -> bytes:
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise ImageError(ErrorKind.NOT_A_FILE, f"is {_file_type(status.st_mode)}, not a file")
    if item.root is not None:
        _check_place(descriptor, item.path, item.root)
    size = status.st_size - item.offset if item.size is None else item.size
    check_size(size, limits.max_file_bytes)
    parts: list[bytes] = []
    missing = size
    while missing:  # Network file systems return less than was asked for.
        part = os.pread(descriptor, missing, item.offset + size - missing)
        if not part:
            break
        parts.append(part)
        missing -= len(part)
    if missing and item.size is not None:
        raise ImageError(
            ErrorKind.READ_ERROR, f"{size - missing} of {size} bytes are there: the file changed"
        )
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _check_place(descriptor: int, path: bytes, root: bytes) -> None:
    try:
        place = os.readlink(b"/proc/self/fd/%d" % descriptor)  # noqa: PTH115 - bytes
    except OSError:  # No Linux, or no /proc: the best that can be had.
        place = os.path.realpath(path)
    if not place.startswith(_home(root)):
        text = f"a link leads out of {shown(root)}, to {shown(place)}"
        raise ImageError(ErrorKind.NOT_A_FILE, _one_line(text))


@cache
def _home(root: bytes) -> bytes:
    """Where a directory really lies, with a slash at the end."""
    return os.path.realpath(root).rstrip(b"/") + b"/"


def _file_type(mode: int) -> str:
    kinds = {
        stat.S_IFDIR: "a directory",
        stat.S_IFIFO: "a named pipe",
        stat.S_IFSOCK: "a socket",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
    }
    return kinds.get(stat.S_IFMT(mode), "something else")


def _check_pixels(image: Image.Image, limits: Limits) -> None:
    pixels = image.width * image.height
    if pixels > limits.max_pixels:
        raise ImageError(
            ErrorKind.TOO_LARGE,
            f"{image.format}: {image.width}x{image.height} is {pixels} pixels; the limit is "
            f"{limits.max_pixels}",
        )


def _coefficient_bytes(image: Image.Image) -> int:
    """What libjpeg holds of a progressive image beside its pixels: all coefficients."""
    if "progressive" not in image.info:
        return 0
    return 2 * image.width * image.height * len(image.getbands())


def _memory_limit() -> int:
    """Address space that this process may have."""
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    return sys.maxsize if limit == resource.RLIM_INFINITY else limit


def _kind(error: Exception, name: str, data: bytes) -> ErrorKind:
    if isinstance(error, MemoryError):
        return ErrorKind.OUT_OF_MEMORY
    text = str(error)
    if any(words in text for words in _UNSUPPORTED):
        return ErrorKind.UNSUPPORTED_PIXELS
    if "truncated" in text.lower() or is_cut_off(name, data):
        return ErrorKind.TRUNCATED
    return ErrorKind.CORRUPT


def _one_line(text: str) -> str:
    printable = "".join(c if c.isprintable() else " " for c in text)
    return " ".join(printable.split())[:_MESSAGE_CHARACTERS]
