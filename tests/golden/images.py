"""The images behind the golden files, made anew wherever they are needed.

Whole-number arithmetic only, so that every machine makes the same pixels: smooth ramps, which
show where a crop lies, under noise, which shows every difference in a filter.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["SIZES", "TRANSPARENT", "pixels"]

# Width, height: photographs both ways, square, odd, tiny, one pixel, and extreme aspect ratios.
SIZES = (
    (500, 375),
    (375, 500),
    (224, 224),
    (257, 256),
    (225, 301),
    (640, 223),
    (37, 41),
    (3, 5),
    (1, 1),
    (1, 7),
    (13, 1),
    (1000, 37),
    (31, 997),
)

TRANSPARENT = (90, 70)
"""The size that also exists with an alpha channel."""


def pixels(width: int, height: int, channels: int = 3) -> NDArray[np.uint8]:
    """uint8 [height, width, channels], the same for the same size on every machine."""
    y, x, c = np.meshgrid(
        np.arange(height, dtype=np.uint64),
        np.arange(width, dtype=np.uint64),
        np.arange(channels, dtype=np.uint64),
        indexing="ij",
    )
    ramp = (x * 255 // width * (c % 2) + y * 255 // height * ((c + 1) % 2) + c * 40) % 256
    noise = x * 2654435761 + y * 40503 + c * 2246822519 + 1
    for _ in range(3):
        noise = ((noise ^ (noise >> np.uint64(15))) * 2246822519) % (1 << 32)
    return ((ramp * 3 + noise % 256) // 4).astype(np.uint8)
