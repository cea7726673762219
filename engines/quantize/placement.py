"""What a placement of Q/DQ pairs is, and the rules that every backend's placement follows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from onnx import NodeProto, TensorProto

from engines.quantize.wiring import Edge, Wiring, attribute

__all__ = ["OWN_PREFIX", "Placement", "is_own", "leading", "weighted_nodes"]

OWN_PREFIX = "nightshift/"
"""Nodes that wrap the model; see engines.wrap."""

MATRIX = ("Gemm", "MatMul")
WEIGHTED = ("Conv", *MATRIX)
"""Operators with weights; a classifier has no transposed convolutions."""

ACTIVATIONS = ("Relu", "Clip", "LeakyRelu")
"""Backends compute these together with the convolution or sum before them."""


@dataclass(slots=True, kw_only=True)
class Placement:
    """Where pairs of QuantizeLinear and DequantizeLinear go.

    Attributes:
        edges: Inputs that read a dequantized activation; those of one tensor share one pair.
        weights: Inputs that read a dequantized weight, and the axis of its output channels.
        same_range: Tensors that take another one's range, so that what lies between commutes.
    """

    edges: set[Edge] = field(default_factory=set)
    weights: dict[Edge, int] = field(default_factory=dict)
    same_range: dict[str, str] = field(default_factory=dict)

    def reads(self, wiring: Wiring, tensor: str) -> bool:
        """Whether anybody reads a tensor through a pair."""
        return any(edge in self.edges for edge in wiring.readers.get(tensor, ()))

    def add_weighted(self, node: NodeProto) -> None:
        """Quantize data and weights of a node of `weighted_nodes`."""
        self.edges.add(Edge(node.name, 0))
        self.weights[Edge(node.name, 1)] = _channel_axis(node)


def is_own(node: NodeProto) -> bool:
    """Whether a node is one of those that wrap the model."""
    return bool(node.name.startswith(OWN_PREFIX))


def weighted_nodes(wiring: Wiring) -> Iterator[NodeProto]:
    """Convolutions and products with constant fp32 weights, which is where the time goes.

    The last product stays out: it takes a thousandth of the time, and its rounding errors would go
    into the scores as they are.
    """
    before_another = leading(wiring)
    for node in wiring.nodes.values():
        if is_own(node) or node.op_type not in WEIGHTED:
            continue
        if node.op_type in MATRIX and node.name not in before_another:
            continue
        weight = wiring.weights.get(node.input[1])
        if wiring.is_constant(node.input[0]) or weight is None:
            continue
        if node.op_type in MATRIX and len(weight.dims) != 2:
            continue
        if node.op_type == "Gemm" and attribute(node, "transA", 0):
            continue
        if weight.data_type == TensorProto.FLOAT:
            yield node


def leading(wiring: Wiring) -> set[str]:
    """Names of the nodes that a convolution or product comes after, at whatever distance."""
    found: set[str] = set()
    for node in reversed(list(wiring.nodes.values())):
        after = [reader for name in node.output for reader in wiring.read_by(name)]
        if any(reader.name in found or reader.op_type in WEIGHTED for reader in after):
            found.add(node.name)
    return found


def _channel_axis(node: NodeProto) -> int:
    """Axis of a weight that its outputs lie along: the only one that scales may differ along."""
    if node.op_type == "Conv":
        return 0
    if node.op_type == "Gemm":
        return 0 if attribute(node, "transB", 0) else 1
    return 1  # MatMul: [in, out]
