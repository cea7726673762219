from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from engines.activation import kind_of_rows, recognize
from engines.errors import ModelError
from engines.graph import inspect
from tests.models.tiny import Tiny, spec_for


def found(model, *, requested="auto", spec=None, **config):
    info = inspect(model)
    size = (info.height or 4, info.width or 6)
    return recognize(
        requested,
        model,
        info,
        spec or spec_for(size),
        config=config,
        classes=info.classes or 7,
    )


def ending_in(nodes="", final=None, dtype="float32", **tiny):
    """A tiny classifier with nodes behind its output z, as ONNX writes them; y is new."""
    model = Tiny(final=final, output_name="z", dtype=dtype, **tiny).proto()
    if nodes:
        tail = onnx.parser.parse_graph("tail (float[N, C] z) => (float[N, D] y) {" + nodes + "}")
        model.graph.node.extend(tail.node)
        for name in CONSTANTS.keys() & {name for node in tail.node for name in node.input}:
            value = np.asarray(CONSTANTS[name])
            if value.dtype == np.float64:
                value = value.astype("float16" if dtype == "float16" else "float32")
            model.graph.initializer.append(numpy_helper.from_array(value, name))
        model.graph.output[0].name = "y"
        model.graph.output[0].type.tensor_type.shape.dim[1].dim_param = "new"
    onnx.checker.check_model(model)
    return model


CONSTANTS = {
    "low": 0.0,
    "one": 1.0,
    "six": 6.0,
    "tenth": 0.1,
    "hundred": 100.0,
    "scale": 1 / 256,
    "zero": np.uint8(0),
    "merge": np.repeat(np.eye(3), [3, 2, 2], axis=0),
    "classes": [1],
    "first": [1],
    "last": [7],
}


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize(
    ("final", "activation", "source"),
    [
        (None, "softmax", "the output is made by Gemm: logits"),
        ("Softmax", "none", "the graph ends in Softmax"),
        ("Sigmoid", "none", "the graph ends in Sigmoid"),
        (
            "LogSoftmax",
            "softmax",
            "the graph ends in LogSoftmax, which softmax turns into probabilities",
        ),
    ],
)
@pytest.mark.parametrize("keeping", ["", "y = Identity(z)", "a = Flatten(z) y = Identity(a)"])
def test_the_last_operator_says_it(final, dtype, activation, source, keeping):
    answer = found(ending_in(keeping, final=final, dtype=dtype))
    assert (answer.activation, answer.source) == (activation, source)


@pytest.mark.parametrize(
    "nodes",
    [
        "y = Add(z, one)",
        "y = Mul(six, z)",  # a learned temperature
        "y = Div(z, tenth)",
        "y = Sub(one, z)",
        "a = Exp(tenth) b = Sqrt(a) y = Mul(z, b)",
        "y = Relu(z)",
        "y = Clip(z, low, six)",
        "y = Clip(z, low)",
        "y = Slice(z, first, last, classes)",
        "a = MatMul(z, merge) b = MatMul(z, merge) c = Add(a, b) y = Div(c, six)",  # two heads
        "a = Unsqueeze(z, first) b = Concat<axis = 1>(a, a) y = ReduceMean<axes = [1]>(b)",
    ],
)
def test_arithmetic_on_logits_leaves_logits(nodes, monkeypatch):
    monkeypatch.setattr("engines.activation.sample_outputs", None)  # nothing is run
    answer = found(ending_in(nodes))
    maker = "MatMul" if "MatMul" in nodes else "Gemm"
    assert answer.activation == "softmax"
    assert answer.source == f"the output is made by {maker}: logits"


def test_quantized_softmax_is_seen_behind_its_quantization():
    """Rounded to 1/256, a thousand probabilities no longer add up to 1: rows would mislead."""
    nodes = "a = QuantizeLinear(z, scale, zero) y = DequantizeLinear(a, scale, zero)"
    assert found(ending_in(nodes, final="Softmax")).source == "the graph ends in Softmax"


HANDMADE = {
    "softmax": "a = Exp(z) b = ReduceSum(a, classes) y = Div(a, b)",
    "sigmoid": "a = Neg(z) b = Exp(a) c = Add(b, one) y = Div(one, c)",
    "log-softmax": "a = ReduceLogSumExp<axes = [1]>(z) y = Sub(z, a)",
    "clipped sigmoid": "y = Clip(z, low, one)",
    "branch": "a = Equal(z, z) y = Where(a, z, z)",
    "merged classes": "a = Softmax<axis = 1>(z) y = MatMul(a, merge)",
    "background dropped": "a = Softmax<axis = 1>(z) y = Slice(a, first, last, classes)",
}
SEEN = {
    "softmax": ("none", "rows of a test run add up to 1 (the graph ends in Div)"),
    "sigmoid": ("none", "rows of a test run lie between 0 and 1 (the graph ends in Div)"),
    "log-softmax": (
        "softmax",
        "rows of a test run are logarithms of probabilities (the graph ends in Sub), which softmax"
        " turns into probabilities",
    ),
    "clipped sigmoid": ("none", "rows of a test run lie between 0 and 1 (the graph ends in Clip)"),
    "branch": ("softmax", "rows of a test run are logits (the graph ends in Where)"),
    "merged classes": ("none", "rows of a test run add up to 1 (the graph ends in MatMul)"),
    "background dropped": (
        "none",
        "rows of a test run lie between 0 and 1 (the graph ends in Slice)",
    ),
}


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("batch", ["batch", 1, 3])
@pytest.mark.parametrize("name", HANDMADE)
def test_where_the_graph_cannot_tell_a_run_does(name, dtype, batch):
    answer = found(ending_in(HANDMADE[name], dtype=dtype, batch=batch))
    assert (answer.activation, answer.source) == SEEN[name]


@pytest.mark.parametrize("tiny", [{"layout": "nhwc"}, {"dtype": "uint8", "layout": "nhwc"}])
def test_a_run_feeds_the_model_as_the_wrapped_graph_does(tiny):
    answer = found(
        ending_in(HANDMADE["softmax"], **tiny), spec=spec_for((4, 6), channel_order="bgr")
    )
    assert answer.activation == "none"


def test_the_run_is_the_same_every_time():
    assert len({found(ending_in(HANDMADE["branch"])).source for _ in range(3)}) == 1


def test_two_independent_labels_are_not_taken_for_a_softmax():
    assert found(ending_in(final="Sigmoid", classes=2)).activation == "none"
    assert found(ending_in(HANDMADE["sigmoid"], classes=2)).source.startswith(
        "rows of a test run lie between"
    )


def test_logits_follow_the_problem_type():
    answer = found(ending_in(), problem_type="multi_label_classification")
    assert (answer.activation, answer.source) == (
        "sigmoid",
        "config.json: problem_type multi_label_classification",
    )
    made = found(ending_in(final="Softmax"), problem_type="multi_label_classification")
    assert made.activation == "none"  # what the graph does is no question of training


def test_one_class():
    assert found(ending_in(classes=1)).activation == "sigmoid"
    assert found(ending_in(classes=1)).source == "the model has one score"
    assert found(ending_in(classes=1, final="Sigmoid")).activation == "none"
    assert found(ending_in(HANDMADE["sigmoid"], classes=1)).activation == "none"


def test_a_flag_wins_and_nothing_is_run(monkeypatch):
    monkeypatch.setattr("engines.activation.sample_outputs", None)
    for requested in ("softmax", "sigmoid", "none"):
        answer = found(ending_in(HANDMADE["branch"]), requested=requested)
        assert (answer.activation, answer.source) == (requested, "--activation")
    assert found(ending_in(final="Softmax"), requested="none").activation == "none"


@pytest.mark.parametrize("final", ["Softmax", "Sigmoid", "HardSigmoid"])
def test_a_flag_that_would_do_it_twice_is_refused(final):
    model = ending_in(f"y = {final}(z)")
    with pytest.raises(ModelError, match=f"--activation sigmoid: the graph ends in {final}"):
        found(model, requested="sigmoid")


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize(
    ("nodes", "whole"),
    [
        ("a = Softmax<axis = 1>(z) y = Mul(a, hundred)", 100),
        ("a = Softmax<axis = 1>(z) b = Softmax<axis = 1>(z) y = Add(a, b)", 2),
        ("a = Softmax<axis = 1>(z) y = Mul(a, tenth)", 0.1),
    ],
)
def test_percentages_are_neither_logits_nor_probabilities(nodes, whole, dtype):
    model = ending_in(nodes, dtype=dtype)
    with pytest.raises(ModelError, match=rf"add up to {whole}: .*--activation none"):
        found(model)
    assert found(model, requested="none").activation == "none"


@pytest.mark.parametrize(
    ("requested", "final", "promised"),
    [
        ("auto", "Softmax", True),
        ("none", "Softmax", True),
        ("auto", "Sigmoid", False),
        ("auto", None, False),
        ("none", None, False),
    ],
)
def test_what_a_softmax_promises_can_be_held_against_its_rows(requested, final, promised):
    assert found(ending_in(final=final), requested=requested).ends_in_softmax is promised


def test_a_regression_is_refused_unless_its_outputs_are_wanted():
    with pytest.raises(ModelError, match=r"'regression'.*--activation none"):
        found(ending_in(), problem_type="regression")
    assert found(ending_in(), requested="none", problem_type="regression").activation == "none"


def test_what_only_a_run_could_tell_and_cannot_be_run_needs_a_flag():
    model = ending_in("y = Neg(z)")
    model.graph.node[-1].op_type, model.graph.node[-1].domain = "Mystery", "com.example"
    model.opset_import.append(helper.make_opsetid("com.example", 1))
    with pytest.raises(ModelError, match=r"ends in Mystery.*--activation softmax, sigmoid or none"):
        found(model)
    assert found(model, requested="softmax").activation == "softmax"


def test_a_function_of_the_exporters_is_run():
    model = ending_in("y = Neg(z)")
    model.graph.node[-1].op_type, model.graph.node[-1].domain = "own_softmax", "pkg.example"
    model.opset_import.append(helper.make_opsetid("pkg.example", 1))
    opset = helper.make_opsetid("", 17)
    body = helper.make_node("Softmax", ["a"], ["b"], axis=1)
    function = helper.make_function("pkg.example", "own_softmax", ["a"], ["b"], [body], [opset])
    model.functions.append(function)
    answer = found(model)
    assert answer.activation == "none"
    assert answer.source == "rows of a test run add up to 1 (the graph ends in own_softmax)"


ROWS = st.integers(0, 2**32).flatmap(
    lambda seed: st.tuples(st.just(seed), st.integers(2, 8), st.sampled_from([2, 3, 10, 1000]))
)


def logits_of(rows, spread):
    seed, images, classes = rows
    return np.random.default_rng(seed).standard_normal((images, classes)) * spread


def softmax(logits):
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@settings(deadline=None, max_examples=60)
@given(rows=ROWS, spread=st.sampled_from([0.3, 1, 10, 300]))
def test_rows_are_told_apart_saturated_or_not(dtype, rows, spread):
    logits = logits_of(rows, spread)
    assert kind_of_rows(softmax(logits).astype(dtype)) == "probabilities"
    with np.errstate(divide="ignore"):
        assert kind_of_rows(np.log(softmax(logits)).astype(dtype)) == "log-probabilities"
    scores = (0.5 + 0.5 * np.tanh(logits / 2)).astype(dtype)
    if abs(scores.sum(axis=1) - 1).max() > 0.01 and (scores != scores[0]).any():
        assert kind_of_rows(scores) == "scores"
    if logits.min() < -0.01 and logits.max() > 0.01:
        assert kind_of_rows(logits.astype(dtype)) == "logits"


@pytest.mark.parametrize("gap", [0, 1e-3, 0.03])
def test_scores_that_are_sure_of_two_classes_in_every_image_are_scores(gap):
    rows = np.array([[1, 1, 0, 0], [1, 0, 1, 0], [0, 1, 0, 1], [0, 0, 1, 1]], np.float64)
    assert kind_of_rows(np.abs(rows - gap)) == "scores"


@pytest.mark.parametrize("scale", [0.01, 0.4])
def test_shares_of_a_whole_below_one_are_multiples_however_sure(scale):
    assert kind_of_rows(np.eye(4) * scale) == "multiples of probabilities"


@pytest.mark.parametrize(
    "rows",
    [
        np.zeros((3, 4)),  # dead
        np.tile([0.1, 0.2, 0.3], (4, 1)),  # whatever the image
        [[np.nan, 0.5], [0.1, 0.9]],
        [[np.inf, 0.5], [0.1, 0.9]],
        [[0.2, 0.3]],  # one row proves nothing
        [[2e-4, -1e-4, 3e-4], [1e-4, -2e-4, 2e-4]],  # of weights that were hardly trained
    ],
)
def test_rows_that_tell_nothing_are_logits(rows):
    assert kind_of_rows(np.array(rows)) == "logits"


@pytest.mark.parametrize("whole", [0.2, 2, 100, 255])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@settings(deadline=None, max_examples=30)
@given(rows=ROWS, spread=st.sampled_from([0.3, 1, 10]))
def test_probabilities_times_something_are_told_apart(whole, dtype, rows, spread):
    logits = logits_of((rows[0], 8, rows[2]), spread)
    scaled = (softmax(logits) * whole).astype(dtype)
    assert kind_of_rows(scaled) == "multiples of probabilities"
    assert kind_of_rows(scaled[:3]) != "multiples of probabilities"  # three may be a chance
    assert kind_of_rows(np.tile(scaled[:1], (8, 1))) != "multiples of probabilities"  # dead
    assert kind_of_rows(np.maximum(logits, 0).astype(dtype)) != "multiples of probabilities"


def test_a_single_column():
    assert kind_of_rows(np.array([[0.2], [0.7]])) == "scores"
    assert kind_of_rows(np.array([[-2.0], [3.0]])) == "logits"


def test_saturated_rows_of_zeros_and_ones_are_probabilities():
    assert kind_of_rows(np.eye(4)) == "probabilities"
    assert kind_of_rows(np.array([[0.0, 1.0]] * 8)) == "probabilities"


def test_a_softmax_over_the_batch_is_refused_whoever_says_what():
    model = ending_in("y = Softmax<axis = 0>(z)")
    for requested in ("auto", "none"):
        with pytest.raises(ModelError, match="over the images of a batch"):
            found(model, requested=requested)
