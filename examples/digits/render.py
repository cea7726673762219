"""Draws an 8x8 digit as the small photograph or scan of a handwritten figure that it once was.

scikit-learn carries the digits as 8x8 grids that count the ink in each cell of a 32x32 bitmap. Here
the strokes are rebuilt by interpolation, drawn with a pen on paper or with chalk on a board, a
little turned and unevenly lit, and stored as a person would find them: PNG or JPEG, 24 to 96 pixels
a side, mostly not square.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

__all__ = ["Photo", "draw"]

Rgb = tuple[int, int, int]

# Ink first, then what it is written on.
MATERIALS: tuple[tuple[Rgb, Rgb], ...] = (
    ((28, 38, 110), (246, 244, 238)),  # blue ballpoint on white paper
    ((30, 30, 34), (240, 232, 212)),  # black ink on cream paper
    ((84, 84, 88), (226, 226, 222)),  # pencil on recycled paper
    ((170, 34, 40), (250, 248, 244)),  # red pen on white paper
    ((40, 60, 52), (214, 224, 200)),  # dark green ink on green paper
    ((32, 52, 120), (236, 214, 170)),  # blue ink on an envelope
    ((232, 232, 224), (52, 78, 66)),  # chalk on a green board
)
GRID_COLOUR = np.array((150, 180, 214), np.float32)  # the pale blue of squared paper

MIN_SIDE, MAX_SIDE = 24, 96  # pixels
CELL = 16  # pixels of the enlarged drawing for one of the 8x8 cells
BORDER = 2  # empty cells around the 8x8 ones, so that interpolated strokes end inside the drawing
OVERSAMPLE = 4  # the canvas is drawn this many times larger, then averaged: smooth strokes


@dataclass(frozen=True, slots=True)
class Photo:
    """One drawn digit as a file.

    Attributes:
        suffix: '.png' or '.jpg'.
        data: The encoded file.
    """

    suffix: Literal[".jpg", ".png"]
    data: bytes

    def pixels(self) -> NDArray[np.uint8]:
        """Decode, and resize to the model's input as preprocessor_config.json says.

        Returns:
            uint8 [32, 32, 3], RGB.
        """
        with Image.open(io.BytesIO(self.data)) as image:
            resized = image.convert("RGB").resize((32, 32), Image.Resampling.BILINEAR)
        return np.asarray(resized)


def draw(digit: NDArray[np.uint8], rng: np.random.Generator) -> Photo:
    """Draw one digit; equal digits and equal generator states give equal bytes.

    Args:
        digit: uint8 [8, 8], 0 (no ink) to 16 (all ink).
        rng: Chooses size, material, light, slant and file format.

    Returns:
        The encoded picture.
    """
    width, height = _size(rng)
    ink, paper = MATERIALS[rng.integers(len(MATERIALS))]
    coverage = _place(_strokes(digit, rng), width, height, rng)
    background = _background(np.array(paper, np.float32), width, height, rng)
    strength = np.float32(rng.uniform(0.8, 1.0)) * coverage[:, :, None]
    mixed = background * (1 - strength) + np.array(ink, np.float32) * strength
    # Light and grain fall on ink and paper alike; one grain for the three channels, as in a scan.
    mixed = mixed * _light(width, height, rng) + _grain(width, height, rng)
    image = Image.fromarray(np.clip(np.rint(mixed), 0, 255).astype(np.uint8))
    return _encode(image, rng)


def _size(rng: np.random.Generator) -> tuple[int, int]:
    """Choose width and height; a figure's box is a little taller than wide on average."""
    height = int(rng.integers(MIN_SIDE, MAX_SIDE + 1))
    width = round(height * rng.uniform(0.65, 1.25))
    return min(max(width, MIN_SIDE), MAX_SIDE), height


def _strokes(digit: NDArray[np.uint8], rng: np.random.Generator) -> Image.Image:
    """Rebuild sharp strokes from cell counts: interpolate, then cut softly at a level.

    A lower level is a broader pen.
    """
    counts = np.pad(digit.astype(np.uint16) * 255 // 16, BORDER).astype(np.uint8)
    side = counts.shape[0] * CELL
    smooth = Image.fromarray(counts).resize((side, side), Image.Resampling.BICUBIC)
    # Sharpening lifts thin strokes and deepens the holes of small loops: both survive the cut.
    smooth = smooth.filter(ImageFilter.UnsharpMask(radius=1.25 * CELL, percent=180, threshold=0))
    level, softness = rng.uniform(115, 160), rng.uniform(60, 110)
    ramp = np.clip((np.arange(256) - level) / softness + 0.5, 0, 1)
    curve = np.rint(255 * ramp * ramp * (3 - 2 * ramp)).astype(int)  # smoothstep
    return smooth.point(curve.tolist())


def _place(
    strokes: Image.Image, width: int, height: int, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Turn, slant, scale and move the drawing onto the canvas.

    Returns:
        float32 [height, width], how much of each pixel is ink, 0 to 1.
    """
    canvas_width, canvas_height = width * OVERSAMPLE, height * OVERSAMPLE
    digit_side = 8 * CELL
    scale_y = rng.uniform(0.72, 0.92) * canvas_height / digit_side
    # The digits fill about three quarters of their cells' width: they may reach the canvas' edge.
    scale_x = min(scale_y * rng.uniform(0.85, 1.15), 1.1 * canvas_width / digit_side)
    turn, slant = rng.uniform(-0.12, 0.12), rng.uniform(-0.12, 0.12)  # about 7 degrees, as tangents
    shift_x, shift_y = rng.uniform(-0.04, 0.04, 2) * (canvas_width, canvas_height)
    # Pillow wants the map from canvas to drawing, about the centres of both.
    a, b = 1 / scale_x, (slant - turn) / scale_x
    d, e = turn / scale_y, 1 / scale_y
    centre = strokes.width / 2
    middle_x, middle_y = canvas_width / 2 + shift_x, canvas_height / 2 + shift_y
    matrix = (
        a,
        b,
        centre - a * middle_x - b * middle_y,
        d,
        e,
        centre - d * middle_x - e * middle_y,
    )
    placed = strokes.transform(
        (canvas_width, canvas_height), Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR
    )
    coverage: NDArray[np.float32] = np.asarray(placed.reduce(OVERSAMPLE), np.float32)
    return coverage / np.float32(255)


def _background(
    paper: NDArray[np.float32], width: int, height: int, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Paper, every fourth sheet squared; float32 [height, width, 3]."""
    sheet = np.broadcast_to(paper, (height, width, 3)).copy()
    is_squared = rng.random() < 0.25 and paper.mean() > 128
    pitch = int(rng.integers(12, 28))
    first_x, first_y = rng.integers(pitch, size=2)
    if is_squared:
        for line in (np.s_[first_y::pitch, :], np.s_[:, first_x::pitch]):
            sheet[line] = 0.55 * sheet[line] + 0.45 * GRID_COLOUR
    return sheet


def _light(width: int, height: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Uneven light across the picture; float32 [height, width, 1], about 0.75 to 1.05."""
    x = np.linspace(-1, 1, width, dtype=np.float32)[None, :]
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    slope_x, slope_y = rng.uniform(-0.07, 0.07, 2).astype(np.float32)
    level = np.float32(rng.uniform(0.86, 1.0))
    return (level + slope_x * x + slope_y * y)[:, :, None]


def _grain(width: int, height: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Sensor noise and paper fibre; float32 [height, width, 1], in levels of 0 to 255."""
    grain: NDArray[np.float32] = rng.standard_normal((height, width, 1), np.float32)
    grain *= np.float32(rng.uniform(0.5, 2.5))
    return grain


def _encode(image: Image.Image, rng: np.random.Generator) -> Photo:
    """Store one third as PNG (a scanner), the rest as JPEG of common qualities (a camera)."""
    buffer = io.BytesIO()
    quality = int(rng.integers(72, 93))
    if rng.random() < 1 / 3:
        image.save(buffer, "PNG", optimize=True)
        return Photo(".png", buffer.getvalue())
    image.save(buffer, "JPEG", quality=quality)
    return Photo(".jpg", buffer.getvalue())
