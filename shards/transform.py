"""From a decoded image to the model's uint8 pixels, exactly as the training stacks do it.

Resize and crop give the same bytes as torchvision's and timm's transforms of PIL images and Hugging
Face's Pillow backend: the whole image is resized by one call of Pillow, then cropped.
(`Image.resize(box=...)` would save a third of the time, but computes the filter at slightly other
positions, and differs by a level here and there.)

Only where the resized image would be huge is it done piece by piece: 20,000 x 10 with its shortest
edge resized to 256 makes 512,000 x 256 pixels, of which the crop shows 224 x 224. Pillow resizes an
image that grows along its rows first, rounds to 8 bits, then resizes along its columns, and every
row and column by itself; so two calls, one for each direction, with only the crop's columns in the
second, change no byte.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from shards.errors import ErrorKind, ImageError

__all__ = ["MAX_RESIZED_PIXELS", "MAX_SIDE", "Transform", "apply", "center_window", "resized_size"]

MAX_RESIZED_PIXELS = 1 << 27
"""Most pixels that one pass of a resize may compute: about a second, and 512 MiB for the first.

An image of 20,000 x 10 passes at the usual 224 and 256, either way round."""

MAX_SIDE = 1 << 20
"""Longest side, before and after a resize: Pillow holds the filter of every pixel of a side, which
is 48 MiB here for bicubic and gigabytes for an image of one line."""

_PIECE_PIXELS = 1 << 23
"""Most pixels of an enlarged image that are held at a time: 32 MiB."""

_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
    "box": Image.Resampling.BOX,
    "hamming": Image.Resampling.HAMMING,
}


class Transform(Protocol):
    """What is done to a decoded image, as plain values.

    The meaning of each is told in docs/preprocessing.md; every value is checked by who made it.
    """

    @property
    def height(self) -> int:
        """Rows of the result."""

    @property
    def width(self) -> int:
        """Columns of the result."""

    @property
    def resize(self) -> str:
        """'none', 'exact', 'shortest', 'longest', 'cover' or 'contain'."""

    @property
    def resize_height(self) -> int:
        """Rows that the resize aims at; the edge for 'shortest' and 'longest'."""

    @property
    def resize_width(self) -> int:
        """Columns that the resize aims at."""

    @property
    def interpolation(self) -> str:
        """A filter of Pillow, in lower case."""

    @property
    def rounding(self) -> str:
        """'trunc' or 'round' (half to even), for the side that follows from the ratio."""

    @property
    def crop_offset(self) -> str:
        """'round' (half to even) or 'floor', for half of an odd difference."""

    @property
    def pad_fill(self) -> tuple[int, int, int]:
        """RGB around an image that is smaller than the result."""

    @property
    def pad_bias(self) -> str:
        """'floor' or 'ceil': what goes to the top and left of an odd padding."""

    @property
    def alpha(self) -> str:
        """'drop', or 'white' to put transparent images on white."""


def apply(image: Image.Image, transform: Transform, out: NDArray[np.uint8]) -> None:
    """Resize, crop and pad an image into a row of a batch.

    Args:
        image: Decoded, upright and of mode RGB.
        transform: What to do.
        out: uint8 [height, width, 3], overwritten; the caller's.

    Raises:
        ImageError: The resize is beyond MAX_SIDE or MAX_RESIZED_PIXELS (TOO_LARGE).
    """
    width, height = resized_size(image.width, image.height, transform)
    left, to_left, columns = center_window(width, transform.width, transform)
    top, to_top, rows = center_window(height, transform.height, transform)
    longest = max(image.width, image.height, width, height)
    if longest > MAX_SIDE or max(width * image.height, columns * height) > MAX_RESIZED_PIXELS:
        raise ImageError(
            ErrorKind.TOO_LARGE,
            f"{image.width}x{image.height} pixels would be resized to {width}x{height}; the limits "
            f"are {MAX_SIDE} a side and {MAX_RESIZED_PIXELS} to compute",
        )
    if (columns, rows) != (transform.width, transform.height):
        out[:] = transform.pad_fill
    target = out[to_top : to_top + rows, to_left : to_left + columns]
    resample = _FILTERS[transform.interpolation]
    if height > image.height and width * height > _PIECE_PIXELS:
        image = image.resize((width, image.height), resample)
        _resize_columns(
            image.crop((left, 0, left + columns, image.height)), height, top, resample, target
        )
        return
    if (width, height) != image.size:
        image = image.resize((width, height), resample)
    if (columns, rows) != image.size:
        image = image.crop((left, top, left + columns, top + rows))
    target[...] = np.asarray(image)


def _resize_columns(
    image: Image.Image,
    height: int,
    top: int,
    resample: Image.Resampling,
    target: NDArray[np.uint8],
) -> None:
    """Resize an image to `height`, some columns at a time, and keep the rows of the crop."""
    strip = max(_PIECE_PIXELS // height, 1)
    for start in range(0, image.width, strip):
        stop = min(start + strip, image.width)
        part = image.crop((start, 0, stop, image.height)).resize((stop - start, height), resample)
        target[:, start:stop] = np.asarray(part.crop((0, top, part.width, top + len(target))))


def resized_size(width: int, height: int, transform: Transform) -> tuple[int, int]:
    """Width and height after the resize, before the crop.

    Sources: torchvision 0.29.2 `_compute_resized_output_size`, transformers 5.23.0
    `get_resize_output_image_size`, timm 1.0.31 `ResizeKeepRatio.get_params`. Where these come to
    a side of 0 pixels, and fail, it is 1 here.
    """
    mode = transform.resize
    if mode == "none":
        return width, height
    to_width, to_height = transform.resize_width, transform.resize_height
    if mode == "exact":
        return to_width, to_height
    whole = round if transform.rounding == "round" else int
    if mode in ("cover", "contain"):
        by_width, by_height = width / to_width, height / to_height
        ratio = max(by_width, by_height) if mode == "contain" else min(by_width, by_height)
        return max(whole(width / ratio), 1), max(whole(height / ratio), 1)
    if (mode == "shortest") == (width <= height):
        return to_width, max(whole(to_width * height / width), 1)
    return max(whole(to_width * width / height), 1), to_width


def center_window(size: int, target: int, transform: Transform) -> tuple[int, int, int]:
    """Where the centre crop, or the padding, of one axis lies.

    Sources: torchvision 0.29.2 `center_crop`, transformers 5.23.0 `image_transforms.center_crop`,
    timm 1.0.31 `center_crop_or_pad`.

    Returns:
        First pixel taken of the resized image, first pixel written of the result, and how many.
    """
    if size >= target:
        half = (size - target) / 2
        return (round(half) if transform.crop_offset == "round" else int(half)), 0, target
    padding = target - size
    return 0, (padding + 1) // 2 if transform.pad_bias == "ceil" else padding // 2, size
