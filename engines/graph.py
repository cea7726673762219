"""What a classifier's ONNX graph takes and gives, or in words why it is no image classifier."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import onnx
from onnx import GraphProto, ModelProto, TensorProto, ValueInfoProto

from engines.errors import ModelError

__all__ = ["MIN_OPSET", "GraphInfo", "inspect", "model_opset"]

MIN_OPSET = 11
"""The first whose TopK promises sorted results."""

Layout = Literal["nchw", "nhwc"]
DType = Literal["float32", "float16", "uint8"]

_DTYPES: dict[int, DType] = {
    TensorProto.FLOAT: "float32",
    TensorProto.FLOAT16: "float16",
    TensorProto.UINT8: "uint8",
}
_FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE)

Shape = tuple[int | None, ...]
"""Sizes; None where a dimension is symbolic."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphInfo:
    """The model's own input and the output that holds its scores.

    Attributes:
        input_name: Name of the one image input.
        layout: 'nchw' or 'nhwc'.
        dtype: What the input holds.
        batch: Size of a static batch; None where it is symbolic.
        height: Rows; None where symbolic.
        width: Columns; None where symbolic.
        output_name: The chosen output.
        classes: Number of scores of an image; None where only a run can tell.
        flatten: Whether the output must become [batch, classes] first, as [batch, classes, 1, 1].
        opset: Version of the default operator set.
    """

    input_name: str
    layout: Layout
    dtype: DType
    batch: int | None
    height: int | None
    width: int | None
    output_name: str
    classes: int | None
    flatten: bool
    opset: int


def inspect(model: ModelProto, *, output_name: str | None = None) -> GraphInfo:
    """Find out how to feed a classifier and where its scores come out.

    Args:
        model: Complete in memory; not changed.
        output_name: The output to take; None takes the only one, the one named 'logits', or the
            only one of rank 2.

    Raises:
        ModelError: It does not take one batch of RGB images, or its scores cannot be told from
            its other outputs.
    """
    opset = model_opset(model)
    if opset < MIN_OPSET:
        raise ModelError(
            f"the model is of opset {opset}; expected {MIN_OPSET} or newer. Export it again, or"
            f" convert it with onnx.version_converter.convert_version(model, {MIN_OPSET + 2})"
        )
    images, shape = _image_input(model.graph)
    layout = _layout(images, shape)
    output = _choose_output(_outputs_with_shapes(model), output_name)
    classes, flatten = _classes(output)
    return GraphInfo(
        input_name=images.name,
        layout=layout,
        dtype=_DTYPES[images.type.tensor_type.elem_type],
        batch=shape[0],
        height=shape[2 if layout == "nchw" else 1],
        width=shape[3 if layout == "nchw" else 2],
        output_name=output.name,
        classes=classes,
        flatten=flatten,
        opset=opset,
    )


def model_opset(model: ModelProto) -> int:
    """Version of the default operator set that the model is written in; 0 where it names none."""
    return max((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), default=0)


def _shape(value: ValueInfoProto) -> Shape | None:
    tensor = value.type.tensor_type
    if not tensor.HasField("shape"):
        return None
    # Some exporters write 0 or -1 where others name the dimension.
    return tuple(d.dim_value if d.dim_value > 0 else None for d in tensor.shape.dim)


def _describe(values: Sequence[ValueInfoProto]) -> str:
    """Names, types and shapes as `x float[batch, 3, 224, 224]`."""
    described = []
    for value in values:
        tensor = value.type.tensor_type
        sizes = ", ".join(d.dim_param or str(d.dim_value) for d in tensor.shape.dim)
        shape = f"[{sizes}]" if tensor.HasField("shape") else " of unknown shape"
        described.append(
            f"{value.name} {TensorProto.DataType.Name(tensor.elem_type).lower()}{shape}"
        )
    return "; ".join(described) or "nothing"


def _image_input(graph: GraphProto) -> tuple[ValueInfoProto, Shape]:
    """The graph's one input that is no weight, and its four sizes."""
    weights = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in weights]
    if len(inputs) != 1:
        raise ModelError(f"the model takes {_describe(inputs)}; expected one input, of images")
    images: ValueInfoProto = inputs[0]
    shape = _shape(images) or ()
    if images.type.tensor_type.elem_type not in _DTYPES or len(shape) != 4:
        raise ModelError(
            f"the model takes {_describe(inputs)}; expected images as [batch, 3, height, width] or"
            f" [batch, height, width, 3] of {', '.join(_DTYPES.values())}"
        )
    return images, shape


def _layout(images: ValueInfoProto, shape: Shape) -> Layout:
    _, second, _, last = shape
    if second == 3 or (second is None and last != 3):
        return "nchw"
    if last == 3:
        return "nhwc"
    raise ModelError(
        f"the model takes {_describe([images])}; expected three colour channels, as"
        " [batch, 3, height, width] or [batch, height, width, 3]"
    )


def _outputs_with_shapes(model: ModelProto) -> list[ValueInfoProto]:
    """The graph's outputs, their shapes inferred where the exporter left them out."""
    outputs = list(model.graph.output)
    if all(_shape(output) is not None for output in outputs):
        return outputs
    return list(onnx.shape_inference.infer_shapes(model).graph.output)


def _choose_output(outputs: list[ValueInfoProto], name: str | None) -> ValueInfoProto:
    if name is not None:
        for output in outputs:
            if output.name == name:
                return output
        raise ModelError(f"the model has no output {name!r}; it gives {_describe(outputs)}")
    if len(outputs) == 1:
        return outputs[0]
    rank_2 = [output for output in outputs if len(_shape(output) or ()) == 2]
    for candidates in ([output for output in outputs if output.name == "logits"], rank_2):
        if len(candidates) == 1:
            return candidates[0]
    raise ModelError(
        f"the model gives {_describe(outputs)}, and it is not clear which of them holds the scores;"
        " choose one with --output-name"
    )


def _classes(output: ValueInfoProto) -> tuple[int | None, bool]:
    """Number of classes, and whether the output has to be flattened to [batch, classes]."""
    shape = _shape(output)
    floats = output.type.tensor_type.elem_type in _FLOATS
    if shape is None and floats:
        return None, True
    if shape is None or not floats or len(shape) < 2 or any(size != 1 for size in shape[2:]):
        raise ModelError(
            f"the model's output {_describe([output])} is not one row of scores for each image;"
            " expected floats [batch, classes]. Choose another one with --output-name"
        )
    return shape[1], len(shape) > 2
