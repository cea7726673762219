"""The shapes that one engine serves: min:opt:max of batch, height and width."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

__all__ = ["Profile", "ShapeRange", "parse_batch_size", "parse_image_size"]

MAX_BATCH = 65_536
MAX_SIDE = 16_384
"""Pixels; above it lies no classifier, only a typing error."""
MAX_TENSOR_ELEMENTS = 2**31 - 1
"""TensorRT's limit on the volume of one tensor (NvInferRuntime.h, Dims)."""


@dataclass(frozen=True, slots=True)
class ShapeRange:
    """The smallest, the tuned-for and the largest value of one dimension.

    Attributes:
        min: Smallest size that the engine accepts.
        opt: The size that kernels are timed at.
        max: Largest size; buffers have it.
    """

    min: int
    opt: int
    max: int

    def __post_init__(self) -> None:
        if not 1 <= self.min <= self.opt <= self.max:
            raise ValueError(f"min:opt:max must rise from at least 1, got {self}")

    @classmethod
    def fixed(cls, size: int) -> Self:
        """One size and no other."""
        return cls(size, size, size)

    @property
    def is_fixed(self) -> bool:
        """Whether only one size is allowed."""
        return self.min == self.max

    def __contains__(self, size: int) -> bool:
        return self.min <= size <= self.max

    def __str__(self) -> str:
        return str(self.min) if self.is_fixed else f"{self.min}:{self.opt}:{self.max}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """The optimization profile of the input `images`, uint8 [batch, height, width, 3].

    Attributes:
        batch: Images in a batch.
        height: Rows of an image.
        width: Columns of an image.
    """

    batch: ShapeRange
    height: ShapeRange
    width: ShapeRange

    def __post_init__(self) -> None:
        batch, height, width, channels = self.max_shape
        if batch * height * width * channels > MAX_TENSOR_ELEMENTS:
            raise ValueError(
                f"a batch of {batch} images of {height}x{width} has more than 2^31 values, "
                "which TensorRT cannot address: take a smaller batch or image size"
            )

    @property
    def min_shape(self) -> tuple[int, int, int, int]:
        """The smallest input, [batch, height, width, 3]."""
        return (self.batch.min, self.height.min, self.width.min, 3)

    @property
    def opt_shape(self) -> tuple[int, int, int, int]:
        """The input that kernels are timed with, [batch, height, width, 3]."""
        return (self.batch.opt, self.height.opt, self.width.opt, 3)

    @property
    def max_shape(self) -> tuple[int, int, int, int]:
        """The largest input, [batch, height, width, 3]."""
        return (self.batch.max, self.height.max, self.width.max, 3)


def parse_batch_size(text: str, *, name: str = "--batch-size") -> ShapeRange:
    """Read "N" or "min:opt:max".

    "N" serves 1 to N and is tuned for N: the last batch of a run is seldom full.

    Raises:
        ValueError: The text is neither form, not rising, below 1 or above 65536.
    """
    try:
        smallest, tuned, largest = (_number(part) for part in _split(text))
        chosen = ShapeRange(1 if ":" not in text else smallest, tuned, largest)
    except ValueError:
        raise ValueError(
            f'{name} {text!r}: expected "N" or "min:opt:max" with 1 <= min <= opt <= max, '
            'as "256" or "1:256:512"'
        ) from None
    if chosen.max > MAX_BATCH:
        raise ValueError(f"{name} {text!r}: {chosen.max} exceeds the largest batch, {MAX_BATCH}")
    return chosen


def parse_image_size(text: str, *, name: str = "--image-size") -> tuple[ShapeRange, ShapeRange]:
    """Read an image size: "224", "240x320" (height x width), or min:opt:max of either.

    Returns:
        The ranges of height and width; a single size allows no other.

    Raises:
        ValueError: Neither form, a side out of 1 to 16384, or not rising.
    """
    try:
        sides = [[_number(side) for side in part.lower().split("x")] for part in _split(text)]
        if any(len(side) > 2 for side in sides):
            raise ValueError(text)
        height = ShapeRange(*(side[0] for side in sides))
        width = ShapeRange(*(side[-1] for side in sides))
    except ValueError:
        raise ValueError(
            f'{name} {text!r}: expected "N", "HxW" or min:opt:max of them, rising, '
            'as "224", "240x320" or "160:224:448"'
        ) from None
    if max(height.max, width.max) > MAX_SIDE:
        raise ValueError(f"{name} {text!r}: a side exceeds {MAX_SIDE} pixels")
    return height, width


def _split(text: str) -> list[str]:
    """The three parts of min:opt:max; one value stands for all three."""
    parts = text.strip().split(":")
    if len(parts) == 1:
        return parts * 3
    if len(parts) != 3:
        raise ValueError(text)
    return parts


def _number(text: str) -> int:
    """Digits and nothing else: int() would also read "1_0", "+1" and " 1"."""
    if re.fullmatch(r"[0-9]{1,9}", text) is None:
        raise ValueError(text)
    return int(text)
