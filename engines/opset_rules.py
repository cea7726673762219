"""How each operator of a newer opset is written in an older one, or why it cannot be."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, defs, helper, numpy_helper

from engines.batch_axis import attribute
from engines.errors import ModelError

__all__ = ["Lowering", "subgraphs", "with_types"]

PREFIX = "lowered/"
"""Of the names of constants that are added."""

MAX_CONSTANT = 1024
"""Elements of a tensor that may be a shape or axes."""

_NEUTRAL = {"dilations": 1, "round_mode": b"up", "keep_aspect_ratio_policy": b"stretch"}
"""Attributes that opset 17 lacks, and the value (each value, of a list) at which nothing is lost;
for others it is the default that the operator's schema names."""


_RULES = {
    "DequantizeLinear": "_dequantize",
    "GridSample": "_grid_sample",
    "Pad": "_pad",
    "QuantizeLinear": "_quantize",
    "Resize": "_resize",
    "Split": "_split",
}
"""Operator to the method that rewrites it; operators that differ in types alone need none."""


def subgraphs(graph: GraphProto) -> Iterator[GraphProto]:
    """A graph, and those of its branches and loops at any depth."""
    yield graph
    for node in graph.node:
        for found in node.attribute:
            for subgraph in (found.g, *found.graphs):
                yield from subgraphs(subgraph)


def with_types(model: ModelProto) -> ModelProto:
    """A model of the same nodes with the type of every tensor; large weights are not copied."""
    graph = model.graph
    named = {value.name for value in graph.input}
    inputs, constants, types = list(graph.input), [], []
    for tensor in graph.initializer:
        value = helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
        if prod(tensor.dims) <= MAX_CONSTANT:
            constants.append(tensor)  # Reshape's targets: sizes follow from their values.
            types.append(value)
        elif tensor.name not in named:
            inputs.append(value)
    skeleton = helper.make_model(
        helper.make_graph(graph.node, graph.name, inputs, graph.output, constants, None, types),
        opset_imports=model.opset_import,
        ir_version=model.ir_version,
    )
    return onnx.shape_inference.infer_shapes(skeleton, data_prop=True)


class Lowering:
    """The rules, and what they need to know of a graph.

    Attributes:
        limit: The opset to write them in.
        constants: What the nodes that were rewritten read; to be added to the graph.
    """

    def __init__(self, model: ModelProto, limit: int, parser: str, instead: str) -> None:
        """Prepare for a model whose nodes shall be those of opset `limit`; see fit_operators."""
        self.model = model
        self.limit = limit
        self._parser = parser
        self._instead = instead
        self.constants: list[TensorProto] = []
        self._values: dict[str, TensorProto] | None = None
        self._shapes: dict[str, list[int | None]] | None = None

    def lower(self, node: NodeProto, new: defs.OpSchema | None, old: defs.OpSchema | None) -> None:
        """Write a node of the schema `new` as `old` says it, in place.

        Raises:
            ModelError: That cannot be done; with the node and the reason.
        """
        if new is None or old is None:
            raise self._refusal(node, f"opset {self.limit} has no such operator")
        if new.since_version == old.since_version:
            return
        if node.op_type.startswith("Reduce"):
            self._reduce(node)
        elif node.op_type in _RULES:
            getattr(self, _RULES[node.op_type])(node)
        self._drop_neutral(node, new, old)
        extra = [found.name for found in node.attribute if found.name not in old.attributes]
        if extra or (len(node.input) > old.max_input and any(node.input[old.max_input :])):
            what = f"attribute {extra[0]!r}" if extra else f"input {old.max_input + 1}"
            raise self._refusal(node, f"opset {self.limit} has no {what} there")

    def _drop_neutral(self, node: NodeProto, new: defs.OpSchema, old: defs.OpSchema) -> None:
        """Take away attributes that opset 17 lacks where they say what it does anyway."""
        for found in list(node.attribute):
            if found.name in old.attributes:
                continue
            value = helper.get_attribute_value(found)
            neutral = _NEUTRAL.get(found.name)
            if neutral is None and found.name in new.attributes:
                neutral = helper.get_attribute_value(new.attributes[found.name].default_value)
            if all(item == neutral for item in (value if isinstance(value, list) else [value])):
                node.attribute.remove(found)

    def _reduce(self, node: NodeProto) -> None:
        axes = self._value(node, 1).tolist() if len(node.input) > 1 and node.input[1] else []
        noop = attribute(node, "noop_with_empty_axes", 0)
        for found in list(node.attribute):
            if found.name == "noop_with_empty_axes":
                node.attribute.remove(found)
        del node.input[1:]
        if axes:
            node.attribute.append(helper.make_attribute("axes", axes))
        elif noop:
            raise self._refusal(node, "it reduces no axis")

    def _split(self, node: NodeProto) -> None:
        count = attribute(node, "num_outputs")
        if count is None:
            return
        axis = attribute(node, "axis", 0)
        size = self._shape(node)[axis]
        if size is None:
            raise self._refusal(node, "the size of what it splits is not known")
        largest = -(-size // count)  # all parts but the last are equal
        sizes = [min(largest, size - largest * index) for index in range(count)]
        del node.input[1:]
        node.input.append(self._constant(node, "sizes", np.array(sizes, np.int64)))
        self._remove(node, "num_outputs")

    def _pad(self, node: NodeProto) -> None:
        if len(node.input) < 4 or not node.input[3]:
            return
        rank, axes = len(self._shape(node)), self._value(node, 3).tolist()
        given = self._value(node, 1).reshape(2, -1)
        pads = np.zeros((2, rank), np.int64)
        for position, axis in enumerate(axes):
            pads[:, axis] = given[:, position]
        node.input[1] = self._constant(node, "pads", pads.reshape(-1))
        del node.input[3:]

    def _resize(self, node: NodeProto) -> None:
        axes = attribute(node, "axes")
        if axes is None or len(node.input) < 3 or not node.input[2]:
            return
        scales = np.ones(len(self._shape(node)), np.float32)
        scales[axes] = self._value(node, 2)
        node.input[2] = self._constant(node, "scales", scales)
        self._remove(node, "axes")

    def _grid_sample(self, node: NodeProto) -> None:
        names = {b"linear": "bilinear", b"cubic": "bicubic"}
        mode = attribute(node, "mode", b"linear")
        self._remove(node, "mode")
        node.attribute.append(helper.make_attribute("mode", names.get(mode, mode)))

    def _quantize(self, node: NodeProto) -> None:
        """8.6 takes the type from a zero point, and demands one."""
        dtype = attribute(node, "output_dtype", 0)
        if dtype and len(node.input) < 3:
            zeros = np.zeros(self._value(node, 1).shape, helper.tensor_dtype_to_np_dtype(dtype))
            node.input.append(self._constant(node, "zero_point", zeros))
        self._remove(node, "output_dtype")

    def _dequantize(self, node: NodeProto) -> None:
        dtype = attribute(node, "output_dtype", 0)
        if dtype and helper.tensor_dtype_to_np_dtype(dtype) != self._value(node, 1).dtype:
            raise self._refusal(node, "it gives another type than its scale's")
        self._remove(node, "output_dtype")

    def _remove(self, node: NodeProto, name: str) -> None:
        for found in list(node.attribute):
            if found.name == name:
                node.attribute.remove(found)

    def _value(self, node: NodeProto, index: int) -> NDArray[Any]:
        """The constant that a node reads."""
        if self._values is None:
            self._values = dict(_constants(self.model.graph))
        found = self._values.get(node.input[index])
        if found is None:
            raise self._refusal(node, f"its input {index + 1} is computed, expected a constant")
        return numpy_helper.to_array(found)

    def _shape(self, node: NodeProto) -> list[int | None]:
        """Sizes of a node's first input."""
        if self._shapes is None:
            graph = with_types(self.model).graph
            self._shapes = {
                value.name: [
                    size.dim_value if size.HasField("dim_value") else None
                    for size in value.type.tensor_type.shape.dim
                ]
                for value in (*graph.value_info, *graph.input)
                if value.type.tensor_type.HasField("shape")
            }
        if node.input[0] not in self._shapes:
            raise self._refusal(node, "the shape of its input is not known")
        return self._shapes[node.input[0]]

    def _constant(self, node: NodeProto, name: str, value: NDArray[Any]) -> str:
        name = f"{PREFIX}{node.name or node.output[0]}/{name}"
        self.constants.append(numpy_helper.from_array(value, name))
        return name

    def _refusal(self, node: NodeProto, reason: str) -> ModelError:
        return ModelError(
            f"{self._parser} reads opset {self.limit}, and the model's {node.op_type}"
            f" {node.name!r} cannot be written in it: {reason}. Export the model with"
            f" opset_version={self.limit}, or use {self._instead}"
        )


def _constants(graph: GraphProto) -> Iterator[tuple[str, TensorProto]]:
    for inner in subgraphs(graph):
        for tensor in inner.initializer:
            yield tensor.name, tensor
        for node in inner.node:
            for found in node.attribute if node.op_type == "Constant" else ():
                if found.name == "value":
                    yield node.output[0], found.t
                elif found.name in ("value_ints", "value_floats", "value_int", "value_float"):
                    values = np.array(helper.get_attribute_value(found))
                    kind = np.float32 if "float" in found.name else np.int64
                    yield node.output[0], numpy_helper.from_array(values.astype(kind))
