"""Makes JPEGs that cost a decoder what photographs cost it, without shipping photographs.

    python -m benchmarks.images OUT --count 2000

Each image is soft light, sharp-edged shapes and texture at seven scales whose strength differs
across the picture, as sky and grass do, plus sensor noise. Sizes are those most common in ImageNet:
500 pixels on the longer side, 500x375 most often; a file in 4:2:0 at quality 85 to 90 has 48 KB on
average and 30 to 65 KB in most cases. Equal seeds give equal pixels, and equal files where Pillow's
version is the same; image i does not depend on the count.
"""

from __future__ import annotations

import io
import os
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import cyclopts
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

__all__ = ["draw_photo", "image_path", "write_images"]

Floats = NDArray[np.float32]

LONG_SIDE = 500  # pixels
SHORT_SIDES = (375, 375, 375, 333, 364, 388)  # pixels; repeated as often as it should be chosen
PORTRAIT_SHARE = 0.25
IMAGES_PER_FOLDER = 1000
OCTAVES = 7  # the coarsest texture has a cell of 2**6 = 64 pixels
CHUNK = 16  # images handed to a process at once


def write_images(out: Path, count: int, *, seed: int = 0, processes: int | None = None) -> None:
    """Write `count` JPEGs as <out>/<thousands>/<index>.jpg, replacing files of these names.

    Args:
        out: Folder to make.
        count: Number of images.
        seed: Images of different seeds have nothing in common.
        processes: Processes that draw; None takes one for each usable core, 1 draws in this one.
    """
    for start in range(0, count, IMAGES_PER_FOLDER):
        image_path(out, start).parent.mkdir(parents=True, exist_ok=True)
    write = partial(_write_image, out, seed)
    workers = len(os.sched_getaffinity(0)) if processes is None else processes
    if workers == 1:
        for index in range(count):
            write(index)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        for _ in pool.map(write, range(count), chunksize=CHUNK):
            pass


def image_path(out: Path, index: int) -> Path:
    """Return where `write_images` puts image `index`."""
    return out / f"{index // IMAGES_PER_FOLDER:04d}" / f"{index:07d}.jpg"


def draw_photo(seed: int, index: int) -> bytes:
    """Draw image `index` of `seed` and return its JPEG."""
    rng = np.random.default_rng((seed, index))
    width, height = LONG_SIDE, int(rng.choice(SHORT_SIDES))
    if rng.random() < PORTRAIT_SHARE:
        width, height = height, width
    scene = np.asarray(_scene(width, height, rng), np.float32)
    shade = _texture(width, height, rng) + rng.normal(0, 2.0, (height, width)).astype(np.float32)
    pixels = np.clip(np.rint(scene + shade[:, :, None]), 0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    quality = int(rng.integers(85, 91))
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality, subsampling="4:2:0")
    return buffer.getvalue()


def _write_image(out: Path, seed: int, index: int) -> None:
    image_path(out, index).write_bytes(draw_photo(seed, index))


def _scene(width: int, height: int, rng: np.random.Generator) -> Image.Image:
    """Soft coloured light with shapes before it; those behind are out of focus."""
    corners = np.array([[_colour(rng) for _ in range(4)] for _ in range(3)], np.uint8)
    scene = Image.fromarray(corners).resize((width, height), Image.Resampling.BICUBIC)
    for number in range(int(rng.integers(6, 20))):
        _draw_shape(scene, rng)
        if number == 3:
            scene = scene.filter(ImageFilter.GaussianBlur(float(rng.uniform(2, 6))))
    return scene.filter(ImageFilter.GaussianBlur(0.6))  # a lens has no aliased edges


def _draw_shape(scene: Image.Image, rng: np.random.Generator) -> None:
    centre = rng.uniform((0, 0), scene.size)
    radius = rng.uniform(0.04, 0.3) * min(scene.size)
    colour = _colour(rng)
    pencil = ImageDraw.Draw(scene)
    if rng.random() < 0.4:
        stretch = radius * rng.uniform(0.4, 1, 2)
        pencil.ellipse([*(centre - stretch), *(centre + stretch)], fill=colour)
        return
    angles = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(3, 9))))
    corners = centre + radius * np.stack((np.cos(angles), np.sin(angles)), axis=1)
    pencil.polygon([(float(x), float(y)) for x, y in corners], fill=colour)


def _colour(rng: np.random.Generator) -> tuple[int, int, int]:
    """Choose a colour as muted as those of things are: any brightness, a little off grey."""
    red, green, blue = (
        np.clip(rng.uniform(40, 220) + rng.normal(0, 28, 3), 0, 255).astype(int).tolist()
    )
    return red, green, blue


def _texture(width: int, height: int, rng: np.random.Generator) -> Floats:
    """Noise at every scale, strong in some regions and absent in others.

    Returns:
        float32 [height, width], levels of 0 to 255 around 0.
    """
    total = np.zeros((height, width), np.float32)
    # Amplitude grows more slowly than the cell: more fine detail than in 1/f noise, as in foliage.
    for octave in range(OCTAVES):
        total += np.float32(2 ** (octave / 4)) * _smooth_noise(width, height, 2**octave, rng)
    where = np.clip(_smooth_noise(width, height, 96, rng) + np.float32(0.5), 0, 2)
    total *= where * np.float32(rng.uniform(5, 10.5))
    return total


def _smooth_noise(width: int, height: int, cell: int, rng: np.random.Generator) -> Floats:
    """Normal noise on a grid of `cell` pixels, interpolated; float32 [height, width]."""
    columns, rows = -(-width // cell), -(-height // cell)
    grid = Image.fromarray(rng.standard_normal((rows, columns), np.float32))
    return np.asarray(grid.resize((width, height), Image.Resampling.BICUBIC), np.float32)


def main(out: Path, /, *, count: int = 2000, seed: int = 0) -> None:
    """Write synthetic photographs.

    Args:
        out: Folder to make.
        count: Number of images.
        seed: Images of different seeds have nothing in common.
    """
    write_images(out, count, seed=seed)


if __name__ == "__main__":
    cyclopts.run(main)
