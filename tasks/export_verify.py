"""An exported folder, read as classify_dir reads it, against the module it was made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from engines.model import Model
from engines.onnx_runtime import OnnxRuntimeClassifier
from tasks.errors import ExportError
from tasks.export_source import export_extra

if TYPE_CHECKING:
    import torch

__all__ = ["Agreement", "compare"]

IMAGES = 8

TOLERANCE = 1e-3
"""Of logits, relative to their largest: float32 sums in another order stay ten times below."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """How far ONNX Runtime is from PyTorch.

    Attributes:
        images: Compared.
        top1: Of these, those with the same best class.
        worst_logit: Largest difference of a logit.
        largest_logit: Largest magnitude of PyTorch's logits.
    """

    images: int
    top1: int
    worst_logit: float
    largest_logit: float


def compare(module: torch.nn.Module, model: Model) -> Agreement:
    """Classify made images with both.

    The module gets pixels that are normalised here, in float64; the graph normalises by itself.

    Args:
        module: torch.nn.Module; normalised float32 images [N, 3, H, W] to logits [N, classes].
        model: The exported folder, loaded.

    Raises:
        ExportError: They do not agree.
    """
    with export_extra():
        import torch
    images = _made_images(IMAGES, model.input_height, model.input_width)
    mean, factor = (np.asarray(values) for values in model.spec.affine())
    order = [2, 1, 0] if model.spec.channel_order == "bgr" else [0, 1, 2]
    normalised = ((images[..., order] - mean) * factor).transpose(0, 3, 1, 2).astype(np.float32)
    with torch.no_grad():
        expected = module(torch.from_numpy(np.ascontiguousarray(normalised))).numpy()
    return _agreement(expected, _classified(images, model), model)


def _made_images(count: int, height: int, width: int) -> NDArray[np.uint8]:
    """Images that differ in colour, gradient and grain: uint8 [count, height, width, 3], NHWC."""
    rng = np.random.default_rng(0)
    y, x = np.linspace(0, 1, height)[:, None, None], np.linspace(0, 1, width)[None, :, None]
    made = []
    for _ in range(count):
        colour, down, across = rng.uniform(0, 255, (3, 3))
        grain = rng.normal(0, rng.uniform(0, 60), (height, width, 3))
        made.append(colour + (down - colour) * y / 2 + (across - colour) * x / 2 + grain)
    return np.clip(np.rint(made), 0, 255).astype(np.uint8)


def _classified(images: NDArray[np.uint8], model: Model) -> NDArray[np.float32]:
    """The logits that classify_dir would get, float32 [count, classes]."""
    with OnnxRuntimeClassifier(model, batch_size=len(images), slots=1, logits=True) as classifier:
        slot = classifier.acquire()
        slot.images[:] = images
        classifier.submit(slot, len(images))
        logits = classifier.collect().logits
    assert logits is not None
    return logits


def _agreement(
    expected: NDArray[np.float32], found: NDArray[np.float32], model: Model
) -> Agreement:
    if expected.shape != found.shape:
        raise ExportError(
            f"the graph gives logits of {found.shape}, PyTorch of {expected.shape}: report it"
        )
    agreement = Agreement(
        images=len(expected),
        top1=int((expected.argmax(axis=1) == found.argmax(axis=1)).sum()),
        worst_logit=float(np.abs(expected - found).max()),
        largest_logit=float(np.abs(expected).max()),
    )
    if not agreement.worst_logit <= TOLERANCE * agreement.largest_logit:
        raise ExportError(
            f"the exported graph of {model.name} differs from PyTorch by"
            f" {agreement.worst_logit:.3g} in a logit, where the largest is"
            f" {agreement.largest_logit:.3g}: nothing was kept. Another --opset may help"
        )
    return agreement
