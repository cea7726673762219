"""The images of the parity test: the golden ones, as files that every reader takes alike."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from tests.golden.images import pixels

__all__ = ["LABELS", "write_images"]

SIZES = ((500, 375), (225, 301), (640, 223), (37, 41), (3, 5), (13, 1))
GREY, TURNED = (257, 256), (120, 90)
ORIENTATION, TURN_RIGHT = 0x0112, 6

LABELS = (
    *("tench, Tinca tinca", "crane", "Crane", "maillot; tank suit", "0", "10", "2", "Käuzchen"),
    *("'tom' cat", 'a "dog"', "鳥", "background"),
)
"""Twelve, so that numbers sorted as text are out of order; with what separates fields elsewhere."""


def write_images(folder: Path) -> list[Path]:
    """Write PNG files, which hold exact pixels: colour, grey, and one that EXIF turns."""
    written = []
    for width, height in SIZES:
        written.append(folder / f"{width}x{height}.png")
        Image.fromarray(pixels(width, height)).save(written[-1])
    written.append(folder / "grey.png")
    Image.fromarray(pixels(*GREY, channels=1)[..., 0]).save(written[-1])
    exif = Image.Exif()
    exif[ORIENTATION] = TURN_RIGHT
    written.append(folder / "turned.png")
    Image.fromarray(pixels(*TURNED)).save(written[-1], exif=exif)
    return written
