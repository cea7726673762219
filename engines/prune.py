"""The part of a graph that makes scores: auxiliary heads, labels and dictionaries go."""

from __future__ import annotations

from onnx import GraphProto, NodeProto, TensorProto, helper

from engines.opset_rules import subgraphs

__all__ = ["drop_unused", "unzip"]


def unzip(graph: GraphProto) -> dict[str, tuple[str, ...]]:
    """Give the scores themselves where ZipMap makes a dictionary for each image, in place.

    Azure Custom Vision and skl2onnx end their graphs so.

    Returns:
        The dictionary's keys, which are what the classes are called, by the name of the scores.
    """
    names = {node.input[0]: _keys(node) for node in graph.node if node.op_type == "ZipMap"}
    scores = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "ZipMap"}
    given = {output.name for output in graph.output}
    for index, output in reversed(list(enumerate(graph.output))):
        name = scores.get(output.name)
        if name in given:
            del graph.output[index]
        elif name is not None:
            output.CopyFrom(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    return names


def drop_unused(graph: GraphProto) -> tuple[str, ...]:
    """Take away nodes that no output depends on, and the weights that only they read, in place.

    GoogLeNet's second and third head, the ArgMax of a label and the ZipMap of a dictionary are
    nothing that a table shows; TensorRT has no operator for the last.

    Returns:
        The nodes that went, as 'ZipMap zipmap', in the graph's order.
    """
    needed = {output.name for output in graph.output}
    dropped: list[int] = []
    for index in reversed(range(len(graph.node))):  # sorted, as ONNX demands: readers come later
        node = graph.node[index]
        if needed.isdisjoint(node.output):
            dropped.append(index)
        else:
            needed.update(_reads(node))
    described = tuple(f"{graph.node[i].op_type} {graph.node[i].name}" for i in reversed(dropped))
    for index in dropped:
        del graph.node[index]
    for index in reversed(range(len(graph.initializer))):
        if graph.initializer[index].name not in needed:
            del graph.initializer[index]
    return described


def _keys(zip_map: NodeProto) -> tuple[str, ...]:
    """As text, in the order of the scores."""
    keys: list[str] = []
    for found in zip_map.attribute:
        keys += [key.decode("utf-8", "replace") for key in found.strings]
        keys += [str(key) for key in found.ints]
    return tuple(keys)


def _reads(node: NodeProto) -> set[str]:
    """Names that a node reads, and all that its branches and loops read or give."""
    names = set(node.input)
    for found in node.attribute:
        for graph in subgraphs(found.g):
            names.update(name for inner in graph.node for name in inner.input)
            names.update(output.name for output in graph.output)
    return names
