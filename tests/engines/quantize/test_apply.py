from __future__ import annotations

import functools

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto

from engines.errors import ModelError
from engines.ort_session import Session
from engines.precision import apply_precision
from engines.quantize.calibrate import calibrate
from engines.quantize.calibration import Calibration
from engines.quantize.lint import lint
from engines.quantize.wiring import Edge, Wiring
from tests.engines.quantize.networks import BLOCKS, network, photographs

TARGETS = ("tensorrt-8", "tensorrt-10", "onnxruntime")
PARSERS = {"tensorrt-8": "8.6", "tensorrt-10": "10"}


@functools.cache
def calibration(graph: bytes) -> Calibration:
    return calibrate(graph, [photographs(40)], method="minmax", threads=1)


def int8(graph: bytes, target: str) -> onnx.ModelProto:
    return onnx.load_model_from_string(
        apply_precision(graph, "int8", calibration=calibration(graph), target=target)
    )


def logits(graph: bytes, images: np.ndarray, target: str = "") -> np.ndarray:
    # ONNX Runtime 1.32 quantizes the fp16 biases that it finds beside Q/DQ pairs, and loses their
    # value where the step is small: what is written for TensorRT 10 is run as it stands.
    session = Session(graph, threads=1, optimise=target != "tensorrt-10")
    return session.run(["logits"], {"images": images})[0]


def through_pairs(model: onnx.ModelProto) -> set[Edge]:
    """The inputs that read a dequantized tensor."""
    wiring = Wiring(model.graph)
    return {
        edge
        for node in wiring.nodes.values()
        if node.op_type == "DequantizeLinear"
        for edge in wiring.readers[node.output[0]]
    }


def kernels(graph: bytes, tmp_path) -> list[str]:
    """The operators that ONNX Runtime makes of a graph on this machine."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    return [node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node]


@given(
    blocks=st.lists(st.sampled_from(BLOCKS), min_size=1, max_size=4),
    seed=st.integers(0, 1000),
    target=st.sampled_from(TARGETS),
)
@settings(max_examples=30, deadline=None)
def test_whatever_the_network_its_int8_form_is_valid_and_close_to_fp32(blocks, seed, target):
    graph = network(blocks, seed)
    model = int8(graph, target)
    onnx.checker.check_model(model, full_check=True)
    if target in PARSERS:
        assert lint(model, PARSERS[target]) == []
    images = photographs(16, seed=1)
    exact = logits(graph, images)
    rounded = logits(model.SerializeToString(), images, target)
    assert rounded.dtype == np.float32
    error = np.linalg.norm(rounded - exact) / np.linalg.norm(exact)
    assert 0 < error < 0.15


@pytest.mark.parametrize("target", TARGETS)
def test_the_nodes_around_the_model_stay_as_they_were(target):
    graph = network(["identity"])
    own = [
        node for node in onnx.load_model_from_string(graph).graph.node if "nightshift" in node.name
    ]
    model = int8(graph, target)
    kept = {node.name: node.op_type for node in model.graph.node}
    assert [kept[node.name] for node in own] == [node.op_type for node in own]
    [first] = [node for node in model.graph.node if "images" in node.input]
    assert first.op_type == "Cast"
    assert not any(edge.node.startswith("nightshift/") for edge in through_pairs(model))


@pytest.mark.parametrize("target", TARGETS)
def test_the_same_calibration_gives_the_same_bytes(target):
    graph = network(["identity", "concat"])
    assert int8(graph, target).SerializeToString() == int8(graph, target).SerializeToString()


def test_tensorrt_8_gets_fp32_scales_and_10_gets_fp16_around_its_pairs():
    graph = network(["plain"])
    for target, dtype, opset in (
        ("tensorrt-8", TensorProto.FLOAT, 17),
        ("tensorrt-10", TensorProto.FLOAT16, 19),
    ):
        model = int8(graph, target)
        wiring = Wiring(model.graph)
        assert model.opset_import[0].version == opset
        for node in model.graph.node:
            if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
                assert wiring.weights[node.input[1]].data_type == dtype
                zero = onnx.numpy_helper.to_array(wiring.weights[node.input[2]])
                assert zero.dtype == np.int8
                assert not zero.any()


@pytest.mark.parametrize("blocks", [["identity"], ["downsample"], ["identity", "downsample"]])
def test_of_each_sum_exactly_the_skip_connection_is_quantized(blocks):
    """The branch with more layers goes into the sum as its convolution gives it."""
    model = int8(network(blocks), "tensorrt-8")
    wiring, read = Wiring(model.graph), through_pairs(model)
    sums = [node for node in model.graph.node if node.op_type == "Add"]
    assert len(sums) == len(blocks)
    for node in sums:
        assert [Edge(node.name, index) in read for index in (0, 1)] == [False, True]
        assert wiring.maker[node.input[0]].op_type == "Conv"


def test_the_order_of_a_sums_inputs_makes_no_difference():
    model = onnx.load_model_from_string(network(["downsample"]))
    [node] = [node for node in model.graph.node if node.op_type == "Add"]
    node.input[:] = node.input[::-1]
    changed = int8(model.SerializeToString(), "tensorrt-8")
    read = through_pairs(changed)
    assert [Edge(node.name, index) in read for index in (0, 1)] == [True, False]


def test_all_convolutions_are_in_int8_and_the_last_product_in_none():
    for target in TARGETS:
        model = int8(network(["plain", "downsample"]), target)
        read = through_pairs(model)
        convolutions = [node.name for node in model.graph.node if node.op_type == "Conv"]
        assert len(convolutions) == 5
        for name in convolutions:
            assert {Edge(name, 0), Edge(name, 1)} <= read
        [gemm] = [node.name for node in model.graph.node if node.op_type == "Gemm"]
        assert Edge(gemm, 1) not in read


def test_for_tensorrt_bytes_are_transposed_and_pooled_behind_the_first_convolution():
    """The form that was fastest on a GPU; the pool has one scale before and behind it."""
    model = onnx.load_model_from_string(network(["plain"]))
    [conv, *_] = [node for node in model.graph.node if node.op_type == "Conv"]
    [relu] = [node for node in model.graph.node if conv.output[0] in node.input]
    pool = onnx.helper.make_node("MaxPool", ["stem"], relu.output, "stem_pool", kernel_shape=[2, 2])
    relu.output[0] = "stem"
    model.graph.node.insert(list(model.graph.node).index(relu) + 1, pool)
    found = int8(model.SerializeToString(), "tensorrt-8")
    wiring, read = Wiring(found.graph), through_pairs(found)
    first = wiring.nodes[conv.name]
    before = wiring.maker[wiring.maker[wiring.maker[first.input[0]].input[0]].input[0]]
    assert (before.op_type, before.name) == ("Transpose", "nightshift/transpose")
    assert wiring.maker[before.input[0]].op_type == "Mul"
    assert {Edge("stem_pool", 0), Edge(conv.name, 0)} <= read
    for node in found.graph.node:
        if node.op_type == "Conv":
            assert [item.ints for item in node.attribute if item.name == "kernel_shape"] == [[3, 3]]


def test_a_convolution_behind_a_factor_by_channel_of_the_models_own_stays_as_it_is():
    model = onnx.load_model_from_string(network(["relu6"]))
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    [relu] = [node for node in model.graph.node if convolutions[1].input[0] in node.output]
    factor = np.linspace(0.5, 2, 16, dtype=np.float32).reshape(1, 16, 1, 1)
    model.graph.initializer.append(onnx.numpy_helper.from_array(factor, "factor"))
    scale = onnx.helper.make_node("Mul", [relu.input[0], "factor"], ["scaled"], "scale")
    relu.input[0] = "scaled"
    model.graph.node.insert(list(model.graph.node).index(relu), scale)
    graph = model.SerializeToString()
    inside = {
        target: [Edge(node.name, 0) in through_pairs(found) for node in convolutions]
        for target in TARGETS
        for found in [int8(graph, target)]
    }
    assert inside == {
        "tensorrt-8": [True, False],
        "tensorrt-10": [True, False],
        "onnxruntime": [True, True],
    }


def test_whoever_reads_a_sum_reads_it_in_int8():
    model = onnx.load_model_from_string(network(["identity"]))
    [pool] = [node for node in model.graph.node if node.op_type == "GlobalAveragePool"]
    mean = onnx.helper.make_node("ReduceMean", pool.input, pool.output, pool.name, axes=[2, 3])
    pool.CopyFrom(mean)
    found = int8(model.SerializeToString(), "tensorrt-8")
    [mean] = [node for node in found.graph.node if node.op_type == "ReduceMean"]
    assert Edge(mean.name, 0) in through_pairs(found)


def test_readers_of_one_tensor_share_a_pair():
    model = int8(network(["identity"]), "tensorrt-8")
    quantized = [node.input[0] for node in model.graph.node if node.op_type == "QuantizeLinear"]
    assert len(quantized) == len(set(quantized))


def test_a_pool_between_int8_layers_has_the_same_scale_on_both_sides():
    for target in ("tensorrt-8", "onnxruntime"):
        model = int8(network(["max_pool", "plain"]), target)
        wiring = Wiring(model.graph)
        [pool] = [node for node in model.graph.node if node.op_type == "MaxPool"]
        before = wiring.maker[pool.input[0]]
        after = wiring.read_by(pool.output[0])[0]
        scales = [
            onnx.numpy_helper.to_array(wiring.weights[node.input[1]]) for node in (before, after)
        ]
        assert scales[0] == scales[1]


def test_narrow_and_depthwise_convolutions_follow_the_rules_of_the_model_optimizer():
    graph = network(["depthwise"])
    model = int8(graph, "tensorrt-8")
    [depthwise] = [
        node
        for node in model.graph.node
        for item in node.attribute
        if item.name == "group" and item.i > 1
    ]
    assert Edge(depthwise.name, 0) in through_pairs(model)


@pytest.mark.parametrize(
    "blocks",
    [
        ["plain", "relu6", "identity", "downsample", "max_pool"],
        ["batch_norm", "average_pool", "concat", "plain"],
        ["squeeze", "swish", "depthwise", "plain"],
        ["leaky", "identity", "leaky"],
    ],
)
def test_onnx_runtime_computes_every_layer_in_int8(blocks, tmp_path):
    model = int8(network(blocks), "onnxruntime")
    found = kernels(model.SerializeToString(), tmp_path)
    assert not {"Conv", "Add", "Relu", "Clip", "LeakyRelu"} & set(found)
    assert not {"MaxPool", "AveragePool", "Sigmoid", "Concat"} & set(found)
    assert found.count("QLinearConv") == sum(node.op_type == "Conv" for node in model.graph.node)
    assert found.count("QuantizeLinear") == 1


def test_channels_that_are_all_zero_and_biases_that_are_large_do_no_harm():
    model = onnx.load_model_from_string(network(["plain"]))
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    for tensor in model.graph.initializer:
        array = onnx.numpy_helper.to_array(tensor).copy()
        if tensor.name == convolutions[1].input[1]:
            array[0] = 0
            array[1] = 1e-12
        elif tensor.name == convolutions[1].input[2]:
            array[:3] = 5
        else:
            continue
        tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))
    graph, images = model.SerializeToString(), photographs(8, seed=1)
    for target in TARGETS:
        rounded = logits(int8(graph, target).SerializeToString(), images, target)
        exact = logits(graph, images)
        assert np.linalg.norm(rounded - exact) < 0.02 * np.linalg.norm(exact)


def test_a_calibration_of_another_graph_is_refused():
    with pytest.raises(ModelError, match="calibrate again"):
        apply_precision(
            network(["plain"], seed=1), "int8", calibration=calibration(network(["plain"]))
        )


def test_a_model_that_gains_nothing_is_refused():
    model = onnx.load_model_from_string(network([]))
    [conv] = [node for node in model.graph.node if node.op_type == "Conv"]
    for tensor in model.graph.initializer:  # 4 channels: too narrow
        if tensor.name in conv.input:
            array = onnx.numpy_helper.to_array(tensor)[:4]
            tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))
        elif list(tensor.dims) == [10, 16]:
            array = onnx.numpy_helper.to_array(tensor)[:, :4]
            tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))
    graph = model.SerializeToString()
    found = calibrate(graph, [photographs(40)], method="minmax", threads=1)
    with pytest.raises(ModelError, match=r"no layer of the model gains from int8"):
        apply_precision(graph, "int8", calibration=found, target="tensorrt-8")
