"""Where TensorRT wants Q/DQ pairs, so that it fuses as much as it does in fp16.

TensorRT computes a convolution in int8 where its data and its weight come from a DequantizeLinear.
A QuantizeLinear behind it, or behind its activation, becomes part of the convolution, which then
writes int8. So pairs stand at inputs only, and all readers of one tensor share one pair: layer
after layer passes int8 on. See docs/precision.md for each rule's source.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

from onnx import NodeProto

from engines.quantize.placement import ACTIVATIONS, MATRIX, Placement, is_own, weighted_nodes
from engines.quantize.residual import fusible_convolution, residual_inputs
from engines.quantize.wiring import Edge, Wiring, attribute

__all__ = ["is_scaled_by_channel", "place_for_tensorrt"]

MIN_CHANNELS = 16
"""Tensor cores take int8 channels in groups of 16; narrower layers are faster in fp16."""

CHANNEL_MULTIPLE = 8
MIN_GROUPED_KERNEL = 3

POOLS = ("GlobalAveragePool", "AveragePool", "MaxPool")


SCALES = ("Mul", "Sub")
"""By channel of NCHW, 8.6 takes these for a scale; see `is_scaled_by_channel`."""


def place_for_tensorrt(wiring: Wiring) -> Placement:
    """Choose the edges that get a pair.

    Args:
        wiring: Of a simplified graph, its pixels normalised before they are transposed: then the
            convolution on the image is quantized as well, see `engines.quantize.normalization`.
    """
    placement = Placement()
    for node in weighted_nodes(wiring):
        if _is_wide_enough(wiring, node) and not is_scaled_by_channel(wiring, node.input[0]):
            placement.add_weighted(node)
    _add_sums(wiring, placement)
    _add_pools(wiring, placement)
    _add_ends_of_sums(wiring, placement)
    return placement


def is_scaled_by_channel(wiring: Wiring, tensor: str) -> bool:
    """Whether 8.6 would try to merge a scale by channel with the scale of a pair put here.

    It looks through activations, and fails ("mergeScales"). It does not look through a Transpose,
    before which channels are the last axis.
    """
    maker = wiring.maker.get(tensor)
    while maker is not None and maker.op_type in ACTIVATIONS:
        maker = wiring.maker.get(maker.input[0])
    if maker is None or maker.op_type not in SCALES:
        return False
    constants = (wiring.weights.get(name) for name in maker.input)
    return any(prod(constant.dims) > 1 for constant in constants if constant is not None)


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
            # A skip connection that may not have a pair leaves the convolution to end before the
            # sum: 8.6 has no kernel that adds fp16 to what it makes in int8.
            other = is_scaled_by_channel(wiring, node.input[index])
            placement.edges.add(Edge(node.name, 1 - index if other else index))


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


def _add_ends_of_sums(wiring: Wiring, placement: Placement) -> None:
    """What a convolution and a sum make together is read in int8 by everybody.

    8.6 has no kernel that reads both in int8 and writes fp16, and its builder stops ("All of the
    candidates were removed"); a DequantizeLinear makes fp16 of the bytes for those who need it.
    """
    for node in wiring.nodes.values():
        if node.op_type != "Add" or not any(
            Edge(node.name, index) in placement.edges
            and fusible_convolution(wiring, placement, node.input[1 - index]) is not None
            for index in (0, 1)
        ):
            continue
        end = node.output[0]
        after = wiring.only_reader(end)
        if after is not None and after.op_type in ACTIVATIONS and not is_own(after):
            end = after.output[0]
        readers = [edge for edge in wiring.readers.get(end, ()) if edge.index >= 0]
        if end not in wiring.outputs:
            placement.edges.update(readers)


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
