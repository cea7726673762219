from __future__ import annotations

import pytest
from onnx import TensorProto, helper

from engines.errors import ModelError
from engines.graph import inspect
from tests.models.tiny import Tiny

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64


def graph_of(inputs, outputs, nodes=None, initializers=()):
    """A model of declared inputs and outputs; nothing runs it."""
    declare = helper.make_tensor_value_info
    nodes = nodes or [helper.make_node("Identity", [inputs[0][0]], [name]) for name, *_ in outputs]
    graph = helper.make_graph(
        nodes,
        "graph",
        [declare(*value) for value in inputs],
        [declare(*value) for value in outputs],
        initializers,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def with_input(shape, element=FLOAT):
    return graph_of([("x", element, shape)], [("y", FLOAT, ["n", 10])])


def with_outputs(*outputs):
    return graph_of([("x", FLOAT, ["n", 3, 8, 8])], outputs)


def test_says_everything_of_a_plain_export():
    info = inspect(Tiny(size=(4, 6), input_name="pixels", output_name="head").proto())
    assert info.input_name == "pixels"
    assert (info.layout, info.dtype, info.batch) == ("nchw", "float32", None)
    assert (info.height, info.width) == (4, 6)
    assert (info.output_name, info.classes, info.flatten) == ("head", 7, False)
    assert info.opset == 17


@pytest.mark.parametrize(
    ("shape", "layout", "batch", "height", "width"),
    [
        (["n", 3, 224, 192], "nchw", None, 224, 192),
        ([1, 3, "h", "w"], "nchw", 1, None, None),
        (["n", "c", "h", "w"], "nchw", None, None, None),
        (["n", "c", 224, 192], "nchw", None, 224, 192),
        ([-1, 3, 0, -1], "nchw", None, None, None),
        ([8, 224, 192, 3], "nhwc", 8, 224, 192),
        (["n", "h", "w", 3], "nhwc", None, None, None),
        (["n", 3, 5, 3], "nchw", None, 5, 3),
    ],
)
def test_layouts_and_sizes(shape, layout, batch, height, width):
    info = inspect(with_input(shape))
    assert (info.layout, info.batch, info.height, info.width) == (layout, batch, height, width)


@pytest.mark.parametrize(
    ("shape", "element", "message"),
    [
        (["n", 10], FLOAT, r"takes x float\[n, 10\]; expected images as \[batch, 3"),
        (["n", 3, 8, 8], INT64, r"takes x int64\[n, 3, 8, 8\].*float32, float16, uint8"),
        (None, FLOAT, "x float of unknown shape"),
        (["n", 1, 28, 28], FLOAT, r"x float\[n, 1, 28, 28\]; expected three colour channels"),
        (["n", 28, 28, 4], FLOAT, "three colour channels"),
    ],
)
def test_inputs_that_are_no_images_are_refused(shape, element, message):
    with pytest.raises(ModelError, match=message):
        inspect(with_input(shape, element))


def test_several_inputs_are_refused_by_name():
    model = graph_of(
        [("pixels", FLOAT, ["n", 3, 8, 8]), ("mask", INT64, ["n", "patches"])],
        [("y", FLOAT, ["n", 10])],
    )
    with pytest.raises(ModelError, match=r"pixels float\[n, 3, 8, 8\]; mask int64\[n, patches\]"):
        inspect(model)


def test_no_input_at_all_is_refused():
    constant = helper.make_node("Constant", [], ["y"], value_float=1.0)
    with pytest.raises(ModelError, match="takes nothing"):
        inspect(graph_of([], [("y", FLOAT, ["n", 10])], [constant]))


def test_weights_listed_as_inputs_are_no_inputs():
    weight = helper.make_tensor("w", FLOAT, [1], [1.0])
    inputs = [("w", FLOAT, [1]), ("x", FLOAT, ["n", 3, 8, 8])]
    model = graph_of(inputs, [("y", FLOAT, ["n", 10])], initializers=[weight])
    assert inspect(model).input_name == "x"


@pytest.mark.parametrize(
    ("outputs", "chosen"),
    [
        ([("a", FLOAT, ["n", 10])], "a"),
        ([("features", FLOAT, ["n", 512]), ("logits", FLOAT, ["n", 10])], "logits"),
        ([("a", FLOAT, ["n", 10]), ("map", FLOAT, ["n", 64, 7, 7])], "a"),
    ],
)
def test_the_output_that_can_be_meant_is_taken(outputs, chosen):
    assert inspect(with_outputs(*outputs)).output_name == chosen


def test_several_outputs_that_could_be_meant_need_a_name():
    model = with_outputs(("head", FLOAT, ["n", 10]), ("aux", FLOAT, ["n", 10]))
    with pytest.raises(ModelError, match=r"head float\[n, 10\]; aux float.*--output-name"):
        inspect(model)
    assert inspect(model, output_name="aux").output_name == "aux"


def test_an_output_that_is_not_there_is_named_with_those_that_are():
    with pytest.raises(ModelError, match=r"no output 'probs'; it gives y float\[n, 10\]"):
        inspect(with_outputs(("y", FLOAT, ["n", 10])), output_name="probs")


@pytest.mark.parametrize(
    "output",
    [("y", FLOAT, ["n"]), ("y", FLOAT, ["n", 10, 7, 7]), ("y", INT64, ["n", 1])],
)
def test_outputs_that_are_no_scores_are_refused(output):
    with pytest.raises(ModelError, match=r"not one row of scores.*expected floats \[batch"):
        inspect(with_outputs(output))


@pytest.mark.parametrize(
    ("shape", "classes", "flatten"),
    [
        (["n", 10, 1, 1], 10, True),
        (["n", 10], 10, False),
        (["n", "classes"], None, False),
        ([1, 10], 10, False),
    ],
)
def test_classes(shape, classes, flatten):
    info = inspect(with_outputs(("y", FLOAT, shape)))
    assert (info.classes, info.flatten) == (classes, flatten)


def test_a_shape_that_the_exporter_left_out_is_inferred():
    model = Tiny().proto()
    model.graph.output[0].type.tensor_type.ClearField("shape")
    info = inspect(model)
    assert (info.classes, info.flatten) == (7, False)


def test_a_shape_that_nothing_tells_is_left_to_a_run():
    model = with_outputs(("y", FLOAT, None))
    model.graph.node[0].op_type, model.graph.node[0].domain = "Mystery", "com.example"
    model.opset_import.append(helper.make_opsetid("com.example", 1))
    info = inspect(model)
    assert (info.classes, info.flatten) == (None, True)


@pytest.mark.parametrize("opset", [7, 10])
def test_old_opsets_are_refused_with_a_way_out(opset):
    model = Tiny().proto()
    model.opset_import[0].version = opset
    with pytest.raises(ModelError, match=rf"opset {opset}; expected 11 or newer.*version_convert"):
        inspect(model)


def ranked(*outputs):
    """All scores as `y`, the best of them as `best`, where they stand as `places`."""
    nodes = [
        helper.make_node("Identity", ["x"], ["y"]),
        helper.make_node("TopK", ["y", "k"], ["values", "places"]),
        helper.make_node("Squeeze", ["values"], ["best"]),
    ]
    return graph_of([("x", FLOAT, ["n", 3, 8, 8])], outputs, nodes)


def test_scores_that_the_graph_has_sorted_are_refused():
    best, places = ("best", FLOAT, ["n", 5]), ("places", INT64, ["n", 5])
    for outputs in ([best], [best, places]):
        with pytest.raises(ModelError, match=r"best float\[n, 5\] is made by TopK.*without TopK"):
            inspect(ranked(*outputs))
    every = ranked(("y", FLOAT, ["n", 10]), best, places)
    assert inspect(every).output_name == "y"
    with pytest.raises(ModelError, match="made by TopK"):
        inspect(every, output_name="best")
