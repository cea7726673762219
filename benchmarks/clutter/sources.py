"""Collect the digits and the photographs into one file that travels to the machine that trains."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

__all__ = ["collect", "main"]

TRAINING_PHOTOS = (
    "astronaut.png",
    "brick.png",
    "camera.png",
    "chelsea.png",
    "coins.png",
    "grass.png",
    "gravel.png",
    "hubble_deep_field.jpg",
    "ihc.png",
    "retina.jpg",
    "china.jpg",
)
HELD_OUT_PHOTOS = ("coffee.png", "flower.jpg", "motorcycle_left.png", "rocket.jpg")

LONGEST_SIDE = 640


def collect() -> dict[str, NDArray[np.uint8]]:
    """Return `digits` uint8 [1797, 8, 8], `labels` uint8 [1797], and the photographs by name."""
    import skimage
    import sklearn
    from sklearn.datasets import load_digits

    digits = load_digits()
    arrays = {
        "digits": np.round(digits.images * (255 / 16)).astype(np.uint8),
        "labels": digits.target.astype(np.uint8),
    }
    folders = [
        Path(skimage.__file__).parent / "data",
        Path(sklearn.__file__).parent / "datasets" / "images",
    ]
    for name in (*TRAINING_PHOTOS, *HELD_OUT_PHOTOS):
        path = next(folder / name for folder in folders if (folder / name).is_file())
        with Image.open(path) as photo:
            photo = photo.convert("RGB")
            photo.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
            arrays[name] = np.asarray(photo)
    return arrays


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sources", type=Path)
    np.savez_compressed(parser.parse_args().sources, **collect())


if __name__ == "__main__":
    main()
