"""Makes the digits example from scratch: its held-out images and its trained model.

    python examples/digits/train.py             write images/ and model/ beside this file
    python examples/digits/train.py --validate  try the settings, write nothing

Of scikit-learn's 1,797 digits, 45 of each class are held out and become images/. The others are
drawn DRAWINGS_PER_DIGIT times each, always differently, and train the network. With --validate a
fifth of those is left out of the training and tested instead: that is what the network and its
settings are chosen by, never the held-out digits. README.md has the results.
"""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import cyclopts
import numpy as np
import onnxruntime
import torch
from network import CLASS_NAMES, accuracy, train, write_model_folder
from numpy.typing import NDArray
from PIL import Image
from render import draw
from sklearn.datasets import load_digits

HERE = Path(__file__).resolve().parent
SEED = 20
HELD_OUT_PER_CLASS = 45
DRAWINGS_PER_DIGIT = 16

# First word of a drawing's seed: held-out drawings share no random numbers with training.
HELD_OUT_DRAWING, TRAINING_DRAWING, VALIDATION_DRAWING = 0, 1, 2


def main(*, validate: bool = False) -> None:
    """Remake the example.

    Args:
        validate: Train on 4/5 of the training digits, test on the rest, and write nothing.
    """
    data = load_digits()
    digits, labels = data.images.astype(np.uint8), data.target.astype(np.int64)
    held_out, training = split(labels, np.arange(len(labels)), HELD_OUT_PER_CLASS)
    if validate:
        print(f"validation accuracy {validation_accuracy(digits, labels, training):.4f}")
        return
    images = HERE / "images"
    write_images(images, digits, labels, held_out)
    network = train(*draw_training_set(digits, labels, training), seed=SEED)
    write_model_folder(network, HERE / "model")
    digest = hashlib.sha256((HERE / "model" / "model.onnx").read_bytes()).hexdigest()
    print(f"model.onnx sha256 {digest}")
    print(f"held-out accuracy {file_accuracy(images):.4f} over {len(held_out)} files")


def split(
    labels: NDArray[np.int64], among: NDArray[np.int64], per_class: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Choose `per_class` digits of each class at random.

    Returns:
        The chosen indices and all other ones, both int64 and ascending.
    """
    rng = np.random.default_rng(SEED)
    chosen = [
        rng.choice(among[labels[among] == label], per_class, replace=False)
        for label in range(len(CLASS_NAMES))
    ]
    taken = np.sort(np.concatenate(chosen))
    return taken, np.setdiff1d(among, taken)


def draw_training_set(
    digits: NDArray[np.uint8], labels: NDArray[np.int64], indices: NDArray[np.int64]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw every digit many times.

    Returns:
        uint8 [count, 32, 32, 3] images as the model's users decode them, and int64 [count] labels.
    """
    pixels = [
        draw(digits[index], np.random.default_rng((TRAINING_DRAWING, index, drawing))).pixels()
        for index in indices
        for drawing in range(DRAWINGS_PER_DIGIT)
    ]
    repeated = np.repeat(labels[indices], DRAWINGS_PER_DIGIT)
    return torch.from_numpy(np.stack(pixels)), torch.from_numpy(repeated)


def validation_accuracy(
    digits: NDArray[np.uint8], labels: NDArray[np.int64], training: NDArray[np.int64]
) -> float:
    """Train on four fifths of the training digits, return the accuracy on the last fifth."""
    tested, trained = split(labels, training, len(training) // (5 * len(CLASS_NAMES)))
    network = train(*draw_training_set(digits, labels, trained), seed=SEED)
    pixels = [
        draw(digits[index], np.random.default_rng((VALIDATION_DRAWING, index))).pixels()
        for index in tested
    ]
    return accuracy(network, torch.from_numpy(np.stack(pixels)), torch.from_numpy(labels[tested]))


def write_images(
    folder: Path,
    digits: NDArray[np.uint8],
    labels: NDArray[np.int64],
    indices: NDArray[np.int64],
) -> None:
    """Replace `folder` by one file a digit, <class>/digit-<index in scikit-learn>.<png or jpg>."""
    shutil.rmtree(folder, ignore_errors=True)
    for name in CLASS_NAMES:
        (folder / name).mkdir(parents=True)
    for index in indices:
        photo = draw(digits[index], np.random.default_rng((HELD_OUT_DRAWING, index)))
        path = folder / CLASS_NAMES[labels[index]] / f"digit-{index:04d}{photo.suffix}"
        path.write_bytes(photo.data)


def file_accuracy(folder: Path) -> float:
    """Measure the written model on the written files, with neither torch nor this project."""
    session = onnxruntime.InferenceSession(
        HERE / "model" / "model.onnx", providers=["CPUExecutionProvider"]
    )
    paths = sorted(folder.glob("*/*"))
    correct = 0
    for path in paths:
        with Image.open(path) as image:
            small = image.convert("RGB").resize((32, 32), Image.Resampling.BILINEAR)
        values = (np.asarray(small, np.float32) / 255 - 0.5) / 0.5
        (logits,) = session.run(None, {"pixel_values": values.transpose(2, 0, 1)[None]})
        correct += CLASS_NAMES[logits[0].argmax()] == path.parent.name
    return correct / len(paths)


if __name__ == "__main__":
    cyclopts.run(main)
