"""Whether a reduced precision may serve: thresholds, the verdict in words, and its file.

A verdict is decided once for an engine and kept beside it, so that a nightly run does not gate
again, and so that overlapping runs serve the same precision. What was measured is kept, not only
whether it passed: other thresholds are held against the same numbers.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from engines.errors import PlanError
from engines.gate import Accuracy, Comparison, Flip
from engines.store_entry import read_beside, write_beside

__all__ = ["FILE", "Evidence", "Thresholds", "Verdict", "judge", "read", "write"]

FILE = "verdict.json"

FORMAT = 1

AGREEMENT = {"fp16": 0.99, "bf16": 0.98, "int8": 0.95}
"""Least top-1 agreement with fp32, unless --gate-agreement says otherwise.

fp16 has 11 significant bits and flips close calls only, a few in a thousand images; bf16 has 8.
int8 flips some percent of the images of a well calibrated network, in both directions, so that its
accuracy changes by less. What these limits are to catch (an overflow, a scale that one outlier has
spoilt, a wrong kernel) costs tens of percent.
"""

NOISE = {"fp16": 0.1, "bf16": 0.2, "int8": 0.5}
"""Most noise for one of signal. fp16 of a network that suits it has a thousandth, bf16 a hundredth,
int8 a tenth; a candidate that ignores the image has one."""

BATCH_DIFFERENCE = 0.25
"""Most that a logit may differ between batches, for one of signal: other kernels for small batches
round otherwise by hundredths, rows that are mixed up differ by several."""

SPARE_FLIPS = 1
FEW_IMAGES = 32
"""From so many images on, one flip alone fails nobody: one close call in 50 images is no 2 %."""

GROWN = 2
"""A verdict over fewer images than were wanted is renewed once so many times as many are on offer:
not every night in which some have been added."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """What a candidate is held to.

    Attributes:
        top1: Least share of images with the label that fp32 gives, 0 to 1.
        top5: Least share of images whose label in fp32 is among the five best.
        noise: Most noise, of the reference's signal.
        batch_difference: Most that a logit may depend on the batch, of the reference's signal.
        spare_flips: Flips that are allowed in any case, from `FEW_IMAGES` images on.
    """

    top1: float
    top5: float
    noise: float
    batch_difference: float = BATCH_DIFFERENCE
    spare_flips: int = SPARE_FLIPS

    @classmethod
    def of(cls, precision: str, agreement: float | None = None) -> Thresholds:
        """The defaults of a precision, or those of --gate-agreement, which allows no spare flip.

        Among the five best, a fifth as many may be missing.
        """
        top1 = AGREEMENT[precision] if agreement is None else agreement
        spare = SPARE_FLIPS if agreement is None else 0
        return cls(top1=top1, top5=1 - (1 - top1) / 5, noise=NOISE[precision], spare_flips=spare)

    def most_flips(self, share: float, images: int) -> int:
        """How many of the images may differ where `share` of them must not."""
        # The slack keeps 1 - 0.95 of 100 images at 5, which binary fractions make 4.999...
        spare = self.spare_flips if images >= FEW_IMAGES else 0
        return max(math.floor((1 - share) * images + 1e-9), spare)


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What a verdict rests on.

    Attributes:
        comparison: What was measured.
        wanted: Images that were asked for.
        available: Images that were on offer, good or not, those that calibration took included.
        shared: Images among them that the scales of int8 were calibrated on.
        speeds: Images per second of full batches with their transfers, by precision: of this
            candidate and of those it had to be compared with, measured one after the other in one
            process; empty where there was nothing to choose.
        measured_on: What the speeds hold for, in words: device, batch size, threads.
    """

    comparison: Comparison
    wanted: int
    available: int
    shared: int = 0
    speeds: Mapping[str, float] = field(default_factory=dict)
    measured_on: str = ""

    def suffices(self, wanted: int, available: int) -> bool:
        """Whether there is no need to gate again for a run that could offer so many images."""
        if self.comparison.reference_constant:
            return False  # a first try on blank pictures must not speak for those that follow
        got = self.comparison.images + self.comparison.unusable
        if got >= wanted:
            return True
        if got >= self.wanted:  # fewer were asked for then
            return available <= got
        return available < GROWN * self.available  # all that was good was compared

    def renewed(self, newer: Evidence) -> Evidence:
        """What counts of this and of newer evidence: the newer, unless it rests on fewer images.

        Then it was sought in vain among the newer's images, and is not sought there again.
        """
        few = newer.comparison.images < self.comparison.images
        if not few or self.comparison.reference_constant:
            return newer
        return replace(self, wanted=newer.wanted, available=newer.available)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Evidence, held against thresholds.

    Attributes:
        precision: Of the candidate.
        passed: Whether it may serve.
        reasons: Why not, one sentence each; empty where it may.
        notes: What else a person should know.
        thresholds: What it was held to.
        evidence: What was found.
    """

    precision: str
    passed: bool
    reasons: tuple[str, ...]
    notes: tuple[str, ...]
    thresholds: Thresholds
    evidence: Evidence

    def summary(self) -> dict[str, Any]:
        """Everything as one flat JSON object, for records."""
        evidence = asdict(self.evidence)
        comparison = evidence.pop("comparison")
        return {
            "precision": self.precision,
            "passed": self.passed,
            "reasons": list(self.reasons),
            "notes": list(self.notes),
            "line": self.line(),
            "thresholds": asdict(self.thresholds),
            **evidence,
            **comparison,
            "top1_interval": list(comparison["top1_interval"]),
            "worst_flips": list(comparison["worst_flips"]),
        }

    def line(self) -> str:
        """One line for a person: agreement, its certainty, and the errors."""
        found = self.evidence.comparison
        low, high = found.top1_interval
        accuracy = found.accuracy
        return (
            f"{self.precision} {'passed' if self.passed else 'FAILED'}: top-1 agreement with fp32 "
            f"{_percent(found.top1_agreement)} of {found.images:,} images (95 % interval "
            f"{_percent(low)} to {_percent(high)}), top-5 {_percent(found.top5_agreement)}, "
            f"worst logit error {_number(found.worst_error)}, median "
            f"{_number(found.median_error)} (signal {_number(found.signal)})"
            + (
                f", accuracy {_percent(accuracy.candidate)} and in fp32 "
                f"{_percent(accuracy.reference)} of {accuracy.images:,} images"
                if accuracy
                else ""
            )
        )


def judge(precision: str, evidence: Evidence, thresholds: Thresholds) -> Verdict:
    """Hold what was found against thresholds."""
    reasons = tuple(_reasons(evidence.comparison, thresholds))
    return Verdict(
        precision=precision,
        passed=not reasons,
        reasons=reasons,
        notes=tuple(_notes(evidence)),
        thresholds=thresholds,
        evidence=evidence,
    )


def read(entry: Path) -> Verdict | None:
    """Read the verdict kept in an engine's folder.

    Returns:
        The verdict; None where there is none, or one that this version does not understand.
    """
    try:
        content = json.loads(read_beside(entry, FILE) or b"null")
        if content.pop("format") != FORMAT:
            return None
        return _parse(content)
    except (OSError, PlanError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def write(entry: Path, verdict: Verdict) -> None:
    """Keep a verdict in an engine's folder, in place of an earlier one; complete or not at all.

    Raises:
        OSError: The folder is gone or cannot be written to.
        PlanError: The folder is not ours.
    """
    content = {"format": FORMAT, **asdict(verdict)}
    text = json.dumps(content, indent=2, allow_nan=False).encode() + b"\n"
    write_beside(entry, FILE, text)


def _reasons(found: Comparison, limits: Thresholds) -> list[str]:
    """What is missed; a NaN meets nothing."""
    reasons = []
    if found.not_finite:
        reasons.append(
            f"{found.not_finite:,} of {found.images:,} images have NaN or infinity among their "
            "logits, and finite numbers in fp32"
        )
    if found.constant:
        reasons.append(f"all {found.images:,} images have the same logits, and not so in fp32")
    if found.flips > limits.most_flips(limits.top1, found.images):
        low, high = found.top1_interval
        reasons.append(
            f"{found.flips:,} of {found.images:,} images get another label than in fp32: "
            f"agreement {_percent(found.top1_agreement)} (95 % interval {_percent(low)} to "
            f"{_percent(high)}), expected {_percent(limits.top1)} or more"
        )
    if found.top5_misses > limits.most_flips(limits.top5, found.images):
        reasons.append(
            f"fp32's label is not among the five best of {found.top5_misses:,} of "
            f"{found.images:,} images: agreement {_percent(found.top5_agreement)}, expected "
            f"{_percent(limits.top5)} or more"
        )
    if found.noise is not None and not found.noise <= limits.noise:
        reasons.append(
            f"the logits are off by {_number(found.noise)} of what they vary between images, "
            f"expected {limits.noise:g} or less"
        )
    if found.batch_difference is not None and found.signal:
        relative = found.batch_difference / found.signal
        if not relative <= limits.batch_difference:
            reasons.append(
                f"an image alone and in a full batch differ by {_number(relative)} of what logits "
                f"vary between images, expected {limits.batch_difference:g} or less"
            )
    return reasons


def _notes(evidence: Evidence) -> list[str]:
    found = evidence.comparison
    notes = []
    if found.reference_constant:
        notes.append(
            f"all {found.images:,} images have the same logits in fp32, too: the preprocessing is "
            "wrong, or the pictures are alike; the comparison says little"
        )
    if found.images < FEW_IMAGES:
        notes.append(f"{found.images} images say little about shares of a percent")
    if found.unusable:
        notes.append(
            f"the model itself gives NaN or infinity for {found.unusable:,} images, which were "
            "left out"
        )
    if evidence.shared:
        notes.append(
            f"{evidence.shared:,} of the images were also used for calibration, for want of others"
        )
    return notes


def _parse(content: dict[str, Any]) -> Verdict:
    evidence = content.pop("evidence")
    found = evidence.pop("comparison")
    accuracy, flips = found.pop("accuracy"), found.pop("worst_flips")
    comparison = Comparison(
        **(found | {"top1_interval": tuple(found["top1_interval"])}),
        accuracy=None if accuracy is None else Accuracy(**accuracy),
        worst_flips=tuple(Flip(**flip) for flip in flips),
    )
    return Verdict(
        precision=content.pop("precision"),
        passed=content.pop("passed"),
        reasons=tuple(content.pop("reasons")),
        notes=tuple(content.pop("notes")),
        thresholds=Thresholds(**content.pop("thresholds")),
        evidence=Evidence(comparison=comparison, **evidence),
    )


def _percent(share: float) -> str:
    """As 99.8 %; never rounded up to 100."""
    return f"{math.floor(share * 1000 + 1e-9) / 10:.1f} %"


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.3g}"
