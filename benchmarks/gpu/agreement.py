"""The scores in a table beside the logits of a reference, and what is required of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

__all__ = ["CLASSES", "LOGIT_BOUNDS", "Comparison", "compare", "read_table", "shortcomings"]

Logits = NDArray[np.float32]
Scores = NDArray[np.float64]

CLASSES = 8
"""Few, so that margins are wide; the table lists the scores of all of them."""

LOGIT_BOUNDS: dict[str, float] = {"fp32": 1e-3, "fp16": 0.0125}
"""How far any logit may be off, stated before anything was measured on a GPU.

fp16: ResNet-18 and ResNet-50 were simulated on a CPU with every weight, every output of a layer and
every sum of 16 products rounded to fp16: of 24 and 12 images no logit was off by more than 0.009,
and their root mean square error was 0.003.
fp32: sums in another order differ by about 1e-6 of the features' size, which the last layer weighs
by 1 / 0.06 at most; that is 1e-4, with a factor of ten for kernels that transform their input.
"""

AGREEMENT: dict[str, float] = {"fp32": 0.999, "fp16": 0.995}
"""Share of images that must get the reference's label, among those that are not left out."""

LEFT_OUT = 0.05
"""Largest share of images whose margin may be too small to hold anybody to their label."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Scores of the GPU beside those of the reference.

    Attributes:
        images: Images compared.
        bound: The logit bound; images whose reference margin is at most twice that are left out.
        left_out: Their share.
        agreement: Share of the others with the reference's label.
        agreement_of_all: Share of all images with it.
        worst_difference: Largest difference of a logit. Logits are compared less their mean over
            the classes, which is what softmax sees of them.
        median_difference: The median over all logits of all images.
        classes: Labels of the GPU that occur.
    """

    images: int
    bound: float
    left_out: float
    agreement: float
    agreement_of_all: float
    worst_difference: float
    median_difference: float
    classes: int


def read_table(predictions: Path) -> tuple[list[str], Scores, dict[str, Any]]:
    """File names, scores [rows, CLASSES] in order of label_id, and the footer of the first file.

    Rows without a label have NaN for scores.
    """
    files = sorted(predictions.rglob("*.parquet"))
    names: list[str] = []
    rows = []
    for file in files:
        table = pq.ParquetFile(file).read(["file_name", "topk"])
        names += table["file_name"].to_pylist()
        for entries in table["topk"].to_pylist():
            scores = np.full(CLASSES, np.nan)
            for entry in entries or ():
                scores[entry["label_id"]] = entry["score"]
            rows.append(scores)
    footer = json.loads(pq.read_metadata(files[0]).metadata[b"nightshift"])
    return names, np.stack(rows), footer


def compare(scores: Scores, reference: Logits, bound: float) -> Comparison:
    """Compare probabilities, [images, classes], with the reference's logits of the same images."""
    served = np.log(scores)
    served -= served.mean(axis=1, keepdims=True)
    expected = reference.astype(np.float64)
    expected -= expected.mean(axis=1, keepdims=True)
    second, best = np.sort(expected, axis=1)[:, -2:].T
    kept = best - second > 2 * bound
    same = served.argmax(axis=1) == expected.argmax(axis=1)
    difference = np.abs(served - expected)
    return Comparison(
        images=len(served),
        bound=bound,
        left_out=float(1 - kept.mean()),
        agreement=float(same[kept].mean()),
        agreement_of_all=float(same.mean()),
        worst_difference=float(difference.max()),
        median_difference=float(np.median(difference)),
        classes=len(np.unique(served.argmax(axis=1))),
    )


def shortcomings(found: Comparison, precision: str) -> Iterator[str]:
    """What of the requirements is missed, in words; a NaN meets none."""
    required = AGREEMENT[precision]
    if not found.agreement >= required:
        yield f"agreement {found.agreement:.4%}, expected {required:.1%} or more"
    if not found.left_out <= LEFT_OUT:
        yield f"{found.left_out:.2%} left out, expected {LEFT_OUT:.0%} or less"
    if not found.worst_difference < np.inf:
        yield f"worst logit difference {found.worst_difference}"
    if found.classes < CLASSES:
        yield f"{found.classes} of {CLASSES} classes occur"
