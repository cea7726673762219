"""Sizes of every tensor of a wrapped graph, and the shapes and axes that it computes, from a run.

Shape inference gives up where an exporter computes a shape from constants, as torch.onnx.export
does for every `expand`, and knows nothing of other vendors' operators. A run knows. Sizes are taken
by a Shape node behind every tensor, so that no more memory is held than for the scores.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, helper
from onnx.numpy_helper import to_array

from engines.batch_axis import Integers, Shapes
from engines.ort_session import Session, available_cores
from engines.wrap import IMAGES, LOGITS

__all__ = ["Observed", "observe", "stated_integers"]

MAX_INTEGERS = 2**20
"""Of a constant that is looked at: a target has six, an index over a feature map 100,000."""

_SHAPE = "observe/"

_TARGET = {"Reshape": 1, "Expand": 1, "Resize": 3}
"""Operator to the index of the input that says the sizes of its output."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """What a run at one batch size showed.

    Attributes:
        shapes: Of every tensor of the graph itself; those of branches and loops are not looked at.
        integers: Values of the tensors of integers that no image and no batch size changes:
            targets of Reshape, axes, indices.
        logits: float32 [batch, classes], what the model gave.
    """

    shapes: Shapes
    integers: Integers
    logits: NDArray[np.float32]


def observe(wrapped: ModelProto, images: NDArray[np.uint8]) -> Observed:
    """Run a graph once.

    Args:
        wrapped: The wrapped graph; not changed.
        images: uint8 [batch, height, width, 3].

    Raises:
        ModelError: ONNX Runtime does not accept the graph.
        InferenceError: It fails on this batch.
    """
    model = ModelProto()
    model.CopyFrom(wrapped)
    graph = model.graph
    del graph.output[:]
    integers = dict(stated_integers(graph))
    computed = [name for name in _says_shapes(graph) if name not in integers]
    made = [name for node in graph.node for name in _tensors_made(node)]
    for name in made:
        graph.node.append(helper.make_node("Shape", [name], [_SHAPE + name]))
    names = [LOGITS, *computed, *(_SHAPE + name for name in made)]
    graph.output.extend(ValueInfoProto(name=name) for name in names)
    session = Session(model.SerializeToString(), threads=available_cores(), optimise=False)
    logits, *results = session.run(names, {IMAGES: images})
    integers |= zip(computed, results, strict=False)
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    shapes[IMAGES] = images.shape
    for name, sizes in zip(made, results[len(computed) :], strict=True):
        shapes[name] = tuple(sizes.tolist())
    return Observed(shapes=shapes, integers=integers, logits=logits)


def _tensors_made(node: NodeProto) -> Iterator[str]:
    """Outputs of a node that have sizes; a sequence and an optional have none."""
    if not any(word in node.op_type for word in ("Sequence", "Optional")):
        yield from filter(None, node.output)


def stated_integers(graph: GraphProto) -> Iterator[tuple[str, NDArray[np.integer]]]:
    """Name and values of each constant of integers in a graph, wherever the exporter put it."""
    for tensor in graph.initializer:
        if _are_integers(tensor):
            yield tensor.name, to_array(tensor)
    for node in graph.node:
        for found in node.attribute if node.op_type == "Constant" else ():
            if found.name == "value" and _are_integers(found.t):
                yield node.output[0], to_array(found.t)
            elif found.name in ("value_ints", "value_int"):
                yield node.output[0], np.array(helper.get_attribute_value(found), np.int64)


def _are_integers(tensor: TensorProto) -> bool:
    integers = tensor.data_type in (TensorProto.INT32, TensorProto.INT64)
    return integers and prod(tensor.dims) <= MAX_INTEGERS


def _says_shapes(graph: GraphProto) -> list[str]:
    """Tensors that are the target of a node, and depend on no image, nor on how many there are."""
    variable = {IMAGES}
    found: dict[str, None] = {}
    for node in graph.node:
        if not variable.isdisjoint(node.input) or any(a.HasField("g") for a in node.attribute):
            variable.update(node.output)
        place = _TARGET.get(node.op_type, len(node.input))
        found |= dict.fromkeys(node.input[place : place + 1])
    weights = {tensor.name for tensor in graph.initializer}
    return [name for name in found if name and name not in variable and name not in weights]
