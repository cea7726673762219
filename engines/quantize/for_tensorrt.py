"""Where TensorRT wants Q/DQ pairs, so that it fuses as much as it does in fp16.

TensorRT computes a convolution in int8 where its data and its weight come from a DequantizeLinear.
A QuantizeLinear behind it, or behind its activation, becomes part of the convolution, which then
writes int8. So pairs stand at inputs only, and all readers of one tensor share one pair: layer
after layer passes int8 on. See docs/precision.md for each rule's source.
"""

from __future__ import annotations

from collections.abc import Iterator

from onnx import NodeProto

from engines.quantize.placement import (
    ACTIVATIONS,
    MATRIX,
    Placement,
    is_own,
    weighted_nodes,
)
from engines.quantize.residual import residual_inputs
from engines.quantize.wiring import Edge, Wiring, attribute

__all__ = ["place_for_tensorrt"]

MIN_CHANNELS = 16
"""Tensor cores take int8 channels in groups of 16; narrower layers are faster in fp16."""

CHANNEL_MULTIPLE = 8
MIN_GROUPED_KERNEL = 3

POOLS = ("GlobalAveragePool", "AveragePool", "MaxPool")


def place_for_tensorrt(wiring: Wiring, *, first_convolution: bool = False) -> Placement:
    """Choose the edges that get a pair.

    Args:
        wiring: Of a simplified graph.
        first_convolution: Quantize the convolution on the image as well. TensorRT 8.6 cannot build
            that behind a Sub and a Mul by channel: it merges them with the pair's scale, and
            stops ("mergeScales").
    """
    placement = Placement()
    first = set() if first_convolution else _first_convolutions(wiring)
    for node in weighted_nodes(wiring):
        if node.name not in first and _is_wide_enough(wiring, node):
            placement.add_weighted(node)
    _add_sums(wiring, placement)
    _add_pools(wiring, placement)
    return placement


def _first_convolutions(wiring: Wiring) -> set[str]:
    """Convolutions that no other weighted node comes before."""
    before = {name for node in wiring.nodes.values() if is_own(node) for name in node.output}
    found = set()
    for node in wiring.nodes.values():
        if is_own(node) or not any(name in before for name in node.input):
            continue
        if node.op_type == "Conv":
            found.add(node.name)
        elif node.op_type not in MATRIX:
            before.update(node.output)
    return found


def _is_wide_enough(wiring: Wiring, node: NodeProto) -> bool:
    """Whether int8 kernels pay for this shape; the rules of NVIDIA's Model Optimizer."""
    sizes = list(wiring.weights[node.input[1]].dims)
    if node.op_type in MATRIX:
        return bool(min(sizes) >= MIN_CHANNELS)
    outputs, inputs, kernel = sizes[0], sizes[1], sizes[2:]
    if outputs >= MIN_CHANNELS and inputs >= MIN_CHANNELS:
        return True
    if attribute(node, "group", 1) > 1:
        return bool(outputs % CHANNEL_MULTIPLE == 0 and min(kernel) >= MIN_GROUPED_KERNEL)
    divisible = outputs % CHANNEL_MULTIPLE == 0 or inputs % CHANNEL_MULTIPLE == 0
    return bool(divisible and max(outputs, inputs) >= MIN_CHANNELS and len(set(kernel)) == 1)


def _add_sums(wiring: Wiring, placement: Placement) -> None:
    """Sums of two activations: the skip connection in int8, the branch fused into its layer."""
    for node in wiring.nodes.values():
        if is_own(node) or node.op_type != "Add":
            continue
        if any(wiring.is_constant(name) for name in node.input):
            continue
        for index in residual_inputs(wiring, placement, node):
            placement.edges.add(Edge(node.name, index))


def _add_pools(wiring: Wiring, placement: Placement) -> None:
    """Pools that read what int8 layers make: then those need not write fp16 for them."""
    for node in wiring.nodes.values():
        if is_own(node) or node.op_type not in POOLS:
            continue
        source = node.input[0]
        others = [edge for edge in wiring.readers[source] if edge.node != node.name]
        shared = all(edge in placement.edges or _is_pool(wiring, edge) for edge in others)
        if not shared or source in wiring.outputs or not _made_in_int8(wiring, placement, source):
            continue
        placement.edges.add(Edge(node.name, 0))
        if node.op_type == "MaxPool":
            # The same scale on both sides: TensorRT moves the pair across and pools in int8.
            placement.same_range[node.output[0]] = source


def _is_pool(wiring: Wiring, edge: Edge) -> bool:
    return wiring.nodes[edge.node].op_type in POOLS


def _made_in_int8(wiring: Wiring, placement: Placement, tensor: str) -> bool:
    """Whether a tensor comes from an int8 layer, through what is computed together with it."""
    return any(
        Edge(node.name, 0) in placement.edges or Edge(node.name, 1) in placement.edges
        for node in _fused_makers(wiring, tensor)
    )


def _fused_makers(wiring: Wiring, tensor: str) -> Iterator[NodeProto]:
    """The node that makes a tensor, and those before it that are fused with it."""
    node = wiring.maker.get(tensor)
    while node is not None and not is_own(node):
        yield node
        if node.op_type not in ACTIVATIONS:
            return
        node = wiring.maker.get(node.input[0])
