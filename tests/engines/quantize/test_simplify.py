from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from engines.ort_session import Session
from engines.quantize.simplify import simplify
from tests.engines.quantize.networks import network, photographs


def logits(graph: bytes) -> np.ndarray:
    return Session(graph, threads=1).run(["logits"], {"images": photographs(4)})[0]


@pytest.mark.parametrize("blocks", [["batch_norm"], ["batch_norm", "identity", "batch_norm"]])
def test_batch_norms_become_part_of_the_convolution_before_them(blocks):
    graph = network(blocks)
    model = simplify(graph)
    onnx.checker.check_model(model, full_check=True)
    assert "BatchNormalization" not in {node.op_type for node in model.graph.node}
    np.testing.assert_allclose(logits(model.SerializeToString()), logits(graph), rtol=1e-3)


def test_a_batch_norm_whose_convolution_has_another_reader_stays():
    model = onnx.load_model_from_string(network(["batch_norm"]))
    [norm] = [node for node in model.graph.node if node.op_type == "BatchNormalization"]
    model.graph.output.append(helper.make_tensor_value_info(norm.input[0], TensorProto.FLOAT, None))
    kept = simplify(model.SerializeToString())
    assert "BatchNormalization" in {node.op_type for node in kept.graph.node}


def test_constants_and_identities_of_weights_become_weights():
    model = onnx.load_model_from_string(network(["plain"]))
    graph = model.graph
    [first, second] = [node for node in graph.node if node.op_type == "Conv"]
    moved = next(tensor for tensor in graph.initializer if tensor.name == first.input[1])
    constant = helper.make_node("Constant", [], ["constant"], "constant", value=moved)
    identity = helper.make_node("Identity", [second.input[1]], ["shared"], "identity")
    first.input[1], second.input[1] = "constant", "shared"
    graph.node.insert(0, identity)
    graph.node.insert(0, constant)
    whole = model.SerializeToString()
    simple = simplify(whole)
    names = {tensor.name for tensor in simple.graph.initializer}
    convolutions = [node for node in simple.graph.node if node.op_type == "Conv"]
    assert all(node.input[1] in names for node in convolutions)
    assert not {"Constant", "Identity"} & {node.op_type for node in simple.graph.node}
    np.testing.assert_array_equal(logits(simple.SerializeToString()), logits(whole))


def test_nodes_get_names_of_their_own_and_functions_are_inlined():
    model = onnx.load_model_from_string(network(["plain"]))
    for node in model.graph.node:
        if node.op_type == "Relu":
            node.domain, node.name = "example", ""
    opset = [helper.make_opsetid("", 17)]
    body = [helper.make_node("Relu", ["x"], ["y"], "relu")]
    model.functions.append(helper.make_function("example", "Relu", ["x"], ["y"], body, opset))
    model.opset_import.append(helper.make_opsetid("example", 1))
    whole = model.SerializeToString()
    simple = simplify(whole)
    names = [node.name for node in simple.graph.node]
    assert len(set(names)) == len(names)
    assert "" not in names
    assert len(simple.functions) == 0
    np.testing.assert_array_equal(logits(simple.SerializeToString()), logits(whole))
