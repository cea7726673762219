"""How the values of a tensor are distributed, and where to cut them off.

The range that eight bits cover trades rounding (wide range) against clipping (narrow range). Three
ways to choose it, of |x| for a symmetric range:

- minmax: nothing that was seen is clipped.
- percentile: `PERCENTILE` of the values are not clipped (pytorch-quantization's choice for CNNs).
- entropy: the threshold whose 128 levels lose least information, by the Kullback-Leibler
  divergence of the quantized distribution from the real one (Migacz, "8-bit Inference with
  TensorRT", GTC 2017).
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["METHODS", "Histogram", "Method"]

Method = Literal["entropy", "percentile", "minmax"]
METHODS: tuple[Method, ...] = ("entropy", "percentile", "minmax")

BINS = 2048
"""Of |x|; Migacz's number."""

LEVELS = 128
"""Magnitudes that int8 has."""

STRIDE = 16
"""Bins between two thresholds that are tried: 120 thresholds, under 1 % of the range apart."""

PERCENTILE = 99.99

SAMPLES = 1 << 15
"""Values of one image that are counted, evenly spread; minimum and maximum are of all values.
512 images give 16 million of each tensor."""

Floats = NDArray[np.float32]


class Histogram:
    """Counts of |x| in equal bins up to a power of two, which doubles as larger values come.

    The result does not depend on the order of the batches.
    """

    def __init__(self) -> None:
        self.lowest = np.inf
        self.highest = -np.inf
        self._counts = np.zeros(BINS, np.int64)
        self._limit = 0.0

    def add(self, values: Floats) -> None:
        """Count the values of a batch, float32 [n, ...].

        Raises:
            ValueError: One of them is infinite or not a number.
        """
        low, high = float(values.min()), float(values.max())
        if not np.isfinite(high - low):
            raise ValueError("holds values that are infinite or not a number")
        self.lowest, self.highest = min(self.lowest, low), max(self.highest, high)
        self._grow(max(abs(low), abs(high)))
        if self._limit == 0:
            return
        sample = np.abs(_sample(values))
        sample *= BINS / self._limit
        bins = np.minimum(sample, BINS - 1, out=sample).astype(np.int32)
        self._counts += np.bincount(bins, minlength=BINS)

    def range(self, method: Method) -> tuple[float, float]:
        """Lowest and highest value that are kept; symmetric but where no value lies."""
        threshold = self._threshold(method)
        return max(self.lowest, -threshold), min(self.highest, threshold)

    def _grow(self, magnitude: float) -> None:
        """Make bins up to a power of two that is no less than `magnitude`; counts are merged."""
        if magnitude <= self._limit:
            return
        limit = 2.0 ** np.ceil(np.log2(magnitude))
        if self._limit:
            ratio = int(min(limit / self._limit, BINS))
            merged = self._counts.reshape(-1, ratio).sum(axis=1)
            self._counts[:] = 0
            self._counts[: len(merged)] = merged
        self._limit = limit

    def _threshold(self, method: Method) -> float:
        magnitude = max(abs(self.lowest), abs(self.highest))
        if method == "minmax" or not self._counts.any():
            return magnitude
        bins = _percentile_bins(self._counts) if method == "percentile" else _best(self._counts)
        return min(bins * self._limit / BINS, magnitude)


def _sample(values: Floats) -> Floats:
    """At most SAMPLES values of each image, at a stride that shares no factor with a row's length.

    A prime stride visits all rows, columns and channels alike.
    """
    flat = values.reshape(len(values), -1)
    if flat.shape[1] <= SAMPLES:
        return flat.reshape(-1)
    stride = _prime_above(flat.shape[1] // SAMPLES)
    return flat[:, ::stride].reshape(-1)


def _prime_above(number: int) -> int:
    number += 1
    while any(number % divisor == 0 for divisor in range(2, int(number**0.5) + 1)):
        number += 1
    return number


def _percentile_bins(counts: NDArray[np.int64]) -> int:
    share = np.cumsum(counts) / counts.sum()
    return int(np.searchsorted(share, PERCENTILE / 100)) + 1


def _best(bins: NDArray[np.int64]) -> int:
    """Number of bins to keep; of equals the most, so that no more is clipped than helps."""
    # ReLU leaves zeros in plenty, which every threshold represents exactly: they must not drown
    # the rest (pytorch-quantization does the same).
    counts = bins.astype(np.float64)
    counts[0] = counts[1]
    last = int(np.flatnonzero(counts)[-1]) + 1 if counts.any() else BINS
    stops = [*range(LEVELS, max(last, LEVELS), STRIDE), max(last, LEVELS)]
    divergences = np.array([_divergence(counts, stop) for stop in stops])
    last_best = len(stops) - 1 - int(np.argmin(divergences[::-1]))
    return int(stops[last_best])


def _divergence(counts: NDArray[np.float64], stop: int) -> float:
    """Kullback-Leibler divergence of LEVELS levels below bin `stop`; the rest goes to the last."""
    reference = counts[:stop].copy()
    reference[-1] += counts[stop:].sum()
    level = np.arange(stop) * LEVELS // stop
    seen = counts[:stop] > 0
    totals = np.bincount(level, counts[:stop], LEVELS)
    members = np.bincount(level, seen, LEVELS)
    spread = np.where(seen, (totals / np.maximum(members, 1))[level], 0.0)
    if not spread.any():
        return np.inf
    p, q = reference / reference.sum(), spread / spread.sum()
    if np.any((q == 0) & (p > 0)):
        return np.inf
    present = p > 0
    return float(np.sum(p[present] * np.log(p[present] / q[present])))
