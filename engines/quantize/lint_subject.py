"""What the rules of the lint are, and what they ask of a graph."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto

from engines.quantize.wiring import Wiring

__all__ = ["PARSERS", "Check", "Parser", "Rule", "Stage", "Subject"]

Parser = Literal["8.6", "10", "11"]
PARSERS: tuple[Parser, ...] = ("8.6", "10", "11")

Stage = Literal["parser", "builder", "nobody"]

Check = Callable[["Subject", NodeProto], str | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One thing that a graph must not do.

    Attributes:
        name: Short, for tables.
        parsers: The versions it holds for.
        stage: Who refuses a graph that does it; 'nobody' where the engine that is built computes
            something else, or may.
        check: Returns what is wrong with a node, or None.
    """

    name: str
    parsers: tuple[Parser, ...]
    stage: Stage
    check: Check


class Subject:
    """What the rules ask of a graph."""

    def __init__(self, model: ModelProto) -> None:
        self.wiring = Wiring(model.graph)
        graph = onnx.shape_inference.infer_shapes(model).graph
        infos = [*graph.value_info, *graph.input, *graph.output]
        self.dtypes = {info.name: info.type.tensor_type.elem_type for info in infos}
        self.dtypes |= {name: weight.data_type for name, weight in self.wiring.weights.items()}
        self.inputs = {value.name for value in model.graph.input} - self.wiring.weights.keys()

    def value(self, node: NodeProto, index: int) -> NDArray[Any] | None:
        """The constant that a node reads; None where it is computed or left out."""
        if index >= len(node.input):
            return None
        name = node.input[index]
        weight = self.wiring.weights.get(name)
        maker = self.wiring.maker.get(name)
        if weight is None and maker is not None and maker.op_type == "Constant":
            weight = next((item.t for item in maker.attribute if item.name == "value"), None)
        return None if weight is None else onnx.numpy_helper.to_array(weight)

    def dtype(self, node: NodeProto, index: int) -> int:
        """Element type of an input; 0 where it is left out or not known."""
        if index >= len(node.input):
            return 0
        return int(self.dtypes.get(node.input[index], 0))

    def is_dequantized(self, name: str) -> bool:
        """Whether a tensor comes out of a DequantizeLinear."""
        maker = self.wiring.maker.get(name)
        return maker is not None and maker.op_type == "DequantizeLinear"

    def is_weight(self, name: str) -> bool:
        """Whether a tensor is a constant, quantized or not."""
        maker = self.wiring.maker.get(name)
        if maker is None:
            return name in self.wiring.weights
        if maker.op_type == "Constant":
            return True
        return maker.op_type == "QuantizeLinear" and self.is_weight(maker.input[0])
