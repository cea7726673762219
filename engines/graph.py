"""What a classifier's ONNX graph takes and gives, or in words why it is no image classifier."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import onnx
from onnx import GraphProto, ModelProto, TensorProto, ValueInfoProto

from engines.errors import ModelError
from engines.graph_outputs import Shape, choose_output, classes_of, describe, shape_of

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
        output_name: The chosen output, or the tensor of scores that a ZipMap makes it from.
        classes: Number of scores of an image; None where only a run can tell.
        flatten: Whether the output must become [batch, classes] first, as [batch, classes, 1, 1]
            and [classes].
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
        output_name: The output to take; None takes the only one that can hold scores, the one
            named 'logits', or the only one of rank 2.

    Raises:
        ModelError: It does not take one batch of RGB images, or its scores cannot be told from
            its other outputs.
    """
    opset = _checked_opset(model)
    images, shape = _image_input(model.graph)
    layout = _layout(images, shape, model.graph)
    output = choose_output(model, output_name, batch=shape[0])
    classes, flatten = classes_of(output, batch=shape[0])
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


def _checked_opset(model: ModelProto) -> int:
    opset, newest = model_opset(model), onnx.defs.onnx_opset_version()
    if opset < MIN_OPSET:
        raise ModelError(
            f"the model is of opset {opset}; expected {MIN_OPSET} or newer. Export it again, or"
            f" convert it with onnx.version_converter.convert_version(model, {MIN_OPSET + 2})"
        )
    if opset > newest:
        raise ModelError(
            f"the model is of opset {opset}, and onnx {onnx.__version__} knows none after {newest}."
            f" Export the model with opset_version={newest}, or install a newer onnx and"
            " onnxruntime"
        )
    return opset


def _image_input(graph: GraphProto) -> tuple[ValueInfoProto, Shape]:
    """The graph's one input that is no weight, and its four sizes."""
    weights = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in weights]
    if len(inputs) != 1:
        raise ModelError(
            f"the model takes {describe(inputs)}; expected one input, of images. Export it with the"
            " others left at what they are in inference, as constants"
        )
    images: ValueInfoProto = inputs[0]
    shape = shape_of(images) or ()
    if images.type.tensor_type.elem_type not in _DTYPES or len(shape) != 4:
        raise ModelError(
            f"the model takes {describe(inputs)}; expected images as [batch, 3, height, width] or"
            f" [batch, height, width, 3] of {', '.join(_DTYPES.values())}"
        )
    return images, shape


def _layout(images: ValueInfoProto, shape: Shape, graph: GraphProto) -> Layout:
    _, second, _, last = shape
    if second == 3:
        return "nchw"
    if last == 3:
        return "nhwc"
    if second is None:
        return "nhwc" if last is None and _becomes_nchw(graph, images.name) else "nchw"
    raise ModelError(
        f"the model takes {describe([images])}; expected three colour channels, as"
        " [batch, 3, height, width] or [batch, height, width, 3]"
    )


def _becomes_nchw(graph: GraphProto, name: str) -> bool:
    """Whether the first thing done to the images is what tf2onnx does to NHWC ones."""
    return any(
        node.op_type == "Transpose"
        and any(list(found.ints) == [0, 3, 1, 2] for found in node.attribute)
        for node in graph.node
        if name in node.input
    )
