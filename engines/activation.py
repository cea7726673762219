"""What turns a model's output into scores, found in the graph, or else in what the model answers.

Exporters leave the last step in the graph or out of it, and nothing says which: a softmax too few
gives scores that are none, a softmax too many gives scores that are all alike. Two questions are
kept apart. *What the output is* - logits, probabilities or their logarithms - is read off the
operator that makes it; only where that says nothing (a division, a branch, a function of somebody's
own) the model is run on synthetic images. *What logits need* is what config.json's problem_type
says, else sigmoid for a single score, else softmax.

The answer is part of `model_id`, and so must be the same on every machine: rows are held against
bounds that they miss by far or meet by far.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, numpy_helper

from engines.errors import InferenceError, ModelError
from engines.graph import GraphInfo
from engines.preprocess.spec import PreprocessSpec
from engines.sampling import sample_outputs
from engines.softmax_axis import refuse_wrong_axis
from engines.wrap import Activation

__all__ = ["Output", "Recognized", "Requested", "kind_of_rows", "recognize"]

Requested = Literal["auto", "softmax", "sigmoid", "none"]
Kind = Literal[
    "logits", "probabilities", "scores", "log-probabilities", "multiples of probabilities"
]
"""Probabilities add up to 1, their multiples to another number, as percentages do; scores are
probabilities of independent classes, as of a sigmoid."""

RANGE_TOLERANCE = 1e-3
"""A float16 near 1 is exact to 0.0005; logits miss [0, 1] by whole units."""

ZERO_TOLERANCE = 1e-6
"""What float32 arithmetic written out may leave below 0; small logits are negative by far more."""

SUM_TOLERANCE = 5e-3
"""Of a row of float16 probabilities: each is exact to one part in 2,048, and what is lost of the
smallest (2^-25 of each class) makes 0.0007 for 22,000 classes."""

MULTIPLE_ROWS = 4
"""Rows of unrelated numbers that add up to the same four times are no chance; whole numbers may."""

MULTIPLE_DRIFT = 0.1
"""Of what a class differs between images: rows of a dead model add up alike, but do not differ."""

_FINAL: dict[str, Kind] = {
    "Softmax": "probabilities",
    "QLinearSoftmax": "probabilities",
    "Sigmoid": "scores",
    "HardSigmoid": "scores",
    "QLinearSigmoid": "scores",
    "LogSoftmax": "log-probabilities",
}
_KEEPS_VALUES = {
    "Cast",
    "DequantizeLinear",
    "Dropout",
    "Flatten",
    "Identity",
    "QuantizeLinear",
    "Reshape",
    "Squeeze",
    "Transpose",
    "Unsqueeze",
}
_UNBOUNDED = {
    "Conv",
    "ConvInteger",
    "ConvTranspose",
    "FusedMatMul",
    "Gemm",
    "MatMul",
    "MatMulInteger",
    "MatMulNBits",
    "QGemm",
    "QLinearConv",
    "QLinearMatMul",
}
"""Sums of products with weights: nothing bounds them."""

_KEEPS_UNBOUNDED = {
    "AveragePool",
    "BatchNormalization",
    "Gather",
    "GlobalAveragePool",
    "GlobalMaxPool",
    "LeakyRelu",
    "MaxPool",
    "Neg",
    "PRelu",
    "ReduceMax",
    "ReduceMean",
    "ReduceSum",
    "Relu",
    "Slice",
}
"""What they make of a first input without bounds has none either, or not both."""

_ARITHMETIC = {"Add", "Div", "Mul", "Sub"}
_JOINS = {"Add", "Concat", "Sub", "Sum"}
"""Heads are added up, as of distilled models, or laid side by side and averaged."""

_DOMAINS = {"", "ai.onnx", "com.microsoft"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """What a model's own output is.

    Attributes:
        kind: Logits, probabilities, scores of independent classes, or log-probabilities.
        because: How that is known, in words.
    """

    kind: Kind
    because: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Recognized:
    """What the graph still needs.

    Attributes:
        activation: What is applied to the model's output.
        source: Who says so, in words.
        ends_in_softmax: Whether the graph's last operator promises rows that add up to 1.
    """

    activation: Activation
    source: str
    ends_in_softmax: bool = False


def recognize(
    requested: Requested,
    model: ModelProto,
    info: GraphInfo,
    spec: PreprocessSpec,
    *,
    config: Mapping[str, object],
    classes: int,
) -> Recognized:
    """Find out what turns a model's output into scores.

    Args:
        requested: What the user says; anything but 'auto' wins.
        model: As it came, not wrapped.
        info: What `inspect` said of it.
        spec: Its preprocessing, for a run.
        config: config.json; empty where there is none.
        classes: Scores of an image.

    Raises:
        ModelError: What the user says would be done twice; the model is no classifier, or gives
            percentages; its softmax is not over the classes; or only a run could tell, and it does
            not run.
    """
    output = _of_graph(model.graph, info.output_name)
    promised = output is not None and output.kind == "probabilities"
    if promised:
        refuse_wrong_axis(model.graph, info)
    if requested != "auto":
        if requested != "none" and output and output.kind in ("probabilities", "scores"):
            raise ModelError(
                f"--activation {requested}: {output.because}, and applying another would flatten"
                " its scores; expected auto or none"
            )
        return Recognized(activation=requested, source="--activation", ends_in_softmax=promised)
    if output is None:
        output = _of_run(model, info, spec)
    if output.kind in ("probabilities", "scores"):
        return Recognized(activation="none", source=output.because, ends_in_softmax=promised)
    if output.kind == "log-probabilities":
        text = f"{output.because}, which softmax turns into probabilities"
        return Recognized(activation="softmax", source=text)
    return _of_logits(output, config.get("problem_type"), classes)


def _of_logits(output: Output, problem: object, classes: int) -> Recognized:
    if problem == "regression":
        raise ModelError(
            "config.json says problem_type 'regression', and this is a classifier's program; give"
            " --activation none to rank the model's plain outputs all the same"
        )
    if problem == "multi_label_classification":
        return Recognized(activation="sigmoid", source=f"config.json: problem_type {problem}")
    if classes == 1:
        return Recognized(activation="sigmoid", source="the model has one score")
    return Recognized(activation="softmax", source=output.because)


def _of_run(model: ModelProto, info: GraphInfo, spec: PreprocessSpec) -> Output:
    """Ask the model itself."""
    graph = model.graph
    last = _Values(graph, _producers(graph)).maker(info.output_name) or "its own input"
    try:
        rows = sample_outputs(model, info, spec)
    except (InferenceError, ModelError) as error:
        raise ModelError(
            f"the graph ends in {last}, from which it cannot be told whether its outputs are"
            f" probabilities already, and it does not run on the CPU to see: {error} Say so with"
            " --activation softmax, sigmoid or none"
        ) from error
    kind = kind_of_rows(rows)
    if kind == "multiples of probabilities":
        raise ModelError(
            f"the graph ends in {last}, and its scores for every image of a test run add up to"
            f" {rows.sum(axis=1).mean():.3g}: probabilities that were scaled, as to percentages,"
            " which another softmax would flatten. Export the model without what scales them, or"
            " give --activation none to rank them as they are"
        )
    seen: dict[Kind, str] = {
        "logits": "rows of a test run are logits",
        "probabilities": "rows of a test run add up to 1",
        "scores": "rows of a test run lie between 0 and 1",
        "log-probabilities": "rows of a test run are logarithms of probabilities",
    }
    return Output(kind=kind, because=f"{seen[kind]} (the graph ends in {last})")


def kind_of_rows(rows: NDArray[np.floating]) -> Kind:
    """Tell from the rows of several different images what they are.

    Args:
        rows: Any float [images, classes].

    Returns:
        'logits' too where nothing can be told: rows hold a NaN, or are all the same and do not even
        add up to 1.
    """
    values = np.asarray(rows, np.float64)
    if np.isnan(values).any() or np.isposinf(values).any():
        return "logits"
    if values.min() >= -ZERO_TOLERANCE and values.max() <= 1 + RANGE_TOLERANCE:
        if _adds_up(values):
            return "probabilities"
        if _adds_up_to_another_number(values) and not _is_saturated(values):
            return "multiples of probabilities"
        return "logits" if (values == values[:1]).all() else "scores"
    if values.max() <= RANGE_TOLERANCE and _adds_up(np.exp(values)):
        return "log-probabilities"
    return "multiples of probabilities" if _adds_up_to_another_number(values) else "logits"


def _adds_up(rows: NDArray[np.float64]) -> bool:
    return bool((np.abs(rows.sum(axis=1) - 1) <= SUM_TOLERANCE).all())


def _adds_up_to_another_number(rows: NDArray[np.float64]) -> bool:
    """Whether rows that differ are shares of one whole, which is not near 1.

    Near 1 are probabilities of which a class was dropped, that few images are of.
    """
    wholes = rows.sum(axis=1)
    whole, drift = float(wholes.mean()), float(np.ptp(wholes))
    if len(rows) < MULTIPLE_ROWS or rows.min() < -ZERO_TOLERANCE or 0.5 <= whole <= 1.5:
        return False
    differing = float(np.ptp(rows, axis=0).max())
    return drift <= SUM_TOLERANCE * whole and drift < MULTIPLE_DRIFT * differing


def _is_saturated(rows: NDArray[np.float64]) -> bool:
    """Whether scores are next to 0 or 1: whole numbers may add up to the same by chance."""
    fractions = np.abs(rows - np.rint(rows)).sum(axis=1)
    return bool((fractions <= MULTIPLE_DRIFT * rows.sum(axis=1)).all())


def _of_graph(graph: GraphProto, name: str) -> Output | None:
    """Follow the output backwards to an operator that says what it is; None where none does."""
    producers = _producers(graph)
    values = _Values(graph, producers)
    kept = True
    while (node := producers.pop(name, None)) is not None and node.domain in _DOMAINS:
        kind = node.op_type
        if kind in _FINAL:
            final = Output(kind=_FINAL[kind], because=f"the graph ends in {kind}")
            return final if kept else None
        if kind in _UNBOUNDED:
            # Classes may be merged behind an activation, as by a matrix of zeros and ones.
            bounded = any(values.maker(value) in _FINAL for value in node.input)
            logits = Output(kind="logits", because=f"the output is made by {kind}: logits")
            return None if bounded else logits
        following = _follow(node, values)
        if following is None:
            return None
        kept = kept and kind in _KEEPS_VALUES
        name = following
    return None


def _follow(node: NodeProto, values: _Values) -> str | None:
    """The input whose lack of bounds the node's output inherits."""
    if node.op_type in _KEEPS_VALUES or node.op_type in _KEEPS_UNBOUNDED:
        return str(node.input[0])
    if node.op_type == "Clip":
        return str(node.input[0]) if values.clips_wider_than_probabilities(node) else None
    if node.op_type in _ARITHMETIC:
        varying = [str(name) for name in node.input if not values.is_constant(name)]
        if len(varying) == 1 and (node.op_type != "Div" or varying == [node.input[0]]):
            return varying[0]
    joined = node.op_type in _JOINS and all(values.maker(v) in _UNBOUNDED for v in node.input)
    return str(node.input[0]) if joined else None


def _producers(graph: GraphProto) -> dict[str, NodeProto]:
    return {name: node for node in graph.node for name in node.output if name}


class _Values:
    """What can be told of the values of a graph, whatever the image."""

    def __init__(self, graph: GraphProto, producers: Mapping[str, NodeProto]) -> None:
        self._initializers = {tensor.name: tensor for tensor in graph.initializer}
        self._producers = dict(producers)  # the walk takes nodes out of the other

    def is_constant(self, name: str) -> bool:
        """Whether a value is a weight, or made of weights alone."""
        todo, seen = [name], {name}
        while todo:
            value = todo.pop()
            if value in self._initializers or not value:
                continue
            node = self._producers.get(value)
            if node is None or any(attribute.HasField("g") for attribute in node.attribute):
                return False  # the model's input, or a branch
            todo += [given for given in node.input if given not in seen]
            seen.update(node.input)
        return True

    def maker(self, name: str) -> str | None:
        """The operator that makes a value, behind those that only reshape it."""
        producers = dict(self._producers)  # emptied on the way: an invalid graph may be a circle
        node = producers.pop(name, None)
        while node is not None and node.op_type in _KEEPS_VALUES:
            node = producers.pop(node.input[0], None)
        return None if node is None else str(node.op_type)

    def clips_wider_than_probabilities(self, node: NodeProto) -> bool:
        """Whether a Clip is none that makes scores: it reaches above 1, or has no upper bound."""
        if len(node.input) < 3 or not node.input[2]:
            return True
        highest = self._value(node.input[2])
        return highest is not None and highest > 1 + RANGE_TOLERANCE

    def _value(self, name: str) -> float | None:
        """The number behind a name; None where it is not plain to see."""
        tensor = self._initializers.get(name)
        node = self._producers.get(name)
        if tensor is None and node is not None and node.op_type == "Constant":
            tensor = next((entry.t for entry in node.attribute if entry.name == "value"), None)
        return None if tensor is None else float(numpy_helper.to_array(tensor).max())
