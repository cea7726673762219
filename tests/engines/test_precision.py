from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from engines.errors import BackendUnavailableError, ModelError
from engines.precision import apply_precision, precision_recipe
from engines.quantize.calibrate import calibrate
from tests.engines.quantize.networks import network, photographs
from tests.engines.wrapped_graphs import FLOAT, images, wrapped_cnn


def run(graph: bytes, batch: np.ndarray) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    return session.run(None, {"images": batch})


def types(graph: bytes) -> dict[str, int]:
    model = onnx.load_model_from_string(graph)
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True)
    return {
        info.name: info.type.tensor_type.elem_type
        for info in (*inferred.graph.value_info, *inferred.graph.output, *inferred.graph.input)
    }


def test_fp32_leaves_the_graph_as_it_is():
    graph = wrapped_cnn()
    assert apply_precision(graph, "fp32") is graph


def test_fp16_gives_almost_the_same_logits_and_the_same_interface():
    graph = wrapped_cnn(logits=True)
    batch = images(9)
    scores, ids, logits = run(graph, batch)
    half_scores, half_ids, half_logits = run(apply_precision(graph, "fp16"), batch)
    assert half_scores.dtype == scores.dtype == np.float32
    assert half_ids.dtype == ids.dtype == np.int32
    assert half_logits.dtype == np.float32
    assert 0 < np.abs(logits - half_logits).max() < 5e-3
    np.testing.assert_allclose(half_scores, scores, atol=2e-3)
    np.testing.assert_array_equal(half_ids[:, 0], ids[:, 0])


def test_the_model_is_fp16_and_the_nodes_around_it_are_fp32():
    half = apply_precision(wrapped_cnn(), "fp16")
    model = onnx.load_model_from_string(half)
    elem = types(half)
    weights = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    for node in model.graph.node:
        wanted = TensorProto.FLOAT if node.name.startswith("nightshift/") else TensorProto.FLOAT16
        if node.op_type in {"Conv", "Gemm", "Add", "Clip", "Sub", "Mul", "Softmax"}:
            read = [(elem | weights)[name] for name in node.input]
            assert read == [wanted] * len(read), node.name


def test_scores_never_pass_through_fp16():
    """What the naive conversion does: a detour between Softmax and TopK, or before the output."""
    half = apply_precision(wrapped_cnn(), "fp16")
    graph = onnx.load_model_from_string(half).graph
    maker = {name: node for node in graph.node for name in node.output}
    topk = maker["scores"]
    assert topk.op_type == "TopK"
    assert maker[topk.input[0]].op_type == "Softmax"
    scores = run(half, images(50))[0]
    assert not np.array_equal(scores, scores.astype(np.float16).astype(np.float32))


def test_uint8_feeds_a_cast_directly_and_the_order_is_topological():
    graph = onnx.load_model_from_string(apply_precision(wrapped_cnn(), "fp16")).graph
    assert [node.op_type for node in graph.node if "images" in node.input] == ["Cast"]
    known = {"images", ""} | {tensor.name for tensor in graph.initializer}
    for node in graph.node:
        assert set(node.input) <= known
        known |= set(node.output)


def test_a_dynamic_image_size_is_kept():
    half = apply_precision(wrapped_cnn(height="height", width="width"), "fp16")
    for size in (16, 24):
        assert run(half, images(3, size, size + 8))[0].shape == (3, 5)


def test_conversion_is_deterministic():
    assert apply_precision(wrapped_cnn(), "fp16") == apply_precision(wrapped_cnn(), "fp16")


def test_a_model_that_was_exported_in_fp16_is_left_as_it_is():
    half = apply_precision(wrapped_cnn(), "fp16")
    assert apply_precision(half, "fp16") is half


@pytest.mark.parametrize("weight", [65_505.0, -1e9])
def test_a_weight_that_fp16_cannot_hold_is_refused_by_name(weight):
    with pytest.raises(ModelError, match=r"1 of the 216 values of 'conv1'.*--precision fp32"):
        apply_precision(wrapped_cnn(largest_weight=weight), "fp16")


def test_the_largest_fp16_weight_is_kept():
    graph = onnx.load_model_from_string(
        apply_precision(wrapped_cnn(largest_weight=65_504.0), "fp16")
    ).graph
    weights = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    assert weights["conv1"].dtype == np.float16
    assert weights["conv1"].max() == 65_504


def test_a_weight_that_is_shared_with_the_wrapping_nodes_stays_fp32_for_them():
    model = onnx.load_model_from_string(wrapped_cnn())
    mul = next(node for node in model.graph.node if node.name == "nightshift/mul")
    mul.input[1] = "low"
    whole = model.SerializeToString()
    half = apply_precision(whole, "fp16")
    np.testing.assert_array_equal(run(half, images(2))[0], run(whole, images(2))[0])


def test_branches_inside_the_model_are_converted():
    model = onnx.load_model_from_string(wrapped_cnn())
    graph = model.graph
    fc = next(node for node in graph.node if node.name == "fc")
    fc.output[0] = "fc_out"

    def branch(name: str, factor: float) -> onnx.GraphProto:
        return helper.make_graph(
            [
                helper.make_node(
                    "Constant", [], [f"{name}.f"], value=helper.make_tensor("", FLOAT, [], [factor])
                ),
                helper.make_node("Mul", ["fc_out", f"{name}.f"], [f"{name}.out"]),
            ],
            name,
            [],
            [helper.make_tensor_value_info(f"{name}.out", FLOAT, None)],
        )

    graph.initializer.append(helper.make_tensor("yes", TensorProto.BOOL, [], [True]))
    at = list(graph.node).index(fc) + 1
    graph.node.insert(
        at,
        helper.make_node(
            "If",
            ["yes"],
            ["logits"],
            "if",
            then_branch=branch("then", 2.0),
            else_branch=branch("else", 1.0),
        ),
    )
    whole = model.SerializeToString()
    np.testing.assert_allclose(
        run(apply_precision(whole, "fp16"), images(2))[0], run(whole, images(2))[0], atol=5e-3
    )


def test_a_tensor_of_unknown_dtype_at_the_border_is_reported():
    model = onnx.load_model_from_string(wrapped_cnn())
    fc = next(node for node in model.graph.node if node.name == "fc")
    fc.domain, fc.op_type = "com.example", "Mystery"
    model.opset_import.append(helper.make_opsetid("com.example", 1))
    with pytest.raises(ModelError, match=r"dtype of tensor 'logits'"):
        apply_precision(model.SerializeToString(), "fp16")


def test_recipes_are_named_with_their_version():
    assert precision_recipe("fp16").startswith("fp16/")
    with pytest.raises(ValueError, match=r"'int4': expected one of fp32, fp16"):
        apply_precision(b"", "int4")


def test_bf16_has_the_structure_of_fp16_and_the_values_of_fp32():
    graph = wrapped_cnn(largest_weight=1e9)  # which fp16 refuses
    bf16 = onnx.load_model_from_string(apply_precision(graph, "bf16", target="tensorrt-10"))
    onnx.checker.check_model(bf16, full_check=True)
    weights = {tensor.name: tensor for tensor in bf16.graph.initializer}
    originals = {
        tensor.name: onnx.numpy_helper.to_array(tensor)
        for tensor in onnx.load_model_from_string(graph).graph.initializer
    }
    for name in ("conv1", "conv2", "fc"):
        assert weights[name].data_type == TensorProto.BFLOAT16
        values = onnx.numpy_helper.to_array(weights[name]).astype(np.float32)
        np.testing.assert_allclose(values, originals[name], rtol=2**-8)
    assert TensorProto.FLOAT16 not in {tensor.data_type for tensor in weights.values()}
    elem = types(bf16.SerializeToString())
    assert elem["scores"] == FLOAT
    assert elem["images"] == TensorProto.UINT8
    for node in bf16.graph.node:
        if node.op_type in {"Softmax", "TopK"}:
            assert elem[node.input[0]] == FLOAT


@pytest.mark.parametrize("target", ["tensorrt-8", "onnxruntime"])
def test_bf16_is_refused_where_it_cannot_be_computed(target):
    with pytest.raises(BackendUnavailableError, match="bf16 needs TensorRT 10"):
        apply_precision(wrapped_cnn(), "bf16", target=target)


def test_int8_needs_a_calibration():
    with pytest.raises(ModelError, match="--calibration-images"):
        apply_precision(network(["plain"]), "int8")


def test_int8_starts_from_fp32():
    graph = network(["plain"])
    half = apply_precision(graph, "fp16")
    ranges = calibrate(graph, [photographs(32)], method="minmax", threads=1)
    with pytest.raises(ModelError, match="exported in half precision"):
        apply_precision(half, "int8", calibration=ranges)


@pytest.mark.parametrize("precision", ["fp16", "bf16", "int8"])
def test_a_model_that_came_quantized_is_left_as_it_is(precision):
    graph = network(["plain"])
    ranges = calibrate(graph, [photographs(32)], method="minmax", threads=1)
    quantized = apply_precision(graph, "int8", calibration=ranges)
    assert apply_precision(quantized, precision) is quantized


def test_a_model_of_an_older_opset_is_converted_for_int8():
    model = onnx.load_model_from_string(network(["plain"]))
    model.opset_import[0].version = 12  # all of its nodes mean the same there
    older = model.SerializeToString()
    ranges = calibrate(older, [photographs(32)], method="minmax", threads=1)
    rewritten = apply_precision(older, "int8", calibration=ranges, target="onnxruntime")
    assert onnx.load_model_from_string(rewritten).opset_import[0].version == 13
    batch = photographs(4, seed=1)
    np.testing.assert_allclose(run(rewritten, batch)[2], run(older, batch)[2], atol=1)
