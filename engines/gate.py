"""Logits of a reduced precision beside those of the fp32 reference: what a verdict is made of.

Pure arithmetic on two arrays of the same images. The yardstick of all errors is the *signal*: how
far, in root mean square, the reference's logits are from their mean over the images. An error as
large as that is as large as what the images themselves change. It needs no assumption about the
model: not on the scale of its logits, nor on their number, nor on softmax or sigmoid after them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["MAX_FLIPS", "Accuracy", "Comparison", "Flip", "compare", "wilson_interval"]

Logits = NDArray[np.float32]

MAX_FLIPS = 20
"""Flips that are listed; all are counted. More than fit on a screen, nobody looks at."""

TOP = 5

CONSTANT = 1e-3
"""A signal of less than this part of the reference's is none: all images give the same."""

ROUNDING = 1e-5
"""Part of its own size by which the reference may vary and still count as constant: a hundred
times fp32's resolution."""

Z95 = 1.959964
"""Two-sided 95 % quantile of the normal distribution."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Flip:
    """An image that gets another label.

    Attributes:
        image: Its name.
        reference: Label in fp32.
        candidate: Label of the candidate.
        reference_margin: Best logit less the second, in fp32. A flip with a small one was a close
            call; a large one is what to look at.
        candidate_margin: The same of the candidate.
    """

    image: str
    reference: str
    candidate: str
    reference_margin: float
    candidate_margin: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Accuracy:
    """Share of images with the right label, where that is known.

    Attributes:
        images: Images whose label is known.
        reference: Share that fp32 names rightly.
        candidate: Share that the candidate does.
    """

    images: int
    reference: float
    candidate: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What was found on some images; numbers are finite, or None where there is nothing to measure.

    Attributes:
        images: Images compared: those for which the reference gives usable logits.
        unusable: Images left out, because the reference itself gives NaN or infinity for them.
        flips: Images with another best label; one without finite logits is one of them.
        top1_agreement: Share of the images with the same best label, 0 to 1.
        top1_interval: 95 % Wilson interval of that share, were these images a random sample.
        top5_misses: Images whose label in fp32 is not among the candidate's five best.
        top5_agreement: Share of the others, 0 to 1.
        top5_overlap: Mean share of the reference's five best labels that are among the
            candidate's five best, in any order.
        worst_error: Largest difference of a logit.
        median_error: Median difference over all logits of all images.
        signal: Root mean square deviation of the reference's logits from their mean over the
            images; what errors are to be seen against.
        noise: Root mean square error over signal; None for a single image or a constant reference.
        not_finite: Images for which only the candidate gives NaN or infinity.
        constant: Whether the candidate gives the same for all images, and the reference does not.
        reference_constant: Whether the reference does, for several images: wrong preprocessing,
            or pictures that are all alike.
        batch_difference: Largest difference of a logit between an image inferred alone and in a
            full batch of the candidate; None where that was not tried.
        accuracy: Of both, where labels are known.
        worst_flips: At most `MAX_FLIPS`, the largest margin in fp32 first.
    """

    images: int
    unusable: int
    flips: int
    top1_agreement: float
    top1_interval: tuple[float, float]
    top5_misses: int
    top5_agreement: float
    top5_overlap: float
    worst_error: float | None
    median_error: float | None
    signal: float
    noise: float | None
    not_finite: int
    constant: bool
    reference_constant: bool
    batch_difference: float | None
    accuracy: Accuracy | None
    worst_flips: tuple[Flip, ...]


def compare(
    reference: Logits,
    candidate: Logits,
    *,
    images: Sequence[str],
    labels: Sequence[str],
    targets: Sequence[int | None] | None = None,
    alone: Logits | None = None,
) -> Comparison:
    """Compare the logits of the same images.

    A logit of -inf in the reference, a masked class, is no part of the errors. Of equal logits the
    lower index wins.

    Args:
        reference: float32 [images, classes], of the fp32 graph.
        candidate: float32 [images, classes], of the same images in the same order.
        images: Their names.
        labels: Names of the classes.
        targets: Index of each image's right label, None where it is not known.
        alone: float32 [first images, classes], the candidate's for the first images, each inferred
            in a batch of its own; None where that was not tried.

    Raises:
        ValueError: The shapes do not fit together, or no image is usable.
    """
    _check_shapes(reference, candidate, images, labels)
    kept: list[int] = np.flatnonzero(_usable(reference)).tolist()
    if not kept:
        raise ValueError(f"the reference gives no finite logits for any of {len(images)} images")
    difference = _batch_difference(candidate, alone)
    reference, candidate = reference[kept], candidate[kept]
    names = [images[row] for row in kept]
    best = reference.argmax(axis=1)
    finite = _finite_where(reference, candidate)
    theirs = np.where(finite, candidate.argmax(axis=1), -1)
    five = _best(reference, TOP), _best(np.where(finite[:, None], candidate, -np.inf), TOP)
    misses = _count(~((five[1] == best[:, None]).any(axis=1) & finite))
    flips, count = _count(theirs != best), len(kept)
    errors, signal = _errors(reference, candidate), _signal(reference)
    return Comparison(
        images=count,
        unusable=len(images) - count,
        flips=flips,
        top1_agreement=1 - flips / count,
        top1_interval=wilson_interval(count - flips, count),
        top5_misses=misses,
        top5_agreement=1 - misses / count,
        top5_overlap=float((_overlap(*five) * finite).mean()),
        worst_error=float(errors.max()) if errors.size else None,
        median_error=float(np.median(errors)) if errors.size else None,
        signal=signal,
        noise=_root_mean_square(errors) / signal if signal and errors.size else None,
        not_finite=_count(~finite),
        constant=signal > 0 and bool(finite.all()) and _signal(candidate) < CONSTANT * signal,
        reference_constant=count > 1 and signal == 0,
        batch_difference=difference,
        accuracy=_accuracy(best, theirs, targets, kept),
        worst_flips=_listed(reference, candidate, best, theirs, names, labels),
    )


def wilson_interval(successes: int, trials: int) -> tuple[float, float]:
    """The 95 % score interval of a share (Wilson 1927): sensible also at 100 % and for few trials.

    Raises:
        ValueError: There was no trial, or more successes than trials.
    """
    if not 0 <= successes <= trials or trials < 1:
        raise ValueError(f"{successes=} of {trials=}")
    share, z2 = successes / trials, Z95**2
    centre = (share + z2 / (2 * trials)) / (1 + z2 / trials)
    half = math.sqrt(share * (1 - share) / trials + z2 / (4 * trials**2)) * Z95 / (1 + z2 / trials)
    return (
        0.0 if successes == 0 else centre - half,
        1.0 if successes == trials else centre + half,
    )


def _check_shapes(
    reference: Logits, candidate: Logits, images: Sequence[str], labels: Sequence[str]
) -> None:
    expected = (len(images), len(labels))
    if not reference.shape == candidate.shape == expected:
        raise ValueError(
            f"logits of shape {reference.shape} and {candidate.shape}; expected {expected}"
        )


def _usable(reference: Logits) -> NDArray[np.bool_]:
    """Rows whose best logit is a finite number, and none a NaN."""
    best: Logits = reference.max(axis=1)  # NaN wins every maximum
    return np.isfinite(best)


def _finite_where(reference: Logits, candidate: Logits) -> NDArray[np.bool_]:
    """Rows in which the candidate is finite wherever the reference is, and has no NaN or +inf."""
    broken = (~np.isfinite(candidate) & np.isfinite(reference)) | ~(candidate < np.inf)
    return np.logical_not(broken.any(axis=1))


def _best(logits: Logits, count: int) -> NDArray[np.intp]:
    """Indices of the largest logits of each row, the lower index first among equals."""
    return np.argsort(-logits, axis=1, kind="stable")[:, :count]


def _overlap(mine: NDArray[np.intp], theirs: NDArray[np.intp]) -> NDArray[np.float64]:
    """Share of each row's indices that the same row of the other has."""
    shared: NDArray[np.float64] = (mine[:, :, None] == theirs[:, None, :]).any(axis=2).mean(axis=1)
    return shared


def _errors(reference: Logits, candidate: Logits) -> NDArray[np.float64]:
    """Absolute differences of all logits that are finite in both."""
    both = np.isfinite(reference) & np.isfinite(candidate)
    return np.abs(candidate[both].astype(np.float64) - reference[both])


def _signal(logits: Logits) -> float:
    """Root mean square deviation from the mean over images; 0 where it is rounding."""
    always = np.isfinite(logits).all(axis=0)
    values = logits[:, always].astype(np.float64)
    if not values.size:
        return 0.0
    deviation = _root_mean_square(values - values.mean(axis=0))
    return deviation if deviation > ROUNDING * float(np.abs(values).max()) else 0.0


def _root_mean_square(values: NDArray[np.float64]) -> float:
    return float(np.sqrt(np.mean(np.square(values))))


def _batch_difference(candidate: Logits, alone: Logits | None) -> float | None:
    if alone is None:
        return None
    errors = _errors(candidate[: len(alone)], alone)
    return float(errors.max()) if errors.size else None


def _accuracy(
    best: NDArray[np.intp],
    theirs: NDArray[np.intp],
    targets: Sequence[int | None] | None,
    kept: Sequence[int],
) -> Accuracy | None:
    known = [] if targets is None else [targets[row] for row in kept]
    rows = [row for row, target in enumerate(known) if target is not None]
    if not rows:
        return None
    right = np.array([known[row] for row in rows])
    return Accuracy(
        images=len(rows),
        reference=float((best[rows] == right).mean()),
        candidate=float((theirs[rows] == right).mean()),
    )


def _listed(
    reference: Logits,
    candidate: Logits,
    best: NDArray[np.intp],
    theirs: NDArray[np.intp],
    images: Sequence[str],
    labels: Sequence[str],
) -> tuple[Flip, ...]:
    """The flips to look at first; an image without finite logits has no label to show."""
    rows = np.flatnonzero((theirs != best) & (theirs >= 0))
    margins, other = _margins(reference[rows]), _margins(candidate[rows])
    order = np.argsort(-margins, kind="stable")[:MAX_FLIPS]
    return tuple(
        Flip(
            image=images[rows[at]],
            reference=labels[best[rows[at]]],
            candidate=labels[theirs[rows[at]]],
            reference_margin=float(margins[at]),
            candidate_margin=float(other[at]),
        )
        for at in order
    )


def _margins(logits: Logits) -> NDArray[np.float64]:
    """Best logit less the second; a flip needs two classes."""
    if not len(logits):
        return np.zeros(0)
    second, best = np.partition(logits.astype(np.float64), -2, axis=1)[:, -2:].T
    # A second of -inf is a masked class: no finite number says how clear that is.
    margins: NDArray[np.float64] = np.minimum(best - second, np.finfo(np.float32).max)
    return margins


def _count(rows: NDArray[np.bool_]) -> int:
    return int(np.count_nonzero(rows))
