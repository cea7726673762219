"""Which ONNX node is in which layer, on a real engine and for each of the sources."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from engines.report.fates import find_fates
from engines.report.layers import Layer, parse_layers
from engines.report.nodes import Node, list_nodes, parse_nodes
from engines.report.steps import Removal
from tests.engines.wrapped_graphs import wrapped_cnn

GOLDEN = Path(__file__).parent.parent / "golden/engine_report"


def fate(nodes, layers, removals=None):
    return {
        found.node.name: (found.layers, found.source, found.why)
        for found in find_fates(nodes, layers, removals or {})
    }


def test_a_real_engine_of_8_6():
    layers = parse_layers((GOLDEN / "resnet50-fp16-8.6.1.layers.json").read_text())
    nodes = parse_nodes((GOLDEN / "resnet50-fp16-8.6.1.nodes.json").read_text()).nodes
    found = fate(nodes, layers)
    assert Counter(source for _, source, _ in found.values()) == {"metadata": 25, "name": 5, "": 1}
    indices, source, _ = found["layer1.0.add.relu"]
    assert source == "metadata"
    assert layers[indices[0]].name == "layer1.0.downsample + layer1.0.add + layer1.0.add.relu"
    # The layer that computes comes first, the view that follows it second.
    assert [layers[index].name for index in found["fc"][0]] == ["fc", "reshape_after_fc"]
    assert found["nightshift/cast"][:2] == ((0,), "name")
    assert found["features"] == ((), "", "TensorRT does not say")  # a Flatten


def test_a_copy_for_a_layer_is_not_the_layer():
    layers = [
        Layer(
            name="Reformatting CopyNode for Input Tensor 0 to conv + relu", kind="NoOp", idle=True
        ),
        Layer(name="conv + relu"),
    ]
    found = fate([Node(name="conv", op="Conv"), Node(name="relu", op="Relu")], layers)
    assert found == {"conv": ((1,), "name", ""), "relu": ((1,), "name", "")}


def test_a_clone_belongs_to_its_node():
    layers = [Layer(name="q_clone_0", reformat=True, origin="QDQ"), Layer(name="conv + q_clone_1")]
    assert fate([Node(name="q", op="QuantizeLinear")], layers) == {"q": ((0, 1), "name", "")}


def test_what_the_log_says_was_absorbed_is_found_in_the_end():
    nodes = [Node(name=name, op="Any") for name in ("bn", "dq", "dup", "ring")]
    removals = {
        "bn": Removal(into="scale", why="part of it now (A)"),
        "scale": Removal(into="conv + relu", why="part of it now (B)"),
        "dq": Removal(into="nowhere", why="part of it now (C)"),
        "dup": Removal(into=None, why="the same as q2"),
        "ring": Removal(into="ring", why="part of it now (D)"),
    }
    nodes.append(Node(name="conv", op="Conv"))
    found = fate(nodes, [Layer(name="conv + relu")], removals)
    assert found["bn"] == ((0,), "log", "")
    assert found["dq"] == ((), "log", "part of it now (C), into nowhere")
    assert found["dup"] == ((), "log", "the same as q2")
    assert found["ring"] == ((), "log", "part of it now (D), into ring")


def test_a_compiled_region_holds_what_leads_to_its_end():
    def node(name, *inputs):
        return Node(name=name, op="Any", inputs=inputs, outputs=(f"{name}.out",))

    nodes = [
        node("conv", "images"),
        node("mean", "conv.out"),
        node("sub", "conv.out", "mean.out"),
        node("removed", "conv.out"),
        node("mul", "sub.out", "removed.out"),
        node("fc", "mul.out"),
    ]
    layers = [Layer(name="conv"), Layer(name="{ForeignNode[shift...mul]}"), Layer(name="fc")]
    found = fate(nodes, layers, {"removed": Removal(into=None, why="removed (A)")})
    assert {name: found[name][:2] for name in ("mean", "sub", "mul")} == {
        "mean": ((1,), "flow"),
        "sub": ((1,), "flow"),
        "mul": ((1,), "name"),
    }
    assert found["conv"][0] == (0,)
    assert found["removed"] == ((), "log", "removed (A)")


def test_constants_are_no_layers():
    found = fate([Node(name="c", op="Constant")], [])
    assert found["c"] == ((), "", "a constant, no layer of its own")


def test_nodes_are_listed_as_tensorrt_names_them():
    graph = wrapped_cnn()
    listed = parse_nodes(list_nodes(graph, fp32_graph=graph))
    assert listed.before_precision == len(listed.nodes) == 14
    conv = next(node for node in listed.nodes if node.name == "conv1")
    assert conv == Node(name="conv1", op="Conv", inputs=("x", "conv1"), outputs=("c1",))
    nameless = graph.replace(b"conv1", b"\0" * 5)
    assert len(parse_nodes(list_nodes(graph, fp32_graph=nameless)).nodes) == 14


@pytest.mark.parametrize("text", ["[]", "{}", '{"format": 2}', '{"format": 1}', "no"])
def test_what_is_no_list_of_nodes_is_refused(text):
    with pytest.raises(ValueError, match=r"."):
        parse_nodes(text)
