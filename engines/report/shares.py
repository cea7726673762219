"""Layers by what they do, and how much of the engine each group is."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from engines.report.layers import Layer

__all__ = ["GROUPS", "IDLE", "OTHER", "REFORMAT", "Share", "group_of", "shares_of"]

REFORMAT, OTHER, IDLE = "reformat", "not told", "no kernel"

GROUPS = ("int8", "int4", "fp8", "fp4", "fp16", "bf16", "tf32", "fp32", OTHER, REFORMAT, IDLE)
"""Precisions from the narrowest to the widest, then what is no arithmetic of the model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """A group of layers.

    Attributes:
        group: One of `GROUPS`.
        layers: How many.
        milliseconds: Of all of them; None where the engine was not profiled.
        share: 0 to 1, of the time where it is known, else of the layers that run a kernel.
    """

    group: str
    layers: int
    milliseconds: float | None
    share: float


def group_of(layer: Layer) -> str:
    """The group that a layer belongs to."""
    if layer.idle:
        return IDLE
    return REFORMAT if layer.reformat else layer.precision or OTHER


def shares_of(layers: Iterable[tuple[Layer, float | None]]) -> tuple[Share, ...]:
    """Sum up layers and their milliseconds by group, in the order of `GROUPS`; no empty group."""
    counts: dict[str, int] = {}
    times: dict[str, float] = {}
    timed = False
    for layer, milliseconds in layers:
        group = group_of(layer)
        counts[group] = counts.get(group, 0) + 1
        times[group] = times.get(group, 0.0) + (milliseconds or 0.0)
        timed = timed or milliseconds is not None
    weights = times if timed else {g: n for g, n in counts.items() if g != IDLE}
    whole = sum(weights.values())
    return tuple(
        Share(
            group=group,
            layers=counts[group],
            milliseconds=times[group] if timed else None,
            share=weights.get(group, 0) / whole if whole else 0.0,
        )
        for group in GROUPS
        if group in counts
    )
