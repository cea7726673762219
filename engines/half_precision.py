"""fp16 and bf16 versions of a graph.

fp16 is written by the converter that onnxruntime carries (`onnxruntime.transformers.float16`). Of
the converters at hand it needs no PyTorch and leaves valid Casts; onnxconverter-common leaves a
Cast to fp32 whose readers are fp16. bf16 is the same graph with the other type in it.

The converter sees the model only, never the nodes around it (named `nightshift/...`): it would put
a detour through fp16 between any two nodes kept in fp32, and scores are promised to be computed
in fp32. The model is cut out, converted with fp32 at its borders, and put back.
"""

from __future__ import annotations

from collections.abc import Iterable
from graphlib import TopologicalSorter

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto

from engines.errors import ModelError
from engines.quantize.placement import OWN_PREFIX as OWN_NODE_PREFIX
from engines.quantize.wiring import names_read

__all__ = ["holds_halves", "to_bf16", "to_fp16"]

FP16_MAX = float(np.finfo(np.float16).max)
"""65504."""

BF16 = onnx.helper.tensor_dtype_to_np_dtype(TensorProto.BFLOAT16)

NO_LIMIT = 1e38
"""Constants as large as this mean infinity (Clip bounds, masks); fp16's largest value serves."""


def to_fp16(model: ModelProto) -> None:
    """Make the model inside a wrapped graph compute in fp16, in place.

    fp16 weights are the nearest fp16 values; magnitudes below 6e-8, fp16's smallest, become that.

    Raises:
        ModelError: fp16 cannot hold a weight.
    """
    body = _cut_out(model)
    _refuse_large_weights(body.graph)
    _put_back(model, _converted(body))


def to_bf16(model: ModelProto) -> None:
    """Make the model inside a wrapped graph compute in bf16, in place.

    bf16 has the range of fp32 and 8 bits of precision; weights are rounded to nearest even.
    """
    body = _cut_out(model)
    originals = {
        tensor.name: onnx.numpy_helper.to_array(tensor)
        for tensor in body.graph.initializer
        if tensor.data_type == TensorProto.FLOAT
    }
    converted = _converted(body)
    _retype(converted.graph, originals)
    _put_back(model, converted)


def holds_halves(model: ModelProto) -> bool:
    """Whether a model was exported with fp16 or bf16 weights."""
    halves = (TensorProto.FLOAT16, TensorProto.BFLOAT16)
    return any(tensor.data_type in halves for tensor in model.graph.initializer)


def _cut_out(model: ModelProto) -> ModelProto:
    """The model without the nodes around it, as a model of its own; `model` stays as it is."""
    graph = model.graph
    own = [node for node in graph.node if node.name.startswith(OWN_NODE_PREFIX)]
    inner = [node for node in graph.node if not node.name.startswith(OWN_NODE_PREFIX)]
    own_reads = {name for node in own for name in names_read(node)}
    weights = [tensor for tensor in graph.initializer if tensor.name not in own_reads]
    made = {name for node in inner for name in node.output}
    known = made | {tensor.name for tensor in weights}
    inputs = dict.fromkeys(
        name for node in inner for name in names_read(node) if name and name not in known
    )
    wanted = own_reads | {output.name for output in graph.output}
    outputs = dict.fromkeys(name for node in inner for name in node.output if name in wanted)
    types = _types(model)
    body = onnx.helper.make_graph(
        inner,
        graph.name,
        [_border(types, name) for name in inputs],
        [_border(types, name) for name in outputs],
        weights,
    )
    return onnx.helper.make_model(
        body, opset_imports=model.opset_import, ir_version=model.ir_version
    )


def _types(model: ModelProto) -> dict[str, ValueInfoProto]:
    """The inferred type of every tensor between two nodes, and of inputs and outputs."""
    graph = onnx.shape_inference.infer_shapes(model).graph
    infos = {info.name: info for info in (*graph.value_info, *graph.input, *graph.output)}
    for tensor in graph.initializer:
        infos[tensor.name] = onnx.helper.make_tensor_value_info(
            tensor.name, tensor.data_type, tensor.dims
        )
    return infos


def _border(types: dict[str, ValueInfoProto], name: str) -> ValueInfoProto:
    info = types.get(name)
    if info is None or not info.type.tensor_type.elem_type:
        raise ModelError(
            f"the dtype of tensor {name!r} cannot be inferred, so its precision cannot be "
            "changed. Use --precision fp32."
        )
    return info


def _refuse_large_weights(graph: GraphProto) -> None:
    """Refuse weights that fp16 would silently cut off; infinities by intention may pass."""
    constants = (
        attribute.t
        for node in graph.node
        for attribute in node.attribute
        if attribute.HasField("t")
    )
    for tensor in (*graph.initializer, *constants):
        if tensor.data_type != TensorProto.FLOAT:
            continue
        values = np.abs(onnx.numpy_helper.to_array(tensor))
        outside = values[(values > FP16_MAX) & (values < NO_LIMIT)]
        if outside.size:
            raise ModelError(
                f"fp16 ends at {FP16_MAX:.0f}, but {outside.size} of the {values.size} values of "
                f"{tensor.name or 'a constant'!r} are larger, up to {outside.max():.4g}. "
                "Use --precision fp32."
            )


def _converted(body: ModelProto) -> ModelProto:
    # Imported here: it loads onnxruntime, which reading a cached engine does not need.
    from onnxruntime.transformers.float16 import convert_float_to_float16

    # fp32 at the borders; TopK, Min, Max, CumSum and others that the converter knows stay in fp32.
    converted: ModelProto = convert_float_to_float16(body, keep_io_types=True)
    return converted


def _put_back(model: ModelProto, body: ModelProto) -> None:
    """Replace the model inside `model` by `body`, and sort: the converter appends its Casts."""
    graph = model.graph
    own = [node for node in graph.node if node.name.startswith(OWN_NODE_PREFIX)]
    own_reads = {name for node in own for name in names_read(node)}
    weights = [tensor for tensor in graph.initializer if tensor.name in own_reads]
    nodes = _sorted([*own, *body.graph.node])
    weights += body.graph.initializer
    del graph.node[:], graph.initializer[:], graph.value_info[:]
    graph.node.extend(nodes)
    graph.initializer.extend(weights)


def _sorted(nodes: Iterable[NodeProto]) -> list[NodeProto]:
    """The nodes in an order in which everything is made before it is read."""
    nodes = list(nodes)
    maker = {name: index for index, node in enumerate(nodes) for name in node.output if name}
    sorter: TopologicalSorter[int] = TopologicalSorter()
    for index, node in enumerate(nodes):
        sorter.add(index, *(maker[name] for name in names_read(node) if name in maker))
    return [nodes[index] for index in sorter.static_order()]


def _retype(graph: GraphProto, originals: dict[str, NDArray[np.float32]]) -> None:
    """Put bf16 wherever fp16 stands; values come from the fp32 weights, which have its range."""
    for tensor in graph.initializer:
        if tensor.data_type == TensorProto.FLOAT16:
            values = originals.get(tensor.name)
            tensor.CopyFrom(_bf16(tensor, values))
    for node in graph.node:
        for item in node.attribute:
            if item.HasField("t") and item.t.data_type == TensorProto.FLOAT16:
                item.t.CopyFrom(_bf16(item.t, None))
            elif node.op_type == "Cast" and item.name == "to" and item.i == TensorProto.FLOAT16:
                item.i = TensorProto.BFLOAT16
            for inner in (item.g, *item.graphs):
                _retype(inner, originals)
    for info in (*graph.value_info, *graph.input, *graph.output):
        kind = info.type.tensor_type
        if kind.elem_type == TensorProto.FLOAT16:
            kind.elem_type = TensorProto.BFLOAT16


def _bf16(tensor: TensorProto, values: NDArray[np.float32] | None) -> TensorProto:
    if values is None:
        values = onnx.numpy_helper.to_array(tensor).astype(np.float32)
    return onnx.numpy_helper.from_array(values.astype(BF16), tensor.name)
