from __future__ import annotations

import pytest
from onnx import helper

from engines.errors import ModelError
from engines.graph import inspect
from engines.softmax_axis import refuse_wrong_axis
from tests.models.tiny import Tiny


def ending(axis=None, opset=17, trailing=False, behind=(), **tiny):
    """A tiny classifier with a softmax over an axis; `axis` None is the operator's default."""
    model = Tiny(final="Softmax", trailing=trailing, **tiny).proto()
    model.opset_import[0].version = opset
    [softmax] = [node for node in model.graph.node if node.op_type == "Softmax"]
    del softmax.attribute[:]
    if axis is not None:
        softmax.attribute.append(helper.make_attribute("axis", axis))
    for operator in behind:
        output = model.graph.output[0]
        model.graph.value_info.append(output)
        node = helper.make_node(operator, [output.name], [f"{output.name}_behind"])
        model.graph.node.append(node)
        output.name = node.output[0]
    return model


def look(model):
    refuse_wrong_axis(model.graph, inspect(model))


@pytest.mark.parametrize(
    "right",
    [
        {"axis": 1},
        {"axis": -1},
        {},
        {"axis": 1, "batch": 4},
        {"axis": 1, "trailing": True},
        {"axis": -3, "trailing": True},
        # Over this axis and all behind it.
        {"axis": 1, "opset": 12, "trailing": True},
        {"opset": 12, "trailing": True},
        {"axis": 0, "opset": 12, "batch": 1},
        {"axis": 1, "behind": ["Identity", "Identity"]},
    ],
)
def test_over_the_classes_is_right(right):
    look(ending(**right))


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"axis": 0}, r"axis 0 of \[\?, 7\] .* the images of a batch"),
        ({"axis": -2}, "the images of a batch"),
        ({"axis": 0, "batch": 4}, r"axis 0 of \[4, 7\] .* the images of a batch"),
        ({"axis": 0, "opset": 12}, "the images of a batch"),
        ({"axis": 0, "batch": 1}, r"axis 0 of \[1, 7\] \(opset 17\), which is over one value"),
        ({"axis": -1, "trailing": True}, r"axis 3 of \[\?, 7, 1, 1\] .* one value"),
        ({"axis": -1, "trailing": True, "opset": 12}, "one value"),
        ({"trailing": True}, "one value"),
        ({"axis": 1, "classes": 1}, "one value"),
        ({"axis": 0, "behind": ["Identity"]}, "the images of a batch"),
    ],
)
def test_over_anything_else_is_refused_without_a_run(wrong, reason):
    with pytest.raises(ModelError, match=f"{reason}.*axis of the classes, or without it"):
        look(ending(**wrong))


def test_without_a_stated_shape_nothing_is_said():
    model = ending(axis=0, behind=["Identity"])
    del model.graph.value_info[:]
    look(model)


def test_an_unknown_number_of_classes_is_no_fault():
    model = ending(axis=1)
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_param = "classes"
    look(model)
