"""Compose one image from its number: part of a photograph, a distractor or two, and a digit."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.clutter.sources import HELD_OUT_PHOTOS, TRAINING_PHOTOS

__all__ = ["SIDE", "Composer", "Split", "compose_many", "main"]

SIDE = 256
"""Pixels of an image; a classifier sees the middle 224, as after torchvision's resize to 256."""

TRAINING_DIGITS = 1297
"""The first ones train, the last 500 are held out."""

CONTRAST = (0.4, 0.95)
"""How strongly a digit covers what is behind it: so that a ResNet-18 gets about nine of ten."""

Split = Literal["train", "calibration", "held_out"]
_FIRST_SEED = {"train": 0, "calibration": 1 << 40, "held_out": 2 << 40}


@dataclass(frozen=True)
class Composer:
    """Makes the images of one split.

    Attributes:
        sources: The file that `benchmarks.clutter.sources` wrote.
        split: 'calibration' composes what 'train' does, with other random numbers.
    """

    sources: Path
    split: Split
    contrast: tuple[float, float] = CONTRAST

    def compose(self, numbers: range) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Return images uint8 [len(numbers), 256, 256, 3] and their digits int64 [len(numbers)]."""
        with np.load(self.sources) as stored:
            held_out = self.split == "held_out"
            names = HELD_OUT_PHOTOS if held_out else TRAINING_PHOTOS
            photos = [stored[name] for name in names]
            part = slice(TRAINING_DIGITS, None) if held_out else slice(TRAINING_DIGITS)
            digits, labels = stored["digits"][part], stored["labels"][part]
        images = np.empty((len(numbers), SIDE, SIDE, 3), np.uint8)
        answers = np.empty(len(numbers), np.int64)
        for index, number in enumerate(numbers):
            rng = np.random.default_rng(_FIRST_SEED[self.split] + number)
            chosen = int(rng.integers(len(digits)))
            images[index] = _compose(rng, photos, digits, chosen, self.contrast)
            answers[index] = labels[chosen]
        return images, answers


def _compose(
    rng: np.random.Generator,
    photos: list[NDArray[np.uint8]],
    digits: NDArray[np.uint8],
    chosen: int,
    contrast: tuple[float, float],
) -> NDArray[np.uint8]:
    image = _background(rng, photos)
    for _ in range(int(rng.integers(1, 3))):  # pieces of handwriting that are no digit
        piece = digits[rng.integers(len(digits))].copy()
        rows = slice(4, None) if rng.random() < 0.5 else slice(0, 4)
        piece[rows] = 0
        _blend(image, _stroke(rng, piece, (30, 60)), rng, (0.1, 0.4), margin=0)
    _blend(image, _stroke(rng, digits[chosen], (60, 140)), rng, contrast, margin=20)
    return np.clip(np.round(image), 0, 255).astype(np.uint8)


def _background(rng: np.random.Generator, photos: list[NDArray[np.uint8]]) -> NDArray[np.float32]:
    """Two parts of photographs side by side, their colours exchanged and stretched at random.

    A dozen photographs as they are would be learnt by heart.
    """
    background = _part(rng, photos)
    edge = int(rng.integers(SIDE))
    background[:, edge:] = _part(rng, photos)[:, edge:]
    return background.transpose(1, 0, 2).copy() if rng.random() < 0.5 else background


def _part(rng: np.random.Generator, photos: list[NDArray[np.uint8]]) -> NDArray[np.float32]:
    """A random part of a random photograph, in any of eight positions."""
    photo = photos[rng.integers(len(photos))]
    side = int(rng.integers(100, min(photo.shape[:2]) + 1))
    top = int(rng.integers(photo.shape[0] - side + 1))
    left = int(rng.integers(photo.shape[1] - side + 1))
    part = Image.fromarray(photo[top : top + side, left : left + side])
    pixels = np.asarray(part.resize((SIDE, SIDE), Image.Resampling.BILINEAR), np.float32)
    pixels = np.rot90(pixels[:, :: rng.choice([-1, 1])], int(rng.integers(4)))
    gain, shift = rng.uniform(0.6, 1.2, 3), rng.uniform(-30, 30, 3)
    coloured = pixels[:, :, rng.permutation(3)] * gain + shift
    return np.clip(coloured, 0, 255).astype(np.float32)


def _stroke(
    rng: np.random.Generator, digit: NDArray[np.uint8], sides: tuple[int, int]
) -> NDArray[np.float32]:
    """A digit as a mask of 0 to 1, enlarged, turned by up to 25 degrees."""
    side = int(rng.integers(*sides))
    mask = Image.fromarray(digit).resize((side, side), Image.Resampling.BICUBIC)
    mask = mask.rotate(float(rng.uniform(-25, 25)), Image.Resampling.BILINEAR)
    return np.asarray(mask, np.float32) / 255


def _blend(
    image: NDArray[np.float32],
    mask: NDArray[np.float32],
    rng: np.random.Generator,
    contrast: tuple[float, float],
    margin: int,
) -> None:
    """Lay a mask in a random colour over a random place at least `margin` pixels from the edges."""
    side = len(mask)
    top, left = (int(rng.integers(margin, SIDE - side - margin + 1)) for _ in range(2))
    place = image[top : top + side, left : left + side]
    colour = rng.uniform(0, 255, 3).astype(np.float32)
    if abs(float(colour.mean() - place.mean())) < 60:  # invisible to a person, too
        colour = 255 - colour if abs(float(255 - colour.mean() - place.mean())) > 60 else colour * 0
    cover = mask[:, :, None] * np.float32(rng.uniform(*contrast))
    place += cover * (colour - place)


def compose_many(
    composer: Composer, count: int, processes: int
) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.int64]]]:
    """Yield the images 0 to count - 1 in order, in chunks, made by several processes."""
    chunks = [range(first, min(first + 250, count)) for first in range(0, count, 250)]
    with ProcessPoolExecutor(processes) as pool:
        yield from pool.map(composer.compose, chunks)


def _save(folder: Path, composer: Composer, numbers: range) -> None:
    images, answers = composer.compose(numbers)
    for number, image, answer in zip(numbers, images, answers, strict=True):
        directory = folder / composer.split / str(answer)
        directory.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(directory / f"{number:05}.jpg", quality=92)


def main() -> None:
    """Write FOLDER/held_out/<digit>/*.jpg and FOLDER/calibration/<digit>/*.jpg."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sources", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--held-out", type=int, default=4000)
    parser.add_argument("--calibration", type=int, default=512)
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    splits: dict[Split, int] = {
        "held_out": arguments.held_out,
        "calibration": arguments.calibration,
    }
    with ProcessPoolExecutor(arguments.processes) as pool:
        for split, count in splits.items():
            save = partial(_save, arguments.folder, Composer(arguments.sources, split))
            chunks = [range(first, min(first + 250, count)) for first in range(0, count, 250)]
            list(pool.map(save, chunks))


if __name__ == "__main__":
    main()
