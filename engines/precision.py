"""Precision as a property of the ONNX graph: one recipe for every TensorRT version.

TensorRT 11 has no FP16 flag any more: strongly typed networks do what the file says. So the file is
rewritten, by the converter that onnxruntime carries (`onnxruntime.transformers.float16`). Of the
converters at hand it needs no PyTorch and leaves valid Casts; onnxconverter-common leaves a
Cast to fp32 whose readers are fp16.

The converter sees the model only, never the nodes around it (named `nightshift/...`): it would put
a detour through fp16 between any two nodes kept in fp32, and scores are promised to be computed
in fp32. The model is cut out, converted with fp32 at its borders, and put back.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from graphlib import TopologicalSorter

import numpy as np
import onnx
import onnx.inliner
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto

from engines.errors import ModelError

__all__ = ["OWN_NODE_PREFIX", "apply_precision", "precision_recipe"]

OWN_NODE_PREFIX = "nightshift/"
"""Names of the nodes that wrap the model: Cast, normalization, softmax and top-k."""

RECIPES = {"fp32": 1, "fp16": 1}
"""Version of each recipe: raised when its output changes, so that engines are built again."""

FP16_MAX = float(np.finfo(np.float16).max)
"""65504."""

NO_LIMIT = 1e38
"""Constants as large as this mean infinity (Clip bounds, masks); fp16's largest value serves."""


def precision_recipe(precision: str) -> str:
    """Name a precision and the version of its recipe, for the engine's key.

    Raises:
        ValueError: No such recipe.
    """
    if precision not in RECIPES:
        raise ValueError(f"precision {precision!r}: expected one of {', '.join(RECIPES)}")
    return f"{precision}/{RECIPES[precision]}"


def apply_precision(graph: bytes, precision: str) -> bytes:
    """Rewrite a wrapped ONNX graph so that the model in it computes in `precision`.

    Inputs, outputs and the nodes around the model keep their dtypes. fp16 weights are the nearest
    fp16 values; magnitudes below 6e-8, fp16's smallest, become that. A model that holds fp16
    weights already is left as its author made it.

    Args:
        graph: Serialized ModelProto with its weights inside.
        precision: 'fp32' (the graph as it is) or 'fp16'.

    Returns:
        The serialized graph, topologically sorted and checked.

    Raises:
        ModelError: fp16 cannot hold a weight, or the rewritten graph is not valid.
        ValueError: No such recipe.
    """
    precision_recipe(precision)
    if precision == "fp32":
        return graph
    model = onnx.load_model_from_string(graph)
    if model.functions:
        model = onnx.inliner.inline_local_functions(model)
    try:
        body = _cut_out(model)
        if _is_converted(body.graph):
            return graph
        _refuse_large_weights(body.graph)
        _put_back(model, _to_fp16(body))
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ModelError(
            f"the model does not survive its conversion to fp16: {error}. Use --precision fp32."
        ) from error
    rewritten: bytes = model.SerializeToString()
    return rewritten


def _cut_out(model: ModelProto) -> ModelProto:
    """The model without the nodes around it, as a model of its own; `model` stays as it is."""
    graph = model.graph
    own = [node for node in graph.node if node.name.startswith(OWN_NODE_PREFIX)]
    inner = [node for node in graph.node if not node.name.startswith(OWN_NODE_PREFIX)]
    own_reads = {name for node in own for name in _reads(node)}
    weights = [tensor for tensor in graph.initializer if tensor.name not in own_reads]
    made = {name for node in inner for name in node.output}
    known = made | {tensor.name for tensor in weights}
    inputs = dict.fromkeys(
        name for node in inner for name in _reads(node) if name and name not in known
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


def _reads(node: NodeProto) -> Iterator[str]:
    """Names that a node reads, those that its branches and loop bodies capture included."""
    yield from node.input
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            local = {name for inner in graph.node for name in inner.output}
            local.update(value.name for value in (*graph.input, *graph.initializer))
            for inner in graph.node:
                yield from (name for name in _reads(inner) if name not in local)


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
            f"the dtype of tensor {name!r} cannot be inferred, so the model cannot be converted to "
            "fp16. Use --precision fp32."
        )
    return info


def _is_converted(graph: GraphProto) -> bool:
    return any(tensor.data_type == TensorProto.FLOAT16 for tensor in graph.initializer)


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


def _to_fp16(body: ModelProto) -> ModelProto:
    # Imported here: it loads onnxruntime, which reading a cached engine does not need.
    from onnxruntime.transformers.float16 import convert_float_to_float16

    # fp32 at the borders; TopK, Min, Max, CumSum and others that the converter knows stay in fp32.
    converted: ModelProto = convert_float_to_float16(body, keep_io_types=True)
    return converted


def _put_back(model: ModelProto, body: ModelProto) -> None:
    """Replace the model inside `model` by `body`, and sort: the converter appends its Casts."""
    graph = model.graph
    own = [node for node in graph.node if node.name.startswith(OWN_NODE_PREFIX)]
    own_reads = {name for node in own for name in _reads(node)}
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
        sorter.add(index, *(maker[name] for name in _reads(node) if name in maker))
    return [nodes[index] for index in sorter.static_order()]
