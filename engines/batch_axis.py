"""Where in a tensor the images of a batch lie, and where a node puts them.

Attention swaps axes and merges them, so that the batch is not always the first axis: [batch, heads,
tokens, width] becomes [batch * heads, tokens, width] in one model, [tokens, batch, width] and
[tokens * batch, width] in another. All of these are known by an axis and by how many entries of
that axis lie outside of the batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, helper

__all__ = ["Integers", "Place", "Shape", "Shapes", "attribute", "reshape_place", "result_place"]

Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]
"""Tensor to its sizes at one batch size; tensors whose sizes are not known are absent."""

Integers = Mapping[str, NDArray[np.integer]]
"""Tensor to its values, of those that say shapes, axes and indices."""

_REDUCTIONS = {"ArgMax", "ArgMin"}


@dataclass(frozen=True, slots=True)
class Place:
    """Where the batch lies in a tensor.

    Attributes:
        axis: The axis that holds it; its size is outer * batch * inner.
        outer: How many entries of the axis enclose the batch: 1 where it comes first.
    """

    axis: int
    outer: int = 1


def attribute(node: NodeProto, name: str, default: Any = None) -> Any:  # noqa: ANN401 - any type
    """Value of a node's attribute, whose type the operator knows."""
    for found in node.attribute:
        if found.name == name:
            return helper.get_attribute_value(found)
    return default


def result_place(
    node: NodeProto, source: int, place: Place, shapes: Shapes, integers: Integers
) -> Place | None:
    """Where the batch lies in the node's first output; None where it is lost or cannot be told.

    Args:
        node: Any but Reshape.
        source: Index of the input that has the batch.
        place: Where it lies there.
        shapes: Of all tensors.
        integers: What axes are looked up in.
    """
    given, result = shapes.get(node.input[source]), shapes.get(node.output[0])
    if given is None or result is None:
        return None
    match node.op_type:
        case "Shape" | "Size" | "NonZero":
            return None
        case "Transpose":
            order: list[int] = attribute(node, "perm") or list(reversed(range(len(given))))
            return Place(order.index(place.axis), place.outer)
        case "Flatten":
            return _flatten(node, place, given)
        case "Squeeze":
            return _without(place, squeezed_axes(node, given, integers))
        case "Unsqueeze":
            return _unsqueeze(node, place, len(result), integers)
        case "Gather":
            return _gather(node, source, place, shapes)
        case "Einsum":
            return _einsum(node, source, place)
        case operator if operator.startswith("Reduce") or operator in _REDUCTIONS:
            return _reduce(node, place, len(given), integers)
    # Everything else keeps axes or broadcasts, which aligns the last ones.
    axis = place.axis + len(result) - len(given)
    return Place(axis, place.outer) if 0 <= axis < len(result) else None


def reshape_place(place: Place, given: Shape, result: Shape, batch: int) -> Place | None:
    """Where the batch lies after a Reshape at which all sizes are known.

    A batch of 1 fits anywhere between the entries outside of it and those inside. The axis that has
    just its size is taken; else one that the batch comes first in; else one that it comes later
    in. The last axis holds features, and is taken last.
    """
    outside = prod(given[: place.axis]) * place.outer
    first: list[Place] = []
    within: list[Place] = []
    for axis, size in enumerate(result):
        lead = prod(result[:axis])
        if not lead or not size or outside % lead:
            continue
        outer = outside // lead
        if size % (outer * batch) == 0:
            (first if outer == 1 else within).append(Place(axis, outer))
    exact = [place for place in first if result[place.axis] == batch]
    features = [place for place in first if place.axis == len(result) - 1]
    others = [place for place in first if place not in features]
    return next(iter([*exact, *others, *within, *features]), None)


def squeezed_axes(node: NodeProto, given: Shape, integers: Integers) -> list[int] | None:
    """Axes that a Squeeze takes away; None where they cannot be told."""
    axes = _axes(node, integers)
    if axes is None:
        if len(node.input) > 1 and node.input[1]:
            return None
        axes = [axis for axis, size in enumerate(given) if size == 1]
    return [axis % len(given) for axis in axes]


def _axes(node: NodeProto, integers: Integers) -> Sequence[int] | None:
    """The attribute `axes`, or the second input, which took its place at opset 13 or 18."""
    given: Sequence[int] | None = attribute(node, "axes")
    if given is None and len(node.input) > 1 and node.input[1] in integers:
        given = integers[node.input[1]].reshape(-1).tolist()
    return given


def _without(place: Place, removed: Sequence[int] | None) -> Place | None:
    if removed is None or place.axis in removed:
        return None
    return Place(place.axis - sum(axis < place.axis for axis in removed), place.outer)


def _flatten(node: NodeProto, place: Place, given: Shape) -> Place | None:
    split: int = attribute(node, "axis", 1)
    split = split % len(given) if split < 0 else split
    start = 0 if place.axis < split else split
    lead = prod(given[start : place.axis])
    return Place(int(place.axis >= split), lead * place.outer) if lead else None


def _unsqueeze(node: NodeProto, place: Place, rank: int, integers: Integers) -> Place | None:
    added = _axes(node, integers)
    if added is None:
        return None
    kept = sorted(set(range(rank)) - {axis % rank for axis in added})
    return Place(kept[place.axis], place.outer)


def _gather(node: NodeProto, source: int, place: Place, shapes: Shapes) -> Place | None:
    data, indices = (shapes.get(name) for name in node.input[:2])
    if data is None or indices is None:
        return None
    axis: int = attribute(node, "axis", 0) % len(data)
    if source == 1:
        return Place(axis + place.axis, place.outer)
    if place.axis == axis:
        return None
    return Place(place.axis + (len(indices) - 1) * (place.axis > axis), place.outer)


def _einsum(node: NodeProto, source: int, place: Place) -> Place | None:
    equation: bytes = attribute(node, "equation", b"")
    inputs, arrow, output = equation.decode().replace(" ", "").partition("->")
    if not arrow or "." in inputs:
        return None
    letter = inputs.split(",")[source][place.axis]
    return Place(output.index(letter), place.outer) if letter in output else None


def _reduce(node: NodeProto, place: Place, rank: int, integers: Integers) -> Place | None:
    axes = [attribute(node, "axis", 0)] if node.op_type in _REDUCTIONS else _axes(node, integers)
    if axes is None:
        axes = [] if attribute(node, "noop_with_empty_axes", 0) else range(rank)
    removed = [axis % rank for axis in axes]
    if place.axis in removed:
        return None
    return place if attribute(node, "keepdims", 1) else _without(place, removed)
