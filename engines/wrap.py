"""The one graph that every backend runs: uint8 pixels in, the best labels out.

    images uint8 [batch, height, width, 3]
      Cast ▸ (Transpose) ▸ Sub ▸ Mul ▸ (Gather, for BGR) ▸ (Cast, for float16)
      the model, its own names kept
      (Reshape) ▸ Cast ▸ (Softmax | Sigmoid) ▸ TopK ▸ Cast
    scores float32 [batch, k], label_ids int32 [batch, k], logits float32 [batch, classes];
    where it is asked for, a tensor of the model ▸ Flatten ▸ Cast ▸ embedding float32 [batch, width]

Every graph gives its logits, whether or not anybody asks for them: a classifier fetches what is
wanted, so that one engine serves all.

Nodes and constants that this module adds are named `nightshift/...`, so that whoever changes the
model's precision can leave them alone. The Cast stands first because TensorRT takes uint8 only as
a network's input that feeds a Cast (NvInfer.h, kUINT8). Planes are normalised, behind the
Transpose, as ONNX Runtime is fifteen times slower with interleaved channels; where an int8 engine
needs it the other way round, `engines.quantize.normalization` changes the order.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from onnx import (
    GraphProto,
    ModelProto,
    NodeProto,
    TensorProto,
    ValueInfoProto,
    helper,
    numpy_helper,
)

from engines.graph import GraphInfo
from engines.preprocess.spec import PreprocessSpec

__all__ = [
    "EMBEDDING",
    "EMBEDDING_NODE",
    "IMAGES",
    "LABEL_IDS",
    "LOGITS",
    "PREFIX",
    "SCORES",
    "Activation",
    "columns",
    "fetched",
    "wrap",
]

Activation = Literal["softmax", "sigmoid", "none"]

IMAGES, SCORES, LABEL_IDS, LOGITS = "images", "scores", "label_ids", "logits"
EMBEDDING = "embedding"
PREFIX = "nightshift/"
EMBEDDING_NODE = f"{PREFIX}flatten_embedding"
"""Name of the node that reads the model's own tensor."""

MIN_IR_VERSION = 4
"""Before 4, weights had to be inputs as well; backends do not fold or fuse what can be fed."""


class _Chain:
    """Nodes of ours, each working on what the one before it gave."""

    def __init__(self, tensor: str) -> None:
        self.tensor = tensor
        self.nodes: list[NodeProto] = []
        self.constants: list[TensorProto] = []

    def add(
        self,
        name: str,
        op_type: str,
        *constants: NDArray[np.generic],
        outputs: tuple[str, ...] = (),
        **attributes: int | list[int],
    ) -> None:
        """Append a node; its first output, named after it unless told, is the chain's new end."""
        name = PREFIX + name
        outputs = outputs or (f"{name}/output",)
        inputs = [self.tensor]
        for index, constant in enumerate(constants):
            inputs.append(f"{name}/constant_{index}")
            self.constants.append(numpy_helper.from_array(constant, inputs[-1]))
        node = helper.make_node(op_type, inputs, outputs, name=name)
        node.attribute.extend(helper.make_attribute(*attribute) for attribute in attributes.items())
        self.nodes.append(node)
        self.tensor = outputs[0]


def columns(top_k: int, classes: int) -> int:
    """Scores that the graph gives for an image: two at least, for the margin, if it has two."""
    return min(max(top_k, 2), classes)


def fetched(*, logits: bool, embedding: bool) -> tuple[str, ...]:
    """Names of the outputs that a classifier brings to its caller."""
    return (LABEL_IDS, SCORES, *([LOGITS] * logits), *([EMBEDDING] * embedding))


def wrap(
    model: ModelProto,
    info: GraphInfo,
    spec: PreprocessSpec,
    *,
    classes: int,
    activation: Activation,
    top_k: int,
    any_size: bool = False,
    embedding: str | None = None,
) -> None:
    """Put normalisation before a model, and probabilities and top-k behind it, in place.

    In place because weights may fill gigabytes, of which a copy helps nobody.

    Equal scores come in ascending order of their labels' indices, as ONNX defines TopK. The batch
    is symbolic, whatever the model says of its own: see `engines.probe` for whether that holds.

    Args:
        model: As `inspect` saw it; becomes the wrapped graph.
        info: What `inspect` said of it.
        spec: Its host part gives the height and width of `images`. A uint8 model normalises by
            itself, so that of its device part only the order of channels is used.
        classes: Scores of an image.
        activation: What turns the model's output into scores.
        top_k: Labels wanted for an image; see `columns`.
        any_size: Leave height and width of `images` open, for one engine that serves several.
        embedding: Tensor of the model to give as well, by the name that it came with; its width
            stays symbolic, see `engines.embedding`.
    """
    model.ir_version = max(model.ir_version, MIN_IR_VERSION)
    graph = model.graph
    names = _vacate_names(graph)
    _name_nodes(graph)
    model_input = names.get(info.input_name, info.input_name)
    before = _normalise(info, spec, keep_float=_feeds_only_casts(graph, model_input))
    before.nodes[-1].output[0] = model_input
    after = _Chain(names.get(info.output_name, info.output_name))
    if info.flatten:
        # Not Flatten: a model for one image may give [classes].
        after.add("flatten", "Reshape", np.array([-1, classes], np.int64))
    _rank(after, activation, columns(top_k, classes))
    if embedding is not None:
        after.tensor = names.get(embedding, embedding)
        after.add("flatten_embedding", "Flatten", axis=1)
        after.add("cast_embedding", "Cast", outputs=(EMBEDDING,), to=TensorProto.FLOAT)
    for index, node in enumerate(before.nodes):
        graph.node.insert(index, node)
    graph.node.extend(after.nodes)
    graph.initializer.extend(before.constants + after.constants)
    size = ("height", "width") if any_size else (spec.host.height, spec.host.width)
    _declare(graph, size, classes, columns(top_k, classes))
    if embedding is not None:
        graph.output.append(_value(EMBEDDING, TensorProto.FLOAT, ["width"]))


def _normalise(info: GraphInfo, spec: PreprocessSpec, *, keep_float: bool) -> _Chain:
    """From uint8 NHWC RGB to what the model takes."""
    chain = _Chain(IMAGES)
    chain.add("cast", "Cast", to=TensorProto.FLOAT)
    nchw = info.layout == "nchw"
    if nchw:
        chain.add("transpose", "Transpose", perm=[0, 3, 1, 2])
    if info.dtype != "uint8":
        subtract, multiply = (
            np.array(channels, np.float32).reshape((3, 1, 1) if nchw else (3,))
            for channels in spec.affine()
        )
        chain.add("subtract", "Sub", subtract)
        chain.add("multiply", "Mul", multiply)
    if spec.channel_order == "bgr":
        chain.add("swap_channels", "Gather", np.array([2, 1, 0], np.int64), axis=1 if nchw else 3)
    if info.dtype == "float16":
        chain.add("cast_input", "Cast", to=TensorProto.FLOAT16)
    elif info.dtype == "uint8" and not keep_float:
        chain.add("cast_input", "Cast", to=TensorProto.UINT8)
    return chain


def _rank(chain: _Chain, activation: Activation, k: int) -> None:
    """From the model's output to the k best labels, in float32 whatever the model computes in."""
    chain.add("cast_output", "Cast", outputs=(LOGITS,), to=TensorProto.FLOAT)
    if activation == "softmax":
        chain.add("softmax", "Softmax", axis=1)
    elif activation == "sigmoid":
        chain.add("sigmoid", "Sigmoid")
    indices = f"{PREFIX}top_k/indices"
    chain.add("top_k", "TopK", np.array([k], np.int64), outputs=(SCORES, indices), axis=1)
    chain.tensor = indices
    chain.add("cast_indices", "Cast", outputs=(LABEL_IDS,), to=TensorProto.INT32)


def _declare(graph: GraphProto, size: tuple[int | str, int | str], classes: int, k: int) -> None:
    """State the new inputs and outputs, and drop what was said of shapes between them."""
    graph.ClearField("input")
    graph.ClearField("output")
    graph.ClearField("value_info")  # It may hold the old batch size.
    values: list[tuple[Any, str, int, list[int | str]]] = [
        (graph.input, IMAGES, TensorProto.UINT8, [*size, 3]),
        (graph.output, SCORES, TensorProto.FLOAT, [k]),
        (graph.output, LABEL_IDS, TensorProto.INT32, [k]),
        (graph.output, LOGITS, TensorProto.FLOAT, [classes]),
    ]
    for where, name, dtype, shape in values:
        where.append(_value(name, dtype, shape))


def _value(name: str, dtype: int, shape: list[int | str]) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, dtype, ["batch", *shape])


def _nodes(graph: GraphProto) -> Iterator[NodeProto]:
    """Every node, those of subgraphs included."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for subgraph in (attribute.g, *attribute.graphs):
                yield from _nodes(subgraph)


def _feeds_only_casts(graph: GraphProto, name: str) -> bool:
    """Whether a tensor may change its type because whatever reads it casts it."""
    return all(node.op_type == "Cast" for node in _nodes(graph) if name in node.input)


def _name_nodes(graph: GraphProto) -> None:
    """Give a name of its own to every node of the model that lacks one, for reports."""
    taken: set[str] = set()
    for index, node in enumerate(graph.node):
        if not node.name or node.name in taken or node.name.startswith(PREFIX):
            node.name = f"model/{node.op_type}_{index}"
        taken.add(node.name)


def _vacate_names(graph: GraphProto) -> Mapping[str, str]:
    """Rename the model's tensors that have a name of ours; returns old names to new ones."""
    values = {name for node in _nodes(graph) for name in (*node.input, *node.output)}
    ours = {IMAGES, SCORES, LABEL_IDS, LOGITS, EMBEDDING}
    names: dict[str, str] = {}
    for name in sorted(value for value in values if value in ours or value.startswith(PREFIX)):
        new = f"model/{name}"
        while new in values:
            new += "_"
        names[name] = new
    if names:
        _rename(graph, names)
    return names


def _rename(graph: GraphProto, names: Mapping[str, str]) -> None:
    for tensor in (*graph.initializer, *(sparse.values for sparse in graph.sparse_initializer)):
        tensor.name = names.get(tensor.name, tensor.name)
    for value in (*graph.input, *graph.output):
        value.name = names.get(value.name, value.name)
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
        for attribute in node.attribute:
            for subgraph in (attribute.g, *attribute.graphs):
                _rename(subgraph, names)
