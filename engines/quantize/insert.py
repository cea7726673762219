"""Writes pairs of QuantizeLinear and DequantizeLinear into a graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from engines.errors import ModelError
from engines.quantize.calibration import Range
from engines.quantize.placement import Placement
from engines.quantize.wiring import Edge, Wiring

__all__ = ["Scheme", "insert_pairs"]

Floats = NDArray[np.float32]

INT8_MAX = 127
"""-128 is not used: TensorRT's int8 is symmetric."""

UINT8_STEPS = 255

PREFIX = "quantize/"

MAX_BIAS = 2.0**30
"""Largest quantized bias: half of what int32 holds, as products are added to it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scheme:
    """How numbers become bytes.

    Attributes:
        activations: 'int8' is symmetric; 'uint8' has a zero point.
        weights: 'fp32' keeps the weights and quantizes them in the graph, 'int8' stores bytes.
        biases: Whether the biases of convolutions become int32.
        least_scale: Smallest scale, so that none becomes 0 or loses its precision in the dtype
            that it is stored in.
    """

    activations: Literal["int8", "uint8"]
    weights: Literal["fp32", "int8"]
    biases: bool
    least_scale: float


def insert_pairs(
    model: ModelProto, placement: Placement, ranges: Mapping[str, Range], scheme: Scheme
) -> None:
    """Insert the pairs of a placement, in place.

    Args:
        model: Simplified, fp32, opset 13 or later.
        placement: Where; refers to this model.
        ranges: Of every activation that gets a pair.
        scheme: How.

    Raises:
        ModelError: An activation has no range.
    """
    _Writer(model, placement, ranges, scheme).write()


class _Writer:
    def __init__(
        self,
        model: ModelProto,
        placement: Placement,
        ranges: Mapping[str, Range],
        scheme: Scheme,
    ) -> None:
        self.model = model
        self.wiring = Wiring(model.graph)
        self.placement = placement
        self.ranges = ranges
        self.scheme = scheme
        self.constants: dict[str, TensorProto] = {}
        self.before: dict[str, list[NodeProto]] = {}  # new nodes, by the node they precede
        self.made: dict[str, str] = {}  # dequantized tensor, by what it stands for
        self.scales: dict[str, Floats] = {}  # by dequantized tensor

    def write(self) -> None:
        """Nodes in the graph's order, each pair in front of its first reader."""
        for name, node in self.wiring.nodes.items():
            for index in range(len(node.input)):
                edge = Edge(name, index)
                if edge in self.placement.edges:
                    node.input[index] = self._activation(edge, node.input[index])
                elif edge in self.placement.weights:
                    node.input[index] = self._weight(node, edge)
            if self.scheme.biases and node.op_type == "Conv":
                self._bias(node)
        nodes = [
            onnx.NodeProto.FromString(new.SerializeToString())
            for node in self.wiring.nodes.values()
            for new in (*self.before.get(node.name, ()), node)
        ]
        graph = self.model.graph
        del graph.node[:], graph.value_info[:]
        graph.node.extend(nodes)
        graph.initializer.extend(self.constants.values())
        self._drop_unread()

    def _activation(self, edge: Edge, tensor: str) -> str:
        if tensor not in self.made:
            scale, zero = self._activation_scale(tensor)
            self._pair(tensor, tensor, edge.node, scale, zero, axis=None)
        return self.made[tensor]

    def _activation_scale(self, tensor: str) -> tuple[Floats, NDArray[np.generic]]:
        """Scale and zero point, both of shape []."""
        known = tensor
        while known in self.placement.same_range:
            known = self.placement.same_range[known]
        if known not in self.ranges:
            raise ModelError(f"the calibration has no range of tensor {known!r}: calibrate again")
        low, high = self.ranges[known]
        low, high = min(low, 0.0), max(high, 0.0)
        if self.scheme.activations == "int8":
            scale = self._scale(np.array(max(-low, high) / INT8_MAX))
            return scale, np.zeros((), np.int8)
        scale = self._scale(np.array((high - low) / UINT8_STEPS))
        zero = np.clip(np.rint(-low / float(scale)), 0, UINT8_STEPS)
        return scale, np.array(zero, np.uint8)

    def _weight(self, node: NodeProto, edge: Edge) -> str:
        name = self.wiring.tensor(edge)
        axis = self.placement.weights[edge]
        weight = numpy_helper.to_array(self.wiring.weights[name])
        others = tuple(index for index in range(weight.ndim) if index != axis)
        largest = np.abs(weight).max(axis=others) / INT8_MAX
        if node.op_type == "Conv":
            largest = np.maximum(largest, self._least_for_bias(node))
            _state_kernel(node, weight.shape[2:])
        scale = self._scale(largest)
        key = f"{name}/{edge.node}" if name in self.made else name
        zero = np.zeros(scale.shape, np.int8)
        if self.scheme.weights == "int8":
            self._stored(key, weight, edge.node, scale, zero, axis)
        else:
            self._pair(key, name, edge.node, scale, zero, axis)
        return self.made[key]

    def _least_for_bias(self, node: NodeProto) -> Floats:
        """Scales of a weight below which the bias would not fit into int32.

        For every scheme: ONNX Runtime quantizes biases that the graph leaves in fp32, and lets them
        overflow. Weights so small beside the bias change nothing.
        """
        if len(node.input) < 3 or node.input[2] not in self.wiring.weights:
            return np.zeros((), np.float32)
        bias = numpy_helper.to_array(self.wiring.weights[node.input[2]])
        scale = np.abs(bias) / (self.scales[node.input[0]] * MAX_BIAS)
        least: Floats = scale.astype(np.float32)
        return least

    def _bias(self, node: NodeProto) -> None:
        """Give a quantized convolution a bias in steps of its products: int32, no zero point."""
        if Edge(node.name, 1) not in self.placement.weights or len(node.input) < 3:
            return
        tensor = self.wiring.weights.get(node.input[2])
        if tensor is None:
            return
        scale = (self.scales[node.input[0]] * self.scales[node.input[1]]).astype(np.float32)
        steps = np.rint(numpy_helper.to_array(tensor).astype(np.float64) / scale)
        name = f"{PREFIX}{node.name}/bias"
        inputs = [f"{name}/int32", f"{name}/scale", f"{name}/zero_point"]
        values = (steps.astype(np.int32), scale, np.zeros(scale.shape, np.int32))
        for constant, value in zip(inputs, values, strict=True):
            self._constant(constant, value)
        self._node("DequantizeLinear", node.name, inputs, f"{name}/dequantized", axis=0)
        node.input[2] = f"{name}/dequantized"

    def _scale(self, scale: NDArray[np.floating]) -> Floats:
        """A scale for what is never anything but 0 would be 0: it is 1, which is as good."""
        return np.where(scale > 0, np.maximum(scale, self.scheme.least_scale), 1).astype(np.float32)

    def _pair(
        self,
        key: str,
        source: str,
        reader: str,
        scale: Floats,
        zero: NDArray[np.generic],
        axis: int | None,
    ) -> None:
        """Tensor -> QuantizeLinear -> DequantizeLinear, in front of the node that reads it."""
        name = PREFIX + key
        self._constant(f"{name}/scale", scale)
        self._constant(f"{name}/zero_point", zero)
        parameters = [f"{name}/scale", f"{name}/zero_point"]
        axes = {} if axis is None else {"axis": axis}
        quantized, self.made[key] = f"{name}/quantized", f"{name}/dequantized"
        self.scales[self.made[key]] = scale
        self._node("QuantizeLinear", reader, [source, *parameters], quantized, **axes)
        self._node("DequantizeLinear", reader, [quantized, *parameters], self.made[key], **axes)

    def _stored(
        self,
        key: str,
        weight: Floats,
        reader: str,
        scale: Floats,
        zero: NDArray[np.generic],
        axis: int,
    ) -> None:
        """Bytes -> DequantizeLinear, in front of the node that reads it."""
        name = PREFIX + key
        along = [1] * weight.ndim
        along[axis] = -1
        steps = np.clip(np.rint(weight / scale.reshape(along)), -INT8_MAX, INT8_MAX)
        inputs = [f"{name}/int8", f"{name}/scale", f"{name}/zero_point"]
        for constant, value in zip(inputs, (steps.astype(np.int8), scale, zero), strict=True):
            self._constant(constant, value)
        self.made[key] = f"{name}/dequantized"
        self.scales[self.made[key]] = scale
        self._node("DequantizeLinear", reader, inputs, self.made[key], axis=axis)

    def _node(
        self, op_type: str, reader: str, inputs: list[str], output: str, **attributes: int
    ) -> None:
        name = f"{output.rpartition('/')[0]}/{op_type}"
        node = helper.make_node(op_type, inputs, [output], name)
        node.attribute.extend(helper.make_attribute(*item) for item in attributes.items())
        self.before.setdefault(reader, []).append(node)

    def _constant(self, name: str, value: NDArray[np.generic]) -> None:
        self.constants[name] = numpy_helper.from_array(np.asarray(value), name)

    def _drop_unread(self) -> None:
        """Remove the fp32 weights that bytes replaced."""
        graph = self.model.graph
        wiring = Wiring(graph)
        kept = [
            TensorProto.FromString(tensor.SerializeToString())
            for tensor in graph.initializer
            if tensor.name in wiring.readers or tensor.name in wiring.outputs
        ]
        names = {tensor.name for tensor in kept}
        fed = [
            onnx.ValueInfoProto.FromString(value.SerializeToString())
            for value in graph.input
            if value.name not in self.wiring.weights or value.name in names
        ]
        del graph.initializer[:], graph.input[:]
        graph.initializer.extend(kept)
        graph.input.extend(fed)


def _state_kernel(node: NodeProto, sides: Sequence[int]) -> None:
    """Give a convolution the attribute that ONNX lets it do without.

    TensorRT's parsers read it from weights, but not from what comes out of a DequantizeLinear.
    """
    if not any(item.name == "kernel_shape" for item in node.attribute):
        node.attribute.append(helper.make_attribute("kernel_shape", list(sides)))
