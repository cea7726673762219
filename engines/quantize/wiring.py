"""Who makes and who reads each tensor of a graph."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from onnx import GraphProto, NodeProto, TensorProto

__all__ = ["Edge", "Wiring", "attribute", "names_read"]


@dataclass(frozen=True, slots=True, order=True)
class Edge:
    """A node's input.

    Attributes:
        node: Name of the node that reads.
        index: Which of its inputs; -1 where a branch or loop body of the node reads.
    """

    node: str
    index: int


class Wiring:
    """The edges of a graph whose nodes have names of their own; a snapshot.

    Attributes:
        nodes: By name, in the graph's order.
        maker: The node that makes a tensor.
        readers: The edges at which a tensor is read; missing where nobody reads it.
        weights: Initializers by name.
        outputs: Names of the graph's outputs.
        position: Index of a node in the graph, by its name.
    """

    def __init__(self, graph: GraphProto) -> None:
        self.nodes: dict[str, NodeProto] = {node.name: node for node in graph.node}
        self.maker: dict[str, NodeProto] = {}
        self.readers: dict[str, list[Edge]] = {}
        for node in graph.node:
            self.maker.update((name, node) for name in node.output if name)
            for edge, tensor in _edges(node):
                self.readers.setdefault(tensor, []).append(edge)
        self.weights: dict[str, TensorProto] = {tensor.name: tensor for tensor in graph.initializer}
        self.outputs = {output.name for output in graph.output}
        self.position = {name: index for index, name in enumerate(self.nodes)}

    def tensor(self, edge: Edge) -> str:
        """The tensor that is read there."""
        name: str = self.nodes[edge.node].input[edge.index]
        return name

    def read_by(self, tensor: str) -> list[NodeProto]:
        """The nodes that read a tensor, once for each time."""
        return [self.nodes[edge.node] for edge in self.readers.get(tensor, ())]

    def is_constant(self, tensor: str) -> bool:
        """Whether a tensor is a weight, or an input that was left out."""
        return not tensor or tensor in self.weights

    def only_reader(self, tensor: str) -> NodeProto | None:
        """The one node that reads a tensor, which nobody else sees; None where it is not so."""
        readers = self.readers.get(tensor, ())
        if len(readers) != 1 or readers[0].index < 0 or tensor in self.outputs:
            return None
        return self.nodes[readers[0].node]


def names_read(node: NodeProto) -> Iterator[str]:
    """Names that a node reads, those that its branches and loop bodies capture included."""
    for _, name in _edges(node):
        yield name


def attribute(node: NodeProto, name: str, default: int) -> int:
    """An integer attribute of a node."""
    values = [item.i for item in node.attribute if item.name == name]
    return int(values[0]) if values else default


def _edges(node: NodeProto) -> Iterator[tuple[Edge, str]]:
    for index, name in enumerate(node.input):
        if name:
            yield Edge(node.name, index), name
    for item in node.attribute:
        for graph in (item.g, *item.graphs):
            local = {name for inner in graph.node for name in inner.output}
            local.update(value.name for value in (*graph.input, *graph.initializer))
            for inner in graph.node:
                for _, name in _edges(inner):
                    if name not in local:
                        yield Edge(node.name, -1), name
