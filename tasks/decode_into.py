"""The decoders' side of a slot: paths in, rows of pixels out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shards.decode import Decoded, Limits, decode_file
from shards.errors import ImageError
from shards.transform import Transform

__all__ = ["DecodeInto", "Decoding"]

Decoding = Decoded | ImageError


@dataclass(frozen=True, slots=True)
class DecodeInto:
    """Fills rows of a slot; an image that cannot be decoded is an ImageError, never a crash.

    Attributes:
        transform: The host's part of the preprocessing.
        limits: What one image may cost.
    """

    transform: Transform
    limits: Limits

    def __call__(self, paths: Sequence[bytes], images: NDArray[np.uint8]) -> list[Decoding]:
        """Decode paths[i] into images[i], uint8 [height, width, 3]; thread-safe."""
        return [self._decode(path, image) for path, image in zip(paths, images, strict=True)]

    def _decode(self, path: bytes, image: NDArray[np.uint8]) -> Decoding:
        try:
            return decode_file(path, image, self.transform, self.limits)
        except ImageError as error:
            return error
