"""What a model would answer if its images were normalised in another way.

A wrong pixel range, mean or order of channels raises no error: every tensor has the right shape,
and the scores look like scores. But a model that is fed as it was trained tells images apart, and
is sure of it. That is one number: the bits of information that its answers carry about the image,
the entropy of the mean answer minus the mean entropy of the answers (Bridle, Heading and MacKay
1991, 'Unsupervised Classifiers, Mutual Information and Phantom Targets'; as the Inception score,
Salimans et al. 2016). docs/doctor.md has what it was measured to catch, and what it cannot.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper

from engines.model import Model
from engines.ort_session import Session, available_cores
from engines.preprocess import PreprocessSpec
from engines.wrap import IMAGES, LOGITS, PREFIX, Activation

__all__ = [
    "CANDIDATES",
    "Answers",
    "Candidate",
    "Refeeding",
    "answers_of",
    "clearly_better",
    "spread_of",
]

SUBTRACT, MULTIPLY = (f"{PREFIX}{name}/constant_0" for name in ("subtract", "multiply"))

CHUNK = 16
"""Images run at once: what a model takes for its activations is not known here."""

MARGIN = 0.1
"""Of the bits that are possible. On nine trained models and 64 images the right normalisation was
at most 0.006 below the best of the others; nearly all wrong ones that cost ten points of accuracy
were 0.1 and more below the right one (benchmarks.preprocess.detect has the figures)."""

ENOUGH = 0.6
"""Of the bits that are possible. On images of another domain than a model's own, any normalisation
is as good as another: what was mistaken for better carried 0.51 at most."""

LARGER = 5.0
"""Times as large logits. Ranges of one magnitude stayed within 3.1; pixels of 0 to 255 for a model
that wants 0 to 1 gave 9 to 68."""

FLAT = 0.1
"""Spread of logits below which a model hardly looks at its images: see `spread_of`. Trained models
had 1.0 and more on images that differ and 0.3 and more on images of one class, but 0.001 to 0.09
where small numbers came for pixels of 0 to 255."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A way to normalise that is in common use.

    Attributes:
        name: In words.
        flags: How to ask for it.
        scale: As in `PreprocessSpec`.
        offset: Likewise.
        mean: Likewise.
        std: Likewise.
        bgr: Whether it goes with that order of channels; otherwise the order is left alone.
    """

    name: str
    flags: str
    scale: float
    offset: float = 0.0
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    bgr: bool = False

    def applied_to(self, spec: PreprocessSpec) -> PreprocessSpec:
        """The same preprocessing with this normalisation."""
        return replace(
            spec,
            scale=self.scale,
            offset=self.offset,
            mean=self.mean,
            std=self.std,
            std_twice=False,
            channel_order="bgr" if self.bgr else spec.channel_order,
        )


_PLAIN = "--mean 0 0 0 --std 1 1 1"

CANDIDATES = (
    Candidate(name="pixels of 0 to 255", flags=f"--pixel-range 0-255 {_PLAIN}", scale=1.0),
    Candidate(name="pixels of 0 to 1", flags=f"--pixel-range 0-1 {_PLAIN}", scale=1 / 255),
    Candidate(
        name="pixels of -1 to 1", flags=f"--pixel-range -1-1 {_PLAIN}", scale=2 / 255, offset=-1.0
    ),
    Candidate(
        name="ImageNet's mean and std",
        flags="--pixel-range 0-1 --mean 0.485 0.456 0.406 --std 0.229 0.224 0.225",
        scale=1 / 255,
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
    ),
    Candidate(
        name="pixels of 0 to 255 less ImageNet's mean, as BGR",
        flags="--pixel-range 0-255 --mean 103.939 116.779 123.68 --std 1 1 1 --channel-order bgr",
        scale=1.0,
        mean=(103.939, 116.779, 123.68),
        bgr=True,
    ),
)
"""What exporters expect, and the normalisations of PyTorch's, TensorFlow's and Caffe's models."""


class Refeeding:
    """A wrapped model on the CPU whose normalisation is an input."""

    def __init__(self, model: Model) -> None:
        """Load the model once; each call of `logits` may normalise in another way.

        Raises:
            ModelError: ONNX Runtime does not accept the graph.
        """
        self._spec = model.spec
        proto = ModelProto.FromString(model.graph)
        constants = [t for t in proto.graph.initializer if t.name in (SUBTRACT, MULTIPLY)]
        self.normalises = bool(constants)
        """Whether anything can be exchanged but the order of channels: not where a model takes
        uint8 and does the rest by itself."""
        self._shape = tuple(constants[0].dims) if constants else ()
        for constant in constants:
            proto.graph.initializer.remove(constant)
            proto.graph.input.append(
                helper.make_tensor_value_info(constant.name, TensorProto.FLOAT, self._shape)
            )
        self._session = Session(proto.SerializeToString(), threads=available_cores())

    def logits(
        self, images: NDArray[np.uint8], spec: PreprocessSpec | None = None
    ) -> NDArray[np.float32]:
        """Run the model on images that are normalised as `spec` says.

        Args:
            images: uint8 [count, height, width, 3], RGB.
            spec: Only its device part counts; None is the model's own.

        Returns:
            float32 [count, classes], the model's own output.

        Raises:
            InferenceError: ONNX Runtime failed.
        """
        spec = spec or self._spec
        constants = [np.array(channels, np.float32) for channels in spec.affine()]
        if spec.channel_order != self._spec.channel_order:  # the graph's order is built in
            images = images[..., ::-1]
            constants = [channels[::-1] for channels in constants]
        feeds = {}
        if self.normalises:
            names = zip((SUBTRACT, MULTIPLY), constants, strict=True)
            feeds = {name: values.reshape(self._shape) for name, values in names}
        rows = []
        for start in range(0, len(images), CHUNK):
            chunk = np.ascontiguousarray(images[start : start + CHUNK])
            rows += self._session.run([LOGITS], {IMAGES: chunk, **feeds})
        return np.concatenate(rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """What a model's answers to some images look like.

    Attributes:
        information: Bits that an answer carries about its image, 0 to log2(min(classes, images)).
        doubt: Mean entropy of an answer, bits.
        size: Largest absolute logit.
        spread: See `spread_of`.
        possible: Bits that there may be.
    """

    information: float
    doubt: float
    size: float
    spread: float
    possible: float


def answers_of(logits: NDArray[np.floating], activation: Activation) -> Answers:
    """Measure answers.

    Args:
        logits: Any float [images, classes], finite: the model's own output.
        activation: 'softmax', or 'none' where the rows are probabilities already.
    """
    rows = np.asarray(logits, np.float64)
    if activation == "none":
        rows = np.log(np.clip(rows, 1e-12, None))
    powers = np.exp(rows - rows.max(axis=1, keepdims=True))
    scores = powers / powers.sum(axis=1, keepdims=True)
    doubt = float(_entropy(scores).mean())
    return Answers(
        information=float(_entropy(scores.mean(axis=0))) - doubt,
        doubt=doubt,
        size=float(np.abs(rows).max()),
        spread=spread_of(rows),
        possible=math.log2(max(2, min(rows.shape))),
    )


def spread_of(logits: NDArray[np.floating]) -> float:
    """How far the logits of different images lie apart.

    Args:
        logits: Any float [images, classes], finite.

    Returns:
        The widest range of a class as a part of the largest logit; 0 where all images are alike.
    """
    rows = np.asarray(logits, np.float64)
    largest = float(np.abs(rows).max())
    return float(np.ptp(rows, axis=0).max()) / largest if largest else 0.0


def clearly_better(other: Answers, own: Answers) -> bool:
    """Whether another normalisation suits the model so much better that its own must be wrong.

    It has to tell the images apart far better, and one thing more: be surer of its answers; or have
    the model's own logits out of all proportion; or have them alike whatever the image. Without
    that, images of one class would do: the right answer is the same for all of them, and every
    wrong normalisation finds more to say.
    """
    possible = own.possible
    if other.information < max(ENOUGH * possible, own.information + MARGIN * possible):
        return False
    if own.size >= LARGER * other.size:
        return True
    if own.spread < FLAT and other.spread >= LARGER * own.spread:
        return True
    return other.doubt <= own.doubt and other.size < LARGER * own.size


def _entropy(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Bits of each row."""
    entropy: NDArray[np.float64] = -(scores * np.log2(np.maximum(scores, 1e-300))).sum(axis=-1)
    return entropy
