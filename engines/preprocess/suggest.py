"""Presets that may fit a model of which nothing is known but its name and the size of its input.

A suggestion for a message, never a choice: the same name and size fit two recipes of torchvision,
which differ in the resize, and any number of others.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from engines.preprocess.presets import PRESETS
from engines.preprocess.recipe import GraphSize, fits
from engines.preprocess.torchvision import WEIGHTS

__all__ = ["by_name", "by_size"]


def by_name(model: Path, graph_size: GraphSize) -> tuple[str, ...]:
    """Weights of torchvision whose model's name is in a path's, and whose crop is the input.

    Of several models the longest name counts: resnext101_64x4d.onnx is no ResNet.
    """
    path = _letters(f"{model.parent.name} {model.stem}" if model.suffix else model.name)
    found: dict[str, list[str]] = {}
    for name, transform in WEIGHTS.items():
        family, _, _ = name.partition("_Weights.")
        size = (transform.crop, transform.crop)
        if family != name and _letters(family) in path and fits(size, graph_size):
            found.setdefault(family, []).append(f"torchvision/{name}")
    longest = max(found, key=len, default="")
    return tuple(sorted(found.get(longest, []), reverse=True))


def by_size(graph_size: GraphSize) -> Sequence[str]:
    """Presets of no model in particular that take the graph's input."""
    return [
        name
        for name, row in sorted(PRESETS.items())
        if row.size is None or fits(row.size, graph_size)
    ]


def _letters(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "", text.lower())
