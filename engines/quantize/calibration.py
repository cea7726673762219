"""The ranges that were measured, and everything that they depend on."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Self

from engines.errors import ModelError
from engines.manifest import canonical_json
from engines.quantize.histogram import METHODS, Method

__all__ = ["CALIBRATION_RECIPE", "Calibration", "Range"]

CALIBRATION_RECIPE = 2
"""Raised when the same images give other ranges, or ranges of other tensors."""

Range = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """The range of each activation on the user's images; scales follow from it for every backend.

    Attributes:
        method: How ranges were chosen.
        images: Number of images.
        images_digest: sha256 (hex) of their pixels, after preprocessing on the host, in order.
        graph_digest: sha256 (hex) of the wrapped fp32 graph that ran.
        recipe: CALIBRATION_RECIPE.
        ranges: Lowest and highest value to represent, by tensor.
    """

    method: Method
    images: int
    images_digest: str
    graph_digest: str
    recipe: int
    ranges: Mapping[str, Range]

    def __post_init__(self) -> None:
        ranges = {name: (float(low), float(high)) for name, (low, high) in self.ranges.items()}
        if not all(math.isfinite(high - low) and low <= high for low, high in ranges.values()):
            raise ValueError("a range is not finite, or ends before it begins")
        object.__setattr__(self, "ranges", MappingProxyType(ranges))

    @property
    def digest(self) -> str:
        """sha256 (hex) of everything above: part of the key of an int8 engine."""
        return hashlib.sha256(self.to_json()).hexdigest()

    def to_json(self) -> bytes:
        """Serialize; equal calibrations give equal bytes."""
        values = {name: getattr(self, name) for name in self.__slots__}
        return canonical_json({**values, "ranges": dict(self.ranges)})

    @classmethod
    def from_json(cls, text: bytes) -> Self:
        """Read what `to_json` wrote.

        Raises:
            ValueError: It is something else.
        """
        values = json.loads(text)
        if not isinstance(values, dict) or values.keys() != set(cls.__slots__):
            raise ValueError("the fields are not those of a calibration")
        if values["method"] not in METHODS or not isinstance(values["ranges"], dict):
            raise ValueError("the method or the ranges are not those of a calibration")
        ranges = {name: _range(pair) for name, pair in values["ranges"].items()}
        return cls(**{**values, "ranges": ranges})

    def require_graph(self, graph: bytes) -> None:
        """Refuse to serve another graph than the one that was measured.

        Raises:
            ModelError: It is another one.
        """
        if hashlib.sha256(graph).hexdigest() != self.graph_digest:
            raise ModelError(
                "the calibration was made with another model, preprocessing or activation: "
                "calibrate again"
            )


def _range(pair: Any) -> Range:  # noqa: ANN401 - JSON
    if not (isinstance(pair, list) and len(pair) == 2):
        raise ValueError(f"{pair!r} is not a range")
    low, high = pair
    return float(low), float(high)
