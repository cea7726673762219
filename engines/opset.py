"""A graph in the operators and the opset that a parser reads.

TensorRT 8.6's parser knows opset 17 and does not refuse newer ones. It reads what it knows of them:
a ReduceMean of opset 18, whose axes are an input, becomes a mean over all axes, batch included,
without a word. So newer graphs are lowered here. From opset 17 to 28 most operators changed in
nothing but the types that they take, and some are new; what is left is a dozen rules.
`onnx.version_converter` has no way back for half of these, and copies all weights.

    operators that the parser lacks       their definition in ONNX itself, where there is one: Gelu,
                                          Mish, Swish, GroupNormalization, RMSNormalization, …
    Reduce… with axes as an input         axes as an attribute
    Split, `num_outputs`                  sizes of the parts
    Pad and Resize with axes              all axes
    QuantizeLinear with `output_dtype`    a zero point of that type
    GridSample, linear and cubic          their names of before
    anything else that opset 17 can say   as it is
    anything else                         refused, by name
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import onnx.inliner
from onnx import GraphProto, ModelProto, NodeProto, defs, helper

from engines.errors import ModelError
from engines.graph import model_opset
from engines.opset_rules import Lowering, subgraphs, with_types

__all__ = ["fit_operators"]

DEFAULT = ("", "ai.onnx")
"""Names of ONNX's own domain."""

MAX_ROUNDS = 4
"""Definitions use operators that have definitions; Attention, the deepest, needs two rounds."""


def fit_operators(
    model: ModelProto,
    *,
    supports: Callable[[str], bool],
    opset: int | None,
    parser: str,
    instead: str = "--backend onnxruntime or a newer TensorRT",
) -> None:
    """Rewrite a graph, in place, until a parser reads all of it.

    Args:
        model: Without local functions; what it computes stays the same.
        supports: Whether the parser knows an operator's name.
        opset: The newest that the parser reads; None for any.
        parser: What to call it in errors, as 'TensorRT 8.6.1'.
        instead: What to use for a model that is refused.

    Raises:
        ModelError: An operator is neither known nor can it be written in others.
    """
    given = model_opset(model)
    limit = min(given, opset or given)
    for _ in range(MAX_ROUNDS):
        unknown = {
            node.op_type
            for node in _nodes(model.graph)
            if node.domain in DEFAULT
            and not (supports(node.op_type) and _schema(node.op_type, limit))
            and _is_defined(node.op_type, given)
        }
        if not unknown:
            break
        _expand(model, unknown)
    _refuse_unknown(model, supports, parser, instead)
    if limit < given:
        _lower(model, given, Lowering(model, limit, parser, instead))


def _schema(operator: str, opset: int) -> Any:  # noqa: ANN401 - OpSchema, whose stub is incomplete
    try:
        return defs.get_schema(operator, opset, "")
    except defs.SchemaError:
        return None


def _is_defined(operator: str, opset: int) -> bool:
    """Whether ONNX defines an operator by other operators."""
    schema = _schema(operator, opset)
    return bool(schema and (schema.has_function or schema.has_context_dependent_function))


def _nodes(graph: GraphProto) -> Iterator[NodeProto]:
    return (node for inner in subgraphs(graph) for node in inner.node)


def _expand(model: ModelProto, operators: set[str]) -> None:
    """Replace operators by their definitions, which may depend on the types of their inputs."""
    inlined = onnx.inliner.inline_selected_functions(
        with_types(model), [("", name) for name in operators], inline_schema_functions=True
    )
    made_by = {
        name: node.name
        for node in model.graph.node
        if node.op_type in operators
        for name in node.output
    }
    unnamed: list[NodeProto] = []
    for index, node in enumerate(inlined.graph.node):
        if not node.name:
            node.name = f"{node.op_type}_{index}"
            unnamed.append(node)
        owner = next((made_by[name] for name in node.output if name in made_by), None)
        if owner is not None:  # The last node of a definition gives what the operator gave.
            for part in unnamed:
                part.name = f"{owner}/{part.name}"
            unnamed.clear()
    del model.graph.node[:]
    model.graph.node.extend(inlined.graph.node)


def _refuse_unknown(
    model: ModelProto, supports: Callable[[str], bool], parser: str, instead: str
) -> None:
    unknown: dict[str, str] = {}
    for node in _nodes(model.graph):
        if not supports(node.op_type):
            name = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
            unknown.setdefault(name, node.name)
    if not unknown:
        return
    listed = ", ".join(f"{operator} (first node {name!r})" for operator, name in unknown.items())
    raise ModelError(
        f"{parser} has no operator {listed}. Use {instead}, or export the model again in ONNX's own"
        " operators: unoptimised, and quantized only by QuantizeLinear and DequantizeLinear"
    )


def _lower(model: ModelProto, given: int, work: Lowering) -> None:
    limit = work.limit
    for graph in subgraphs(model.graph):
        for node in graph.node:
            if node.domain in DEFAULT:
                work.lower(node, _schema(node.op_type, given), _schema(node.op_type, limit))
    model.graph.initializer.extend(work.constants)
    for imported in model.opset_import:
        if imported.domain in DEFAULT:
            imported.version = limit
    model.ir_version = min(model.ir_version, helper.OP_SET_ID_VERSION_MAP["ai.onnx", limit])
