"""Operators that are not ONNX's, or that are a way to hand over something else than a graph.

An operator of another domain needs a library that implements it: native code, which nothing here
ever loads. And some of ONNX Runtime's own operators hold compiled programs, name files of them, or
call Python functions. No execution provider that is used here runs them; they are refused by name
all the same, before anything but protobuf's decoder has seen the model.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from onnx import ModelProto, NodeProto

from engines.errors import ModelError
from engines.opset_rules import subgraphs

__all__ = ["refuse_foreign"]

KNOWN_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft", "com.microsoft.nchwc"})
"""ONNX's, and ONNX Runtime's built-in ones, which Optimum and its quantizer write."""

NO_GRAPH = frozenset({"EPContext", "PythonOp", "PythonOpGrad", "ATen", "SNPE", "TritonOp"})
"""Of com.microsoft: a compiled program or its file, or a call of code that is registered."""

LISTED = 8


def refuse_foreign(path: Path, model: ModelProto) -> None:
    """See that a model consists of operators that are part of ONNX Runtime, or of the model.

    Raises:
        ModelError: It has others; the message names them.
    """
    own = {(function.domain, function.name) for function in model.functions}
    found: dict[str, str] = {}
    for node in _nodes(model):
        known = node.domain in KNOWN_DOMAINS or (node.domain, node.op_type) in own
        if not known or (node.domain == "com.microsoft" and node.op_type in NO_GRAPH):
            found.setdefault(f"{node.domain}.{node.op_type}", node.name)
    if found:
        first = [f"{operator} (first node {name!r})" for operator, name in found.items()]
        more = [f"{len(first) - LISTED} more"] if len(first) > LISTED else []
        raise ModelError(
            f"{path} uses {', '.join(first[:LISTED] + more)}: operators that only a library of"
            " somebody's code runs, and none is ever loaded. Export the model again in ONNX's own"
            " operators"
        )


def _nodes(model: ModelProto) -> Iterator[NodeProto]:
    """Every node: of the graph, its branches and loops, and the model's own functions."""
    for graph in subgraphs(model.graph):
        yield from graph.node
    for function in model.functions:
        yield from function.node
        inner = chain.from_iterable(
            (found.g, *found.graphs) for node in function.node for found in node.attribute
        )
        for graph in chain.from_iterable(map(subgraphs, inner)):
            yield from graph.node
