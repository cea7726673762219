"""Operators of foreign libraries, wherever they stand in a model."""

from __future__ import annotations

import pytest
from onnx import TensorProto, helper

from engines.errors import ModelError
from engines.external_data import read_model


def value(name):
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, [1])


def model_of(nodes, functions=(), domains=()):
    graph = helper.make_graph(nodes, "graph", [value("x")], [value("y")])
    opsets = [helper.make_opsetid(domain, 1) for domain in domains]
    return helper.make_model(
        graph, functions=functions, opset_imports=[helper.make_opsetid("", 17), *opsets]
    )


def written(tmp_path, model):
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def node(domain, op_type):
    return helper.make_node(op_type, ["x"], ["y"], name="first", domain=domain)


@pytest.mark.parametrize(
    ("domain", "op_type"),
    [
        ("mine", "Relu"),
        ("ai.onnx.contrib", "PyOp"),
        ("trt.plugins", "Loaded"),
        ("com.microsoft", "EPContext"),
        ("com.microsoft", "PythonOp"),
        ("com.microsoft.extra", "Relu"),
    ],
)
def test_foreign_operators_are_refused_by_name(tmp_path, domain, op_type):
    path = written(tmp_path, model_of([node(domain, op_type)], domains=[domain]))
    with pytest.raises(ModelError, match=rf"uses {domain}\.{op_type} \(first node 'first'\)"):
        read_model(path)


@pytest.mark.parametrize(
    "domain_and_type", [("", "Relu"), ("ai.onnx", "Relu"), ("com.microsoft", "FusedMatMul")]
)
def test_onnxs_and_onnx_runtimes_own_are_taken(tmp_path, domain_and_type):
    domain, _ = domain_and_type
    path = written(tmp_path, model_of([node(*domain_and_type)], domains=[domain] if domain else []))
    assert read_model(path).proto.graph.node[0].domain == domain


def test_a_models_own_functions_are_taken(tmp_path):
    function = helper.make_function(
        "mine",
        "Twice",
        ["x"],
        ["y"],
        [helper.make_node("Add", ["x", "x"], ["y"])],
        [helper.make_opsetid("", 17)],
    )
    path = written(tmp_path, model_of([node("mine", "Twice")], [function], ["mine"]))
    assert len(read_model(path).proto.functions) == 1
    path = written(tmp_path, model_of([node("mine", "Thrice")], [function], ["mine"]))
    with pytest.raises(ModelError, match=r"mine\.Thrice"):
        read_model(path)


def test_foreign_operators_in_branches_and_functions_are_found(tmp_path):
    branch = helper.make_graph([node("deep", "Hidden")], "branch", [], [value("y")])
    choice = helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)
    path = written(tmp_path, model_of([choice], domains=["deep"]))
    with pytest.raises(ModelError, match=r"deep\.Hidden"):
        read_model(path)
    function = helper.make_function(
        "mine",
        "Choose",
        ["c"],
        ["y"],
        [choice],
        [helper.make_opsetid("", 17), helper.make_opsetid("deep", 1)],
    )
    path = written(tmp_path, model_of([node("mine", "Choose")], [function], ["mine", "deep"]))
    with pytest.raises(ModelError, match=r"deep\.Hidden"):
        read_model(path)


def test_many_are_counted(tmp_path):
    nodes = [helper.make_node(f"Op{n}", ["x"], ["y"], domain="mine") for n in range(30)]
    with pytest.raises(ModelError, match="22 more"):
        read_model(written(tmp_path, model_of(nodes, domains=["mine"])))
