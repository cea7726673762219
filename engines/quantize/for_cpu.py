"""Where ONNX Runtime wants Q/DQ pairs on a CPU.

It turns a node whose inputs all come from a DequantizeLinear, and whose output only feeds a
QuantizeLinear, into one int8 kernel: QLinearConv, QLinearAdd, QLinearGlobalAveragePool, a MaxPool
on bytes. A ReLU in between goes away where zero is the least number that the pair represents. So a
quantized tensor is quantized for everybody who reads it, sums have pairs on all three sides, and
the bias of a convolution is quantized too.
"""

from __future__ import annotations

from onnx import NodeProto

from engines.quantize.placement import (
    Placement,
    is_own,
    leading,
    weighted_nodes,
)
from engines.quantize.wiring import Edge, Wiring

__all__ = ["place_for_cpu"]

DISAPPEARING = ("Relu", "Clip")
"""Activations that bytes do by themselves, as they end at 0 and at the upper bound."""

INT8_WHERE_INPUTS_ARE = (
    "Add",
    "AveragePool",
    "Concat",
    "GlobalAveragePool",
    "LeakyRelu",
    "MaxPool",
    "Mul",
    "Sigmoid",
)
"""Operators that have int8 kernels, which pay where nothing has to be converted for them. What
makes the scores stays in fp32: behind the last layer with weights there are none."""


def place_for_cpu(wiring: Wiring) -> Placement:
    """Choose the edges that get a pair.

    Args:
        wiring: Of a simplified graph.
    """
    placement = Placement()
    quantized: set[str] = set()
    before_another = leading(wiring)
    weighted = {node.name for node in weighted_nodes(wiring)}
    for node in wiring.nodes.values():
        if is_own(node):
            continue
        if node.name in weighted:
            placement.add_weighted(node)
            quantized.add(node.input[0])
            if node.op_type == "Conv":
                quantized.add(_after_activation(wiring, node.output[0]))
        elif (
            node.op_type in INT8_WHERE_INPUTS_ARE
            and node.name in before_another
            and _all_in(quantized, node)
        ):
            quantized.add(_after_activation(wiring, node.output[0]))
            if node.op_type == "MaxPool":
                placement.same_range[node.output[0]] = node.input[0]
    for tensor in quantized:
        placement.edges.update(_edges_outside(wiring, tensor))
    return placement


def _after_activation(wiring: Wiring, tensor: str) -> str:
    """The tensor behind the activation that disappears in the pair after it; or itself."""
    reader = wiring.only_reader(tensor)
    if reader is None or is_own(reader) or reader.op_type not in DISAPPEARING:
        return tensor
    output: str = reader.output[0]
    return output


def _all_in(quantized: set[str], node: NodeProto) -> bool:
    return all(name in quantized for name in node.input)


def _edges_outside(wiring: Wiring, tensor: str) -> list[Edge]:
    """All edges at which a tensor is read by the model itself, but in branches and loop bodies."""
    return [edge for edge in wiring.readers.get(tensor, ()) if edge.index >= 0]
