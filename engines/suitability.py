"""Does a model's preprocessing suit it? Asked of the user's own images, on the CPU.

Without labels only the *information* in the answers speaks, and it tells pixel ranges and means
apart but not the order of the channels: swapped colours are answered as surely as right ones. Where
images lie in folders that are named like classes, accuracy decides, of the order as well.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from engines.alternatives import CANDIDATES, Refeeding, answers_of, clearly_better
from engines.check import Check
from engines.model import Model
from engines.preprocess import PreprocessSpec

__all__ = ["FEWEST_IMAGES", "USUAL_IMAGES", "check_suitability"]

FEWEST_IMAGES = 16
"""Of fewer, nothing is said: four bits are all that they can tell apart."""

USUAL_IMAGES = 64

ALIKE = 0.05
"""Of the bits that are possible: ways to normalise that lie closer together are all named."""

HARDLY_MATTERS = 0.05
"""Of the labels that change with the order of the channels: it is no matter then which is right."""

SIGMAS = 3.0
"""By McNemar's test: another preprocessing is right on b images that ours is wrong on, and wrong on
c that ours is right on; by chance, b - c is within three times the root of b + c."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tried:
    """One preprocessing and what the model made of the images with it."""

    name: str
    flags: str
    logits: NDArray[np.float32]

    @property
    def labels(self) -> NDArray[np.int64]:
        """The best label of each image."""
        return np.asarray(self.logits.argmax(axis=1), np.int64)


def check_suitability(
    model: Model, images: NDArray[np.uint8], targets: Sequence[int | None]
) -> tuple[Check, ...]:
    """Compare a model's preprocessing with others in common use.

    Costs seven inferences of each image on the CPU, and loading the model there.

    Args:
        model: As it was loaded.
        images: uint8 [count, height, width, 3], as the model gets them; varied, at most a few
            hundred.
        targets: The right label_id of each image, or None where that is not known.

    Raises:
        EngineError: The model does not run.
    """
    if len(images) < FEWEST_IMAGES:
        return (_skipped("preprocessing", f"{len(images)} images are too few to tell"),)
    refeeding = Refeeding(model)
    own = _Tried(name="as configured", flags="", logits=refeeding.logits(images))
    if not np.isfinite(own.logits).all():
        return (_skipped("preprocessing", "some logits are not finite numbers"),)
    swapped = _try(refeeding, images, "red and blue swapped", *_swapped(model.spec))
    others = [
        _try(refeeding, images, candidate.name, candidate.flags, candidate.applied_to(model.spec))
        for candidate in (CANDIDATES if refeeding.normalises else ())
    ]
    known = np.array([target is not None for target in targets])
    right = np.array([-1 if target is None else target for target in targets])
    checks = [_information(model, own, others), _order(own, swapped, bool(known.any()))]
    if known.sum() >= FEWEST_IMAGES:
        checks.append(_accuracy(model, own, [*others, swapped], known, right))
    return tuple(checks)


def _swapped(spec: PreprocessSpec) -> tuple[str, PreprocessSpec]:
    other = "rgb" if spec.channel_order == "bgr" else "bgr"
    return f"--channel-order {other}", replace(spec, channel_order=other)  # type: ignore[arg-type]


def _try(
    refeeding: Refeeding, images: NDArray[np.uint8], name: str, flags: str, spec: PreprocessSpec
) -> _Tried:
    return _Tried(name=name, flags=flags, logits=refeeding.logits(images, spec))


def _information(model: Model, own: _Tried, others: Sequence[_Tried]) -> Check:
    """Whether another pixel range or mean suits the model far better."""
    name = "pixel range"
    if model.activation == "sigmoid":
        return _skipped(name, "independent labels leave no measure to compare by")
    if not others:
        return _skipped(name, "the model normalises by itself")
    answers = answers_of(own.logits, model.activation)
    expected = "no other pixel range or mean with much more"
    measured = (
        f"answers carry {answers.information:.1f} of {answers.possible:.1f} bits about the image"
    )
    better = []
    for tried in others:
        if np.isfinite(tried.logits).all():
            other = answers_of(tried.logits, model.activation)
            if clearly_better(other, answers):
                better.append((other.information, tried))
    if not better:
        return Check(name=name, status="passed", measured=measured, expected=expected)
    best = max(information for information, _ in better)
    alike = [t for information, t in better if information >= best - ALIKE * answers.possible]
    return Check(
        name=name,
        status="warning",
        measured=f"{measured}, and {best:.1f} with {', or '.join(tried.name for tried in alike)}",
        expected=expected,
        advice="Look at the model's documentation, and if that is how it was trained, give "
        + ", or ".join(tried.flags for tried in alike),
    )


def _order(own: _Tried, swapped: _Tried, labelled: bool) -> Check:
    changed = int((own.labels != swapped.labels).sum())
    measured = f"swapping red and blue changes the label of {changed} of {len(own.labels)} images"
    name, expected = "channel order", "few changes, or labelled images that show which is right"
    if labelled or changed <= HARDLY_MATTERS * len(own.labels):
        return Check(name=name, status="passed", measured=measured, expected=expected)
    return Check(
        name=name,
        status="skipped",
        measured=f"{measured}; which order is right cannot be told from unlabelled images",
        expected=expected,
        advice="Give --images a directory with a folder for each label, or look at some results",
    )


def _accuracy(
    model: Model,
    own: _Tried,
    others: Sequence[_Tried],
    known: NDArray[np.bool_],
    right: NDArray[np.int64],
) -> Check:
    """What the folders say: which preprocessing finds the labels."""
    name, count = "accuracy", int(known.sum())
    ours = (own.labels == right)[known]
    measured = f"{ours.mean():.0%} of {count} images whose folder is named like a label"
    expected = "what the model's authors report, and no other preprocessing with more"
    better = []
    for tried in others:
        theirs = (tried.labels == right)[known]
        won, lost = int((theirs & ~ours).sum()), int((ours & ~theirs).sum())
        if won - lost > SIGMAS * math.sqrt(won + lost):
            better.append((float(theirs.mean()), tried))
    if better:
        accuracy, best = max(better, key=lambda pair: pair[0])
        return Check(
            name=name,
            status="warning",
            measured=f"{measured}, and {accuracy:.0%} with {best.name}",
            expected=expected,
            advice=f"The preprocessing looks wrong: try {best.flags}",
        )
    if ours.mean() <= 2 / model.classes and model.classes > 2:
        return Check(
            name=name,
            status="warning",
            measured=measured,
            expected=expected,
            advice="No better than chance: the labels may be in another order than the model's "
            "outputs, or the folders mean something else",
        )
    return Check(name=name, status="passed", measured=measured, expected=expected)


def _skipped(name: str, why: str) -> Check:
    return Check(
        name=name, status="skipped", measured=why, expected=f"{FEWEST_IMAGES} images or more"
    )
