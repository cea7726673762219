"""Values of parameters that have a form of their own: how each is written, and what it means."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Strict

__all__ = [
    "BatchSize",
    "Extension",
    "ImageMemory",
    "ImageSize",
    "Integer",
    "PixelSize",
    "Profile",
    "RunId",
    "Sha256",
    "Size",
    "Text",
    "Triple",
    "Workspace",
    "bytes_of",
    "checked_text",
    "profile_of",
    "size_of",
]

MAX_BATCH = 4096
"""Images; beyond it no device gains anything, and a slip of the pen costs gigabytes."""

MAX_SIDE = 16_384
"""Pixels; no classifier takes more."""

MAX_WORKSPACE = 4096 * 2**30
"""Bytes; no GPU has more."""

MIN_IMAGE_MEMORY = 64 * 2**20
"""Bytes; with less a decoder is not even ready."""

UNITS = {"mib": 2**20, "gib": 2**30}

Profile = tuple[int, int, int]
"""Smallest, usual and largest value that one engine serves."""

Size = tuple[int, int]
"""Height and width, pixels."""

Triple = tuple[float, float, float]


def checked_text(value: str) -> str:
    """Refuse a text that is empty or that no path can hold."""
    if not value.strip() or "\0" in value:
        raise ValueError("expected a text that is not empty")
    return value


def profile_of(value: int | str, largest: int) -> Profile:
    """Read "N" or "min:opt:max"."""
    if re.fullmatch(r"\d{1,6}(:\d{1,6}:\d{1,6})?", str(value), re.ASCII):
        parts = [int(part) for part in str(value).split(":")]
        low, usual, high = parts if len(parts) == 3 else parts * 3
        if 1 <= low <= usual <= high <= largest:
            return low, usual, high
    raise ValueError(f"expected N or min:opt:max, rising integers from 1 to {largest}")


def size_of(value: int | str) -> Size:
    """Read "N" or "HEIGHTxWIDTH"."""
    if re.fullmatch(r"\d{1,6}(x\d{1,6})?", str(value), re.ASCII):
        parts = [int(part) for part in str(value).split("x")]
        if all(1 <= part <= MAX_SIDE for part in parts):
            return parts[0], parts[-1]
    raise ValueError(f"expected N or HEIGHTxWIDTH, integers from 1 to {MAX_SIDE}")


def bytes_of(value: str) -> int:
    """Read "512MiB" or "4GiB"."""
    match = re.fullmatch(r"(\d{1,7}(?:\.\d{1,3})?) ?(MiB|GiB)", value, re.ASCII | re.IGNORECASE)
    if match:
        nbytes = int(float(match[1]) * UNITS[match[2].lower()])
        if 2**20 <= nbytes <= MAX_WORKSPACE:
            return nbytes
    raise ValueError("expected a size with its unit, from 1MiB to 4096GiB, as 512MiB or 4GiB")


def _extension(value: str) -> str:
    if not re.fullmatch(r"\.[A-Za-z0-9]+", value):
        raise ValueError("expected a dot with letters or digits after it, as .jpg")
    return value.lower()


def _run_id(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}", value):
        raise ValueError(
            "expected up to 100 letters, digits, dots, dashes and underscores, no dot or dash first"
        )
    return value


def _sha256(value: str) -> str:
    if not re.fullmatch(r"[0-9A-Fa-f]{64}", value):
        raise ValueError("expected 64 hexadecimal digits")
    return value.lower()


def _batch_size(value: int | str) -> int | str:
    profile_of(value, MAX_BATCH)
    return value


def _image_size(value: int | str) -> int | str:
    profile_of(value, MAX_SIDE)
    return value


def _pixel_size(value: int | str) -> int | str:
    size_of(value)
    return value


def _workspace(value: str) -> str:
    bytes_of(value)
    return value


def _image_memory(value: str) -> str:
    if bytes_of(value) < MIN_IMAGE_MEMORY:
        raise ValueError("expected at least 64MiB")
    return value


# Strict: `true` is no 1, and "5" in a deployment's JSON is a mistake worth hearing of.
Integer = Annotated[int, Strict()]
Text = Annotated[str, AfterValidator(checked_text)]
Extension = Annotated[str, AfterValidator(_extension)]
RunId = Annotated[str, AfterValidator(_run_id)]
Sha256 = Annotated[str, AfterValidator(_sha256)]
BatchSize = Annotated[Integer | str, AfterValidator(_batch_size)]
ImageSize = Annotated[Integer | str, AfterValidator(_image_size)]
PixelSize = Annotated[Integer | str, AfterValidator(_pixel_size)]
ImageMemory = Annotated[str, AfterValidator(_image_memory)]
Workspace = Annotated[str, AfterValidator(_workspace)]
