"""From whatever pixels a file holds to 8-bit RGB.

Pillow's `convert('RGB')` is what training stacks call, and what happens here wherever it is right.
It is wrong for more than 8 bits (it clips: a 16-bit photograph becomes white), and it warns where
a palette has transparency. Colour profiles are ignored, as the training stacks do.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from shards.errors import ErrorKind, ImageError
from shards.tiff import BITS_PER_SAMPLE, PHOTOMETRIC

__all__ = ["to_rgb"]

_WHITE = (255, 255, 255, 255)

_PIECE_PIXELS = 1 << 22
"""Pixels that are put on white at a time: 16 MiB."""


def to_rgb(image: Image.Image, alpha: str) -> Image.Image:
    """Convert a loaded image to mode RGB; the image itself where it is that already.

    Args:
        image: Of any mode; its `info` loses 'transparency'.
        alpha: 'drop' the alpha channel, or put the image on 'white' (as Hugging Face's
            do_convert_rgb).

    Raises:
        ImageError: Floating-point or 32-bit pixels, whose range nobody knows (UNSUPPORTED_PIXELS).
    """
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM"):
        image = _scale_16_bit(image)
    elif image.mode in ("I", "F"):
        kind = "signed or 32-bit integer" if image.mode == "I" else "floating-point"
        raise ImageError(
            ErrorKind.UNSUPPORTED_PIXELS,
            f"{image.format}: {kind} pixels (mode {image.mode}), whose range is unknown; convert "
            "the image to 8 or 16 bits",
        )
    transparent = "transparency" in image.info or image.getbands()[-1] in "Aa"
    if transparent and alpha == "white":
        return _on_white(image)
    image.info.pop("transparency", None)
    return image if image.mode == "RGB" else image.convert("RGB")


def _on_white(image: Image.Image) -> Image.Image:
    """Composite some rows at a time: the whole image would be held four times."""
    rgb = Image.new("RGB", image.size)
    rows = max(_PIECE_PIXELS // image.width, 1)
    for top in range(0, image.height, rows):
        box = (0, top, image.width, min(top + rows, image.height))
        piece = image.crop(box).convert("RGBA")
        white = Image.new("RGBA", piece.size, _WHITE)
        rgb.paste(Image.alpha_composite(white, piece).convert("RGB"), (0, top))
    return rgb


def _scale_16_bit(image: Image.Image) -> Image.Image:
    """The upper 8 of 16 bits, as Pillow takes of 16-bit RGB.

    TIFF may have 12 bits in 16, and zero may be white, which Pillow tells but does not apply.
    """
    pixels = np.asarray(image)
    tags = getattr(image, "tag_v2", {})
    bits = 12 if tags.get(BITS_PER_SAMPLE, ()) == (12,) else 16
    gray = (pixels >> (bits - 8)).astype(np.uint8)
    if tags.get(PHOTOMETRIC) == 0:
        gray = 255 - gray
    return Image.fromarray(gray)
