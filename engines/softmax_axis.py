"""Whether a graph's last softmax is over the classes, as far as its shapes tell without a run."""

from __future__ import annotations

import math

from onnx import GraphProto, NodeProto

from engines.errors import ModelError
from engines.graph import GraphInfo
from engines.graph_outputs import Shape, shape_of

__all__ = ["refuse_wrong_axis"]

AXIS_ALONE = 13
"""The opset from which a softmax is over one axis; before, over that one and all behind it."""


def refuse_wrong_axis(graph: GraphProto, info: GraphInfo) -> None:
    """See that a graph that ends in a softmax has it over several classes of one image.

    Nothing is said where the graph does not state the shape; the self-test asks the model then.

    Args:
        graph: Ends in a softmax, perhaps with operators behind it that leave its values alone.
        info: What `inspect` said of it.

    Raises:
        ModelError: It is over the images of a batch, or over one value: every score is 1.
    """
    node = _last_softmax(graph, info.output_name)
    if node is None or (shape := _stated_shape(graph, node.output[0])) is None:
        return
    newer = info.opset >= AXIS_ALONE
    axis = next((a.i for a in node.attribute if a.name == "axis"), -1 if newer else 1) % len(shape)
    reduced = shape[axis : axis + 1] if newer else shape[axis:]
    if all(size is not None for size in reduced) and math.prod(size or 0 for size in reduced) == 1:
        over = "one value, and gives each class the score 1"
    elif axis == 0 and len(shape) > 1 and info.batch != 1 and shape[0] == info.batch:
        over = "the images of a batch, not over the classes of each"
    else:
        return
    sizes = ", ".join("?" if size is None else str(size) for size in shape)
    raise ModelError(
        f"the graph ends in a softmax over axis {axis} of [{sizes}] (opset {info.opset}), which is"
        f" over {over}. Export the model again with it over the axis of the classes, or without it"
    )


def _last_softmax(graph: GraphProto, name: str) -> NodeProto | None:
    """The node that makes the output, behind those that leave its values alone."""
    producers: dict[str, NodeProto] = {o: node for node in graph.node for o in node.output if o}
    node = producers.pop(name, None)  # emptied on the way: an invalid graph may be a circle
    while node is not None and node.op_type != "Softmax":
        node = producers.pop(node.input[0], None) if node.input else None
    return node


def _stated_shape(graph: GraphProto, name: str) -> Shape | None:
    for value in (*graph.output, *graph.value_info):
        if value.name == name and value.type.HasField("tensor_type"):
            return shape_of(value) or None
    return None
