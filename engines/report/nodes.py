"""The list of ONNX nodes that TensorRT was given, kept beside the engine as nodes.json.

Without it a report would need the model, and would have to rewrite it for the engine's precision.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

import onnx

__all__ = ["Node", "Nodes", "list_nodes", "parse_nodes"]

FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A node of the graph that TensorRT read.

    Attributes:
        name: As TensorRT calls it: an unnamed node is 'node_of_' and its first output
            (getNodeName of onnx-tensorrt).
        op: As 'Conv'.
        inputs: Names of the tensors that it reads, weights included.
        outputs: Names of the tensors that it makes.
    """

    name: str
    op: str
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Nodes:
    """All nodes.

    Attributes:
        nodes: In the graph's order: everything is made before it is read.
        before_precision: Nodes of the wrapped graph in fp32, before it was rewritten: a recipe
            adds Casts, or QuantizeLinear and DequantizeLinear.
    """

    nodes: tuple[Node, ...]
    before_precision: int


def list_nodes(graph: bytes, *, fp32_graph: bytes) -> str:
    """List the nodes of the graph that TensorRT is given.

    Args:
        graph: Serialized, in the engine's precision.
        fp32_graph: Serialized, before it was rewritten; may be the same.

    Returns:
        The content of nodes.json.
    """
    nodes = onnx.load_model_from_string(graph).graph.node
    before = nodes if graph is fp32_graph else onnx.load_model_from_string(fp32_graph).graph.node
    listed = Nodes(
        nodes=tuple(
            Node(
                name=node.name or f"node_of_{node.output[0]}",
                op=node.op_type,
                inputs=tuple(name for name in node.input if name),
                outputs=tuple(name for name in node.output if name),
            )
            for node in nodes
        ),
        before_precision=len(before),
    )
    return json.dumps({"format": FORMAT, **asdict(listed)})


def parse_nodes(text: str) -> Nodes:
    """Read what `list_nodes` wrote.

    Raises:
        ValueError: It is something else, or of a later version.
    """
    content = json.loads(text)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ValueError(f"it is no list of nodes of format {FORMAT}")
    try:
        nodes = tuple(
            Node(
                name=str(node["name"]),
                op=str(node["op"]),
                inputs=tuple(map(str, node["inputs"])),
                outputs=tuple(map(str, node["outputs"])),
            )
            for node in content["nodes"]
        )
        return Nodes(nodes=nodes, before_precision=int(content["before_precision"]))
    except (KeyError, TypeError) as error:
        raise ValueError(f"it is no list of nodes: {error!r}") from error
