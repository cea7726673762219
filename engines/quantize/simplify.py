"""The form of a graph that ranges are measured on and Q/DQ pairs are put into.

Exporters write the same network in several ways. Here functions are inlined, constants are
initializers, every node has a name of its own, and batch norms are part of the convolution before
them: a batch norm between a convolution and its Q/DQ pair would keep ONNX Runtime from computing
the convolution in int8. Activations keep their names.
"""

from __future__ import annotations

import numpy as np
import onnx
import onnx.inliner
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, numpy_helper

from engines.quantize.wiring import Wiring

__all__ = ["simplify"]

Floats = NDArray[np.float32]

EPSILON = 1e-5
"""Of BatchNormalization where the node does not say (ONNX's default)."""


def simplify(graph: bytes) -> ModelProto:
    """Load a graph in that form; computes what it computed before, but for rounding."""
    model = onnx.load_model_from_string(graph)
    if model.functions:
        model = onnx.inliner.inline_local_functions(model)
    _name_nodes(model)
    _constants_to_weights(model)
    _bypass_identities(model)
    _fold_batch_norms(model)
    return model


def _name_nodes(model: ModelProto) -> None:
    taken: set[str] = set()
    for index, node in enumerate(model.graph.node):
        while not node.name or node.name in taken:
            node.name = f"{node.name or node.op_type}_{index}"
        taken.add(node.name)


def _constants_to_weights(model: ModelProto) -> None:
    """Constants of the kind that exporters write weights and scalars in."""
    graph = model.graph
    kept = []
    for node in graph.node:
        values = [item.t for item in node.attribute if item.name == "value"]
        if node.op_type == "Constant" and values:
            graph.initializer.append(values[0])
            graph.initializer[-1].name = node.output[0]
        else:
            kept.append(node)
    if len(kept) < len(graph.node):
        _replace_nodes(model, kept)


def _bypass_identities(model: ModelProto) -> None:
    """Identities of weights, by which exporters share one tensor between layers."""
    wiring = Wiring(model.graph)
    source: dict[str, str] = {}
    for node in model.graph.node:
        if node.op_type == "Identity" and node.output[0] not in wiring.outputs:
            read = source.get(node.input[0], node.input[0])
            captured = any(edge.index < 0 for edge in wiring.readers.get(node.output[0], ()))
            if read in wiring.weights and not captured:
                source[node.output[0]] = read
    if source:
        _replace_nodes(model, [node for node in model.graph.node if node.output[0] not in source])
        for node in model.graph.node:
            node.input[:] = [source.get(name, name) for name in node.input]


def _fold_batch_norms(model: ModelProto) -> None:
    wiring = Wiring(model.graph)
    gone = set()
    for node in model.graph.node:
        if node.op_type != "BatchNormalization" or len(node.output) > 1:
            continue
        conv = wiring.maker.get(node.input[0])
        if conv is None or conv.op_type != "Conv" or wiring.only_reader(node.input[0]) is None:
            continue
        if _fold(model, conv, node, wiring.weights):
            gone.add(node.name)
    if gone:
        _replace_nodes(model, [node for node in model.graph.node if node.name not in gone])
        _remove_unread_weights(model)


def _fold(
    model: ModelProto, conv: NodeProto, norm: NodeProto, weights: dict[str, TensorProto]
) -> bool:
    """Write y = (W x + b - mean) * gamma / sqrt(var + eps) + beta as one convolution."""
    names = [*conv.input[1:], *norm.input[1:]]
    if any(name not in weights or weights[name].data_type != TensorProto.FLOAT for name in names):
        return False
    gamma, beta, mean, variance = (_array(weights[name]) for name in norm.input[1:])
    epsilon = next((item.f for item in norm.attribute if item.name == "epsilon"), EPSILON)
    factor = gamma / np.sqrt(variance + epsilon)
    weight = _array(weights[conv.input[1]])
    bias = _array(weights[conv.input[2]]) if len(conv.input) > 2 else np.zeros_like(mean)
    folded = {
        f"{norm.name}.weight": weight * factor.reshape(-1, *[1] * (weight.ndim - 1)),
        f"{norm.name}.bias": (bias - mean) * factor + beta,
    }
    model.graph.initializer.extend(
        numpy_helper.from_array(value.astype(np.float32), name) for name, value in folded.items()
    )
    conv.input[1:] = list(folded)
    conv.output[0] = norm.output[0]
    return True


def _array(tensor: TensorProto) -> NDArray[np.float64]:
    return numpy_helper.to_array(tensor).astype(np.float64)


def _replace_nodes(model: ModelProto, nodes: list[NodeProto]) -> None:
    # Copied first: deleting the field invalidates what it held.
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del model.graph.node[:]
    model.graph.node.extend(copies)


def _remove_unread_weights(model: ModelProto) -> None:
    wiring = Wiring(model.graph)
    fed = {value.name for value in model.graph.input}
    kept = [
        tensor
        for tensor in model.graph.initializer
        if tensor.name in wiring.readers or tensor.name in wiring.outputs or tensor.name in fed
    ]
    copies = [TensorProto.FromString(tensor.SerializeToString()) for tensor in kept]
    del model.graph.initializer[:]
    model.graph.initializer.extend(copies)
