"""Which input of a sum is the skip connection.

TensorRT computes convolution, sum and ReLU in one kernel where the convolution's branch goes into
the sum as it is; a Q/DQ pair there would end the convolution's layer before the sum. The other
input, the skip connection, is read in int8.
"""

from __future__ import annotations

from collections import deque

from onnx import NodeProto

from engines.quantize.placement import ACTIVATIONS, Placement, is_own
from engines.quantize.wiring import Edge, Wiring

__all__ = ["fusible_convolution", "residual_inputs"]


def residual_inputs(wiring: Wiring, placement: Placement, node: NodeProto) -> list[int]:
    """Indices of the inputs of a sum of two activations that are to be quantized.

    One where the other comes from an int8 convolution. Where both do, as in the blocks of a ResNet
    that change the shape, the branch with more layers since both parted is the one that is fused.
    Where neither does, those that are in int8 anyway.
    """
    fusible = [
        index
        for index, name in enumerate(node.input)
        if fusible_convolution(wiring, placement, name) is not None
    ]
    if len(fusible) == 2:
        first, second = _distances(wiring, node)
        return [1] if first > second else [0]
    if len(fusible) == 1:
        return [1 - fusible[0]]
    return [
        index
        for index, name in enumerate(node.input)
        if placement.reads(wiring, name) or _ends_in_int8(wiring, placement, name)
    ]


def fusible_convolution(wiring: Wiring, placement: Placement, tensor: str) -> NodeProto | None:
    """The int8 convolution whose layer a sum that reads `tensor` can become part of.

    Nobody else may read the tensor: the convolution's own result does not exist any more.
    """
    if wiring.only_reader(tensor) is None:
        return None
    maker = wiring.maker.get(tensor)
    if maker is None or maker.op_type != "Conv":
        return None
    return maker if Edge(maker.name, 0) in placement.edges else None


def _ends_in_int8(wiring: Wiring, placement: Placement, tensor: str) -> bool:
    """Whether an int8 convolution or sum makes a tensor, with an activation at most in between."""
    maker = wiring.maker.get(tensor)
    if maker is not None and maker.op_type in ACTIVATIONS and not is_own(maker):
        maker = wiring.maker.get(maker.input[0])
    if maker is None:
        return False
    return any(Edge(maker.name, index) in placement.edges for index in range(len(maker.input)))


def _distances(wiring: Wiring, node: NodeProto) -> tuple[int, int]:
    """Layers between each of the two inputs and the last node that both descend from."""
    first, second = (_ancestors(wiring, name) for name in node.input)
    common = first.keys() & second.keys()
    if not common:
        return 0, 0
    parted = max(common, key=wiring.position.__getitem__)
    return first[parted], second[parted]


def _ancestors(wiring: Wiring, tensor: str) -> dict[str, int]:
    """Nodes that a tensor descends from, with the number of nodes in between."""
    maker = wiring.maker.get(tensor)
    if maker is None:
        return {}
    distances = {maker.name: 0}
    waiting = deque([maker])
    while waiting:
        node = waiting.popleft()
        for name in node.input:
            above = wiring.maker.get(name)
            if above is not None and above.name not in distances:
                distances[above.name] = distances[node.name] + 1
                waiting.append(above)
    return distances
