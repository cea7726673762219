"""Images that need no files, and what a model says of them: the same everywhere, at any time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from engines.graph import GraphInfo
from engines.ort_session import Session, available_cores
from engines.preprocess.spec import PreprocessSpec

__all__ = ["SYNTHETIC_KINDS", "sample_outputs", "synthetic_images"]

SYNTHETIC_KINDS = (
    "coloured gradient",
    "blobs",
    "fine texture",
    "stripes",
    "dark scene",
    "bright scene",
    "coarse texture",
    "flat colour",
)
"""What `synthetic_images` shows, in order: plain and busy, dark and bright."""

_CENTRES = ((0.25, 0.3, 0.18), (0.7, 0.4, 0.12), (0.45, 0.75, 0.22), (0.8, 0.85, 0.1))
"""Blobs: row, column and radius, as parts of the image."""


def synthetic_images(count: int, height: int, width: int) -> NDArray[np.uint8]:
    """Draw images that differ in colour, brightness, contrast and detail.

    By closed formulas and not from a random generator: what depends on them must never change.

    Args:
        count: How many, 1 to 8: the first of `SYNTHETIC_KINDS`.
        height: Rows.
        width: Columns.

    Returns:
        uint8 [count, height, width, 3], RGB.
    """
    if not 1 <= count <= len(SYNTHETIC_KINDS):
        raise ValueError(f"{count=}; expected 1 to {len(SYNTHETIC_KINDS)}")
    y = (np.arange(height, dtype=np.float64)[:, None] + 0.5) / height
    x = (np.arange(width, dtype=np.float64)[None, :] + 0.5) / width
    blobs = _blobs(y, x)
    fine = _texture(height, width, 1)
    coarse = _texture(height, width, max(2, min(height, width) // 8))
    stripes = (np.floor(6 * (x + y)) % 2).astype(np.float64)
    flat = np.ones((height, width))
    planes = (
        (x * flat, y * flat, 1 - x * y),
        (0.15 + 0.7 * blobs, 0.55 - 0.4 * blobs, 0.3 + 0.2 * blobs),
        (fine, 0.2 + 0.6 * fine[::-1], 0.9 - 0.8 * fine[:, ::-1]),
        (0.1 + 0.8 * stripes, 0.2 + 0.3 * stripes, 0.8 - 0.6 * stripes),
        (0.12 * blobs, 0.05 + 0.1 * x * flat, 0.15 * (1 - y) * flat),
        (0.98 - 0.1 * blobs, 0.9 - 0.1 * y * flat, 0.95 - 0.2 * x * flat),
        (coarse, coarse[:, ::-1], 1 - coarse[::-1]),
        (0.8 * flat, 0.35 * flat, 0.1 * flat),
    )
    images = np.stack([np.stack(channels, axis=-1) for channels in planes[:count]])
    return np.rint(255 * images).astype(np.uint8)


def _blobs(y: NDArray[np.float64], x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Soft discs, 0 to 1; rational, because exp may differ in its last bit between machines."""
    discs = [
        1 / (1 + (((y - row) ** 2 + (x - column) ** 2) / radius**2) ** 2)
        for row, column, radius in _CENTRES
    ]
    highest: NDArray[np.float64] = np.maximum.reduce(discs)
    return highest


def _texture(height: int, width: int, cell: int) -> NDArray[np.float64]:
    """Noise in squares of `cell` pixels, 0 to 1: a hash of row and column (Knuth's multiplier)."""
    row = (np.arange(height, dtype=np.uint32) // cell)[:, None]
    column = (np.arange(width, dtype=np.uint32) // cell)[None, :]
    mixed = (row * np.uint32(374761393) + column * np.uint32(668265263)) * np.uint32(2654435761)
    mixed = (mixed ^ (mixed >> np.uint32(15))) * np.uint32(2246822519)
    values: NDArray[np.float64] = (mixed >> np.uint32(24)) / 255.0
    return values


def sample_outputs(
    model: ModelProto, info: GraphInfo, spec: PreprocessSpec, count: int = 8
) -> NDArray[np.float64]:
    """Run a model on the CPU on a few synthetic images.

    Args:
        model: As it came, not wrapped.
        info: What `inspect` said of it.
        spec: How pixels become its input.
        count: Images, 1 to 8.

    Returns:
        float64 [count, classes], its own output.

    Raises:
        ModelError: ONNX Runtime does not accept it.
        InferenceError: It does not run.
    """
    images = synthetic_images(count, spec.host.height, spec.host.width)
    fed = model_input(images, info, spec)
    size = info.batch or count
    session = Session(model.SerializeToString(), threads=available_cores(), optimise=False)
    rows = []
    for start in range(0, count, size):
        batch = fed[np.arange(start, start + size) % count]  # a static batch is filled up
        [output] = session.run([info.output_name], {info.input_name: batch})
        rows.append(np.asarray(output, np.float64).reshape(size, -1))
    return np.concatenate(rows)[:count]


def model_input(
    images: NDArray[np.uint8], info: GraphInfo, spec: PreprocessSpec
) -> NDArray[np.generic]:
    """What the wrapped graph would make of pixels before the model sees them.

    Args:
        images: uint8 [count, height, width, 3], RGB.
        info: Says which layout and type the model takes.
        spec: Says how pixels are normalised; a uint8 model does that by itself.
    """
    values: NDArray[np.generic] = images
    if info.dtype != "uint8":
        subtract, multiply = (np.array(channels, np.float32) for channels in spec.affine())
        values = (images.astype(np.float32) - subtract) * multiply
    if spec.channel_order == "bgr":
        values = values[..., ::-1]
    if info.layout == "nchw":
        values = values.transpose(0, 3, 1, 2)
    return np.ascontiguousarray(values, info.dtype)
