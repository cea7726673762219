"""The embedding: what a classifier's last layer works on, one vector for an image.

Searched from the scores backwards, past activations, biases, scales and changes of shape, to the
Gemm, MatMul or 1x1 Conv that makes them: its input is the embedding. Found by structure, and
checked by a run, since few graphs state the shapes between their nodes.
"""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from math import prod

import numpy as np
import onnx.inliner
from onnx import GraphProto, ModelProto, NodeProto, ValueInfoProto

from engines.errors import InferenceError, ModelError
from engines.ort_session import Session, available_cores
from engines.wrap import EMBEDDING, EMBEDDING_NODE, IMAGES

__all__ = ["Embedding", "find_embedding", "measure_embedding"]

_PASSED = frozenset(
    (
        *("Add", "Sub", "Mul", "Div", "BatchNormalization"),
        *("Softmax", "LogSoftmax", "Sigmoid"),
        *("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Gather", "Slice"),
        *("GlobalAveragePool", "AveragePool", "ReduceMean"),
        *("Identity", "Dropout", "Cast", "QuantizeLinear", "DequantizeLinear"),
    )
)
"""What may stand behind a last layer: none of them mixes classes, if all else is constant."""

_COMPUTED_PARAMETERS = frozenset({"Reshape", "Slice", "Squeeze", "Unsqueeze"})
"""Of those, what may take a shape that the graph computes; the scores are the first input."""

_HOW_TO_NAME = (
    "give --embedding-name NAME with a tensor of the graph (a viewer such as Netron shows them), or"
    " leave --save-embedding out"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedding:
    """Where a model's embedding is.

    Attributes:
        tensor: Its name in the model as it came.
        width: Values of one image.
    """

    tensor: str
    width: int


def find_embedding(model: ModelProto, output_name: str, name: str | None = None) -> str:
    """Name the tensor before the layer that makes the scores, or check that `name` is one.

    Where the model has functions they are written out in place: the last layer may be in one.

    Args:
        model: Complete in memory, not wrapped yet.
        output_name: Where its scores come out.
        name: The tensor to take; None searches.

    Raises:
        ModelError: There is no such tensor, or no last layer is recognized.
    """
    if model.functions:
        model.CopyFrom(onnx.inliner.inline_local_functions(model))
    if name is None:
        return _before_last_layer(model.graph, output_name)
    tensors = sorted({output for node in model.graph.node for output in node.output if output})
    if name not in tensors:
        close = get_close_matches(name, tensors) or tensors[:3]
        raise ModelError(
            f"--embedding-name {name}: the graph has no such tensor; expected one of its"
            f" {len(tensors)}, as {', '.join(close)}"
        )
    return name


def measure_embedding(
    wrapped: ModelProto, tensor: str, *, batch: int | None, height: int, width: int
) -> Embedding:
    """Run the wrapped graph once, on black images, and state in it how wide the embedding is.

    Args:
        wrapped: The wrapped graph; the shape of its output `embedding` is completed in place.
        tensor: The tensor's name in the model as it came.
        batch: Size of the model's static batch; None where it is symbolic.
        height: Rows of `images`.
        width: Columns of `images`.

    Raises:
        ModelError: The tensor does not hold one vector for each image.
    """
    rows = batch or 2
    try:
        values = _run_to(wrapped, np.zeros((rows, height, width, 3), np.uint8))
    except (InferenceError, ModelError) as error:
        raise ModelError(f"tensor {tensor} cannot be computed: {error}. {_HOW_TO_NAME}") from error
    sizes = values.shape[1:]
    is_vector = bool(sizes) and prod(sizes) == max(sizes) > 0
    if not is_vector or len(values) != rows or values.dtype.kind != "f":
        raise ModelError(
            f"tensor {tensor} is {values.dtype} {list(values.shape)} for {rows} image(s); expected"
            f" one vector of floats for each, as [batch, width]. To save another, {_HOW_TO_NAME}"
        )
    [output] = [value for value in wrapped.graph.output if value.name == EMBEDDING]
    output.type.tensor_type.shape.dim[1].dim_value = prod(sizes)
    return Embedding(tensor=tensor, width=prod(sizes))


def _run_to(wrapped: ModelProto, images: np.ndarray) -> np.ndarray:
    """The tensor as it is before our own nodes flatten it."""
    [taken] = [node.input[0] for node in wrapped.graph.node if node.name == EMBEDDING_NODE]
    outputs = list(wrapped.graph.output)
    del wrapped.graph.output[:]
    wrapped.graph.output.append(ValueInfoProto(name=taken))
    try:
        graph = wrapped.SerializeToString()
    finally:
        del wrapped.graph.output[:]
        wrapped.graph.output.extend(outputs)
    session = Session(graph, threads=available_cores(), optimise=False)
    return session.run([taken], {IMAGES: images})[0]


def _before_last_layer(graph: GraphProto, output_name: str) -> str:
    producers = {name: node for node in graph.node for name in node.output if name}
    constants = _constants(graph)
    name: str = output_name
    ended_at = output_name
    while (node := producers.pop(name, None)) is not None:
        variable = [source for source in node.input if source and source not in constants]
        ended_at = f"{node.op_type} {node.name or node.output[0]}"
        if node.op_type in _COMPUTED_PARAMETERS:
            variable = variable[:1]
        if len(variable) != 1 or node.domain not in ("", "ai.onnx"):
            ended_at += f", of {len(variable)} computed tensors" * (len(variable) > 1)
            break
        if node.op_type in ("Gemm", "MatMul") or _is_pointwise(node, graph):
            before: str = variable[0]
            return before
        if node.op_type not in _PASSED:
            break
        [name] = variable
    raise ModelError(
        "--save-embedding: no last layer is found before the scores, which would be a Gemm, MatMul"
        f" or 1x1 Conv with constant weights; the search from {output_name} backwards ended at"
        f" {ended_at}: {_HOW_TO_NAME}"
    )


def _constants(graph: GraphProto) -> set[str]:
    """Names of weights, and of all that is computed from nothing else, as their transposes."""
    constants = {tensor.name for tensor in graph.initializer}
    constants.update(tensor.values.name for tensor in graph.sparse_initializer)
    for node in graph.node:
        subgraphs = any(a.HasField("g") or a.graphs for a in node.attribute)
        if not subgraphs and all(name in constants for name in node.input if name):
            constants.update(node.output)
    return constants


def _is_pointwise(node: NodeProto, graph: GraphProto) -> bool:
    """Whether a node is a convolution of single pixels over all channels."""
    if node.op_type != "Conv":
        return False
    groups = [attribute.i for attribute in node.attribute if attribute.name == "group"]
    kernel = [size for a in node.attribute if a.name == "kernel_shape" for size in a.ints]
    if not kernel:
        kernel = [size for w in graph.initializer if w.name == node.input[1] for size in w.dims[2:]]
    return groups in ([], [1]) and bool(kernel) and set(kernel) == {1}
