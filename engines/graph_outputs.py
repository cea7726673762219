"""Which of a model's outputs holds the scores, and how they lie in it."""

from __future__ import annotations

from collections.abc import Sequence

import onnx
from onnx import GraphProto, ModelProto, TensorProto, ValueInfoProto

from engines.errors import ModelError

__all__ = ["Shape", "choose_output", "classes_of", "describe", "shape_of"]

Shape = tuple[int | None, ...]
"""Sizes; None where a dimension is symbolic."""

_MOVES = {"Cast", "Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze"}
"""What leaves the order of values as it is."""

_FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE)


def shape_of(value: ValueInfoProto) -> Shape | None:
    """The sizes that a graph states of an input or output; None where it states none."""
    tensor = value.type.tensor_type
    if not tensor.HasField("shape"):
        return None
    # Some exporters write 0 or -1 where others name the dimension.
    return tuple(d.dim_value if d.dim_value > 0 else None for d in tensor.shape.dim)


def describe(values: Sequence[ValueInfoProto]) -> str:
    """Names, types and shapes as `x float[batch, 3, 224, 224]`."""
    described = []
    for value in values:
        tensor = value.type.tensor_type
        if not value.type.HasField("tensor_type"):
            kind = str(value.type.WhichOneof("value")).removesuffix("_type")
            described.append(f"{value.name} of type {kind}")
            continue
        sizes = ", ".join(d.dim_param or str(d.dim_value) for d in tensor.shape.dim)
        shape = f"[{sizes}]" if tensor.HasField("shape") else " of unknown shape"
        described.append(
            f"{value.name} {TensorProto.DataType.Name(tensor.elem_type).lower()}{shape}"
        )
    return "; ".join(described) or "nothing"


def choose_output(model: ModelProto, name: str | None, *, batch: int | None) -> ValueInfoProto:
    """The output that holds the scores.

    Args:
        model: Complete in memory; not changed.
        name: The one to take; None takes the only one that can hold scores, the one named
            'logits', or the only one of rank 2.
        batch: Size of a static batch; None where it is symbolic.

    Raises:
        ModelError: There is none of that name, or several that it could be; or it is a ranking, in
            which no place belongs to a class.
    """
    output = _chosen(model, name, batch)
    if _is_ranking(model.graph, output.name):
        raise ModelError(
            f"the model's output {describe([output])} is made by TopK: the best scores of each"
            " image in their order, in which no place belongs to a class. Export the model without"
            " TopK, or choose another output with --output-name"
        )
    return output


def _chosen(model: ModelProto, name: str | None, batch: int | None) -> ValueInfoProto:
    outputs = _outputs(model)
    if name is not None:
        for output in outputs:
            if output.name == name:
                return output
        raise ModelError(f"the model has no output {name!r}; it gives {describe(outputs)}")
    if len(outputs) == 1:
        return outputs[0]
    possible = [output for output in outputs if _scores(output, batch) is not None]
    possible = [o for o in possible if not _is_ranking(model.graph, o.name)] or possible
    named = [output for output in possible if output.name == "logits"]
    rank_2 = [output for output in possible if len(shape_of(output) or ()) == 2]
    for candidates in (possible, named, rank_2):
        if len(candidates) == 1:
            return candidates[0]
    raise ModelError(
        f"the model gives {describe(outputs)}, and it is not clear which of them holds the scores;"
        " choose one with --output-name"
    )


def classes_of(output: ValueInfoProto, *, batch: int | None) -> tuple[int | None, bool]:
    """Number of classes, and whether the output has to become [batch, classes] first.

    Args:
        output: The chosen one.
        batch: Size of a static batch; None where it is symbolic.

    Raises:
        ModelError: It is not one row of scores for each image.
    """
    found = _scores(output, batch)
    if found is not None:
        return found
    tensor = output.type.tensor_type
    rank = len(shape_of(output) or ())
    if not output.type.HasField("tensor_type") or tensor.elem_type not in _FLOATS:
        what = "it holds labels and not scores"
    elif rank == 4:
        what = "a map of scores, as of segmentation, or of features"
    elif rank == 3:
        what = "rows for many boxes, as of detection, or for many tokens"
    else:
        what = "it has no axis for the classes"
    raise ModelError(
        f"the model's output {describe([output])} is not one row of scores for each image ({what});"
        " expected floats [batch, classes]. Choose another one with --output-name"
    )


def _scores(output: ValueInfoProto, batch: int | None) -> tuple[int | None, bool] | None:
    """What `classes_of` says; None where it would raise."""
    tensor, shape = output.type.tensor_type, shape_of(output)
    if not output.type.HasField("tensor_type") or tensor.elem_type not in _FLOATS:
        return None
    if shape is None:
        return None, True
    if len(shape) == 1 and batch == 1:
        return shape[0], True
    if len(shape) == 2:
        return shape[1], False
    # [batch, classes, 1, 1] of a convolution, [batch, 1, 1, classes] of TensorFlow.
    sizes = [size for size in shape[1:] if size != 1]
    if len(shape) < 2 or len(sizes) > 1:
        return None
    return (sizes[0] if sizes else 1), True


def _is_ranking(graph: GraphProto, name: str) -> bool:
    """Whether a tensor holds sorted scores."""
    producers = {output: node for node in graph.node for output in node.output}
    while (node := producers.pop(name, None)) is not None and node.op_type in _MOVES:
        name = node.input[0]
    return node is not None and node.op_type == "TopK"


def _outputs(model: ModelProto) -> list[ValueInfoProto]:
    """The graph's outputs, their shapes inferred where the exporter left them out."""
    outputs = list(model.graph.output)
    tensors = [output for output in outputs if output.type.HasField("tensor_type")]
    if all(shape_of(output) is not None for output in tensors):
        return outputs
    return list(onnx.shape_inference.infer_shapes(model).graph.output)
