"""A few images through an opened classifier, before many: does it behave as a classifier does?

Seven images and one of them once more: four that are drawn here and up to three of the user's. On
logits and not on scores, because sound models saturate: a hundred images with a score of 1.0 are no
fault. What looks like a fault of the preprocessing is confirmed before anything is refused: the
same images go through the model on the CPU, normalised in other ways (see `engines.alternatives`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engines.activation import kind_of_rows
from engines.alternatives import CANDIDATES, FLAT, Refeeding, spread_of
from engines.check import Check, Status
from engines.classifier import Classifier
from engines.model import Model
from engines.sampling import synthetic_images

__all__ = ["self_test"]

SYNTHETIC_IMAGES = 4
_OWN_IMAGES = 3
"""With one image alone they are eight: about what a person is willing to wait for on a CPU."""

BATCH_TOLERANCE = {"fp32": 5e-3, "fp16": 2e-2, "bf16": 0.1, "int8": 0.1}
"""Of the largest logit. A rounding error of the format (TF32 in fp32: 2^-11, fp16 2^-11, bf16 2^-8,
int8 one step of 127) that has grown over a hundred layers as random errors do, tenfold, with room
to spare. A model that mixes the images of a batch is wrong by a large part of its logits."""

IDENTICAL = 1e-6
"""Spread of logits below which nothing but float32 rounding is left of the images."""

HARDLY = 0.01
"""Spread below which a run is refused if another normalisation gives the usual one. Trained models
that got small numbers for pixels of 0 to 255 had 0.001 to 0.09, right ones 1.0 and more; of 45
architectures with random weights none went from below this to `USUAL` by another normalisation."""

USUAL = 0.5

LARGE_LOGIT = 100.0
"""Trained models reached 29; ten times too wide a pixel range made 88 to 840 of it."""

SECOND_BEST = 0.51
"""Above which the second of probabilities that add up to 1 cannot be, rounded to 8 bits or not. Of
a softmax over an axis of length 1 every score is 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answers:
    """What came back; one row for each image.

    Attributes:
        images: uint8, that were asked about.
        logits: float32 [count, classes].
        scores: float32 [count, k].
        alone: float32 [classes], logits of the first image by itself; None where batches are of 1.
    """

    images: NDArray[np.uint8]
    logits: NDArray[np.float32]
    scores: NDArray[np.float32]
    alone: NDArray[np.float32] | None

    @property
    def sound(self) -> NDArray[np.bool_]:
        """Which images will have a label. A masked class may score -inf behind it."""
        below = (self.scores < np.inf).all(axis=1)  # a NaN is not
        return np.asarray(below & (self.scores[:, 0] > -np.inf))

    @property
    def compared(self) -> NDArray[np.float32]:
        """Rows of these images, without classes that are masked."""
        rows = self.logits[self.sound]
        return rows[:, np.isfinite(rows).all(axis=0)]


def self_test(
    classifier: Classifier, model: Model, images: NDArray[np.uint8] | None = None
) -> tuple[Check, ...]:
    """Look at an opened classifier.

    Costs the inference of eight images, and where answers hardly depend on the image, loading the
    model on the CPU.

    Args:
        classifier: Open, idle, and fetching logits.
        model: What it runs.
        images: uint8 [count, height, width, 3], the user's own as the model gets them; the first
            three count.

    Raises:
        EngineError: Inference failed.
    """
    answers = _ask(classifier, model, images)
    checks = [_classes(answers, model), _finite(answers, classifier.info.precision)]
    if checks[0].status == "failed" or not answers.compared.size:
        return tuple(checks)
    return (
        *checks,
        _different(answers, model),
        _batches(answers, classifier.info.precision),
        _activation(answers, model),
        *([_size(answers)] if model.activation == "softmax" else []),
    )


def _ask(classifier: Classifier, model: Model, own: NDArray[np.uint8] | None) -> _Answers:
    images = synthetic_images(SYNTHETIC_IMAGES, model.input_height, model.input_width)
    if own is not None:
        images = np.concatenate([images, own[:_OWN_IMAGES]])
    logits, scores = [], []
    size = classifier.batch_size
    alone = [images[:1]] if size > 1 else []
    for batch in [*(images[at : at + size] for at in range(0, len(images), size)), *alone]:
        slot = classifier.acquire()
        slot.images[: len(batch)] = batch
        classifier.submit(slot, len(batch))
        predictions = classifier.collect()
        assert predictions.logits is not None, "the classifier was opened without logits"
        logits.append(predictions.logits)
        scores.append(predictions.scores)
    return _Answers(
        images=images,
        logits=np.concatenate(logits)[: len(images)],
        scores=np.concatenate(scores)[: len(images)],
        alone=logits[-1][0] if alone else None,
    )


def _classes(answers: _Answers, model: Model) -> Check:
    given, named = answers.logits.shape[1], len(model.labels)
    return Check(
        name="classes",
        status="passed" if given == named else "failed",
        measured=f"{given:,} scores for {named:,} labels",
        expected="one score for each label",
        advice="" if given == named else "Give the right --labels, or --output-name",
    )


def _finite(answers: _Answers, precision: str) -> Check:
    count, bad = len(answers.sound), int((~answers.sound).sum())
    status: Status = "passed"
    measured, advice = f"all scores of {count} images are finite", ""
    if bad:
        status = "failed" if bad == count else "warning"
        measured = f"{bad} of {count} images have scores that are not finite numbers"
        advice = (
            f"{precision} may be too narrow for this model: try --precision fp32"
            if precision != "fp32"
            else "Export the model again, or check its weights; such images become error rows"
        )
    return Check(
        name="finite scores",
        status=status,
        measured=measured,
        expected="finite numbers for every image",
        advice=advice,
    )


def _different(answers: _Answers, model: Model) -> Check:
    """Whether the model looks at its images at all; the usual sign of a wrong pixel range."""
    rows = answers.compared
    spread = spread_of(_unsaturated(rows, model))
    measured = f"logits of {len(rows)} different images lie {spread:.2g} of the largest apart"
    expected = f"{USUAL:g} or more, as in trained models"
    name = "images differ"
    if spread >= FLAT:
        return Check(name=name, status="passed", measured=measured, expected=expected)
    if spread < IDENTICAL:
        saturated = model.activation == "none" and float(rows.max()) > 1 - IDENTICAL
        return Check(
            name=name,
            status="warning" if saturated else "failed",
            measured=f"{len(rows)} different images get the same answer",
            expected=expected,
            advice="The pixel range may be wrong, or the weights are not trained",
        )
    return _suspected(answers, model, spread, measured, expected)


def _suspected(
    answers: _Answers, model: Model, spread: float, measured: str, expected: str
) -> Check:
    """Answers that are nearly alike: see whether another normalisation sets them apart."""
    refeeding = Refeeding(model)
    images = answers.images[answers.sound]
    for candidate in CANDIDATES if refeeding.normalises else ():
        rows = refeeding.logits(images, candidate.applied_to(model.spec))
        if np.isfinite(rows).all() and (other := spread_of(_unsaturated(rows, model))) >= USUAL:
            return Check(
                name="images differ",
                status="failed" if spread < HARDLY else "warning",
                measured=f"{measured}, and {other:.2g} with {candidate.name}",
                expected=expected,
                advice=f"The pixel range looks wrong. If the model wants it so: {candidate.flags}",
            )
    return Check(
        name="images differ",
        status="warning" if spread < HARDLY else "passed",
        measured=f"{measured}, and no other normalisation sets them apart",
        expected=expected,
        advice="The weights may not be trained" if spread < HARDLY else "",
    )


def _batches(answers: _Answers, precision: str) -> Check:
    name, expected = "batch of 1", "the same logits alone and in a batch"
    if answers.alone is None:
        return Check(name=name, status="skipped", measured="batches are of 1", expected=expected)
    together, alone = answers.logits[0].astype(np.float64), answers.alone.astype(np.float64)
    both = np.isfinite(together) & np.isfinite(alone)
    differing = np.abs(together[both] - alone[both]).max(initial=0.0)
    relative = float(differing / max(1.0, np.abs(together[both]).max(initial=0.0)))
    limit = BATCH_TOLERANCE[precision]
    same = relative <= limit and bool((np.isfinite(together) == np.isfinite(alone)).all())
    return Check(
        name=name,
        status="passed" if same else "failed",
        measured=f"logits alone and in a batch differ by {relative:.1g} of the largest"
        if relative
        else "the same logits alone and in a batch",
        expected=f"{expected}, within {limit:g} in {precision}",
        advice=""
        if same
        else "The model mixes the images of a batch: use --batch-size 1, or "
        "export it again with a symbolic batch",
    )


_DONE = {
    "probabilities": "add up to 1",
    "multiples of probabilities": "are parts of one whole, as percentages,",
    "scores": "lie between 0 and 1",
}


def _activation(answers: _Answers, model: Model) -> Check:
    """What is applied to the rows, held against what the rows are."""
    kind, asked = kind_of_rows(answers.compared), model.sources.get("activation") == "--activation"
    check = Check(
        name="activation",
        status="passed",
        measured=f"{model.activation}, on rows that are {kind}",
        expected="scores that are probabilities",
    )
    if model.ends_in_softmax and _over_another_axis(answers):
        whole = answers.logits[answers.sound].sum(axis=1).max()
        status: Status = "failed"
        measured = f"the graph ends in a softmax, and the scores of an image add up to {whole:.4g}"
        measured += " in one class" * (model.classes == 1)
        advice = (
            "The softmax is not over several classes, and gives each the same score: export the"
            " model again with it over axis 1, or without it"
        )
    elif model.activation == "none":
        scores = answers.scores[answers.sound]
        scores = scores[np.isfinite(scores)]  # without classes that are masked
        if scores.min() >= -1e-3 and scores.max() <= 1 + 1e-3:
            return check
        measured = f"none, and scores reach from {scores.min():.3g} to {scores.max():.3g}"
        advice = "Labels are right, scores are no probabilities: --activation softmax makes them so"
        status = "passed" if asked else "warning"
    elif kind in _DONE and (kind != "scores" or model.classes > 1):
        measured = f"{model.activation}, on rows that {_DONE[kind]} already"
        advice = "Give --activation none, or scores come out nearly alike"
        status = "failed" if kind != "scores" and not asked else "warning"
    else:
        return check
    return Check(
        name=check.name,
        status=status,
        measured=measured,
        expected=check.expected,
        advice=advice,
    )


def _over_another_axis(answers: _Answers) -> bool:
    scores = answers.scores[answers.sound]
    return scores.shape[1] == 1 or bool(scores[:, 1].max() > SECOND_BEST)


def _size(answers: _Answers) -> Check:
    largest = float(np.abs(answers.compared).max())
    usual = largest <= LARGE_LOGIT
    return Check(
        name="size of logits",
        status="passed" if usual else "warning",
        measured=f"as large as {largest:.3g}",
        expected=f"at most {LARGE_LOGIT:g}; trained models seldom reach 50",
        advice="" if usual else "The pixel range may be too wide: see the model's documentation",
    )


def _unsaturated(rows: NDArray[np.float32], model: Model) -> NDArray[np.float32]:
    """Logits as they are; of probabilities the logarithms, which are logits but for a constant."""
    if model.activation != "none" or rows.min() < 0 or rows.max() > 1 + 1e-3:
        return rows
    logarithms: NDArray[np.float32] = np.log(np.clip(rows, 1e-30, None))
    return logarithms
