from __future__ import annotations

from itertools import product

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from engines.graph import inspect
from engines.ort_session import Session
from engines.wrap import PREFIX, columns, wrap
from tests.models.tiny import IR_VERSIONS, Tiny, normalise, spec_for

IMAGES = np.random.default_rng(1).integers(0, 256, (5, 4, 6, 3), np.uint8)


def run(model, feeds, outputs=("label_ids", "scores", "logits")):
    session = Session(model.SerializeToString(), threads=1)
    return session.run(outputs, feeds)


def wrapped(tiny, spec, *, activation="softmax", top_k=5, proto=None):
    model = tiny.proto() if proto is None else proto
    wrap(
        model,
        inspect(model),
        spec,
        classes=tiny.classes,
        activation=activation,
        top_k=top_k,
    )
    return model


def unwrapped_logits(tiny, spec, images):
    """The model as it came, fed what NumPy makes of the images."""
    if tiny.dtype == "uint8":
        inputs = images if spec.channel_order == "rgb" else images[..., ::-1]
        inputs = inputs.transpose(0, 3, 1, 2)
    else:
        inputs = normalise(images, spec).astype(np.float32).astype(tiny.dtype)
    if tiny.layout == "nhwc":
        inputs = inputs.transpose(0, 2, 3, 1)
    feeds = {tiny.input_name: np.ascontiguousarray(inputs)}
    [logits] = run(tiny.proto(), feeds, [tiny.output_name])
    return logits.reshape(len(images), tiny.classes).astype(np.float32)


@pytest.mark.parametrize(
    ("layout", "dtype", "order", "fixed"),
    list(product(["nchw", "nhwc"], ["float32", "float16", "uint8"], ["rgb", "bgr"], [True, False])),
)
def test_equals_the_model_on_images_prepared_by_numpy(layout, dtype, order, fixed):
    tiny = Tiny(layout=layout, dtype=dtype, fixed_size=fixed)
    spec = spec_for(tiny.size, channel_order=order)
    # ONNX Runtime's CPU kernels skip some of the roundings to float16.
    tolerance = 4e-3 if dtype == "float16" else 1e-6
    label_ids, scores, logits = run(wrapped(tiny, spec), {"images": IMAGES})
    expected = unwrapped_logits(tiny, spec, IMAGES)
    scale = max(1, np.abs(expected).max())
    np.testing.assert_allclose(logits, expected, atol=tolerance * scale, rtol=0)
    powers = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    probabilities = powers / powers.sum(axis=1, keepdims=True)
    order = np.argsort(-logits, axis=1, kind="stable")[:, :5]
    np.testing.assert_array_equal(label_ids, order)
    expected_scores = np.take_along_axis(probabilities, order, axis=1)
    np.testing.assert_allclose(scores, expected_scores, atol=1e-6)


def test_float16_input_is_rounded_once_and_last():
    tiny = Tiny(dtype="float16")
    spec = spec_for(tiny.size)
    subtract, multiply = (np.array(values, np.float32) for values in spec.affine())
    inputs = (IMAGES.astype(np.float32) - subtract) * multiply
    inputs = np.ascontiguousarray(inputs.astype(np.float16).transpose(0, 3, 1, 2))
    # ONNX's reference implementation, since ONNX Runtime skips roundings to float16 on the CPU.
    evaluator = ReferenceEvaluator(wrapped(tiny, spec))
    given = evaluator.run(None, {"images": IMAGES}, intermediate=True)["x"]
    assert given.dtype == np.float16
    np.testing.assert_array_equal(given, inputs)


@pytest.mark.parametrize("opset", sorted(IR_VERSIONS))
def test_works_on_every_opset_and_keeps_it_and_the_ir_version(opset):
    tiny = Tiny(opset=opset, trailing=True)
    spec = spec_for(tiny.size)
    model = wrapped(tiny, spec)
    onnx.checker.check_model(model, full_check=True)
    assert model.opset_import[0].version == opset
    assert model.ir_version == IR_VERSIONS[opset]
    _, scores, logits = run(model, {"images": IMAGES})
    np.testing.assert_allclose(logits, unwrapped_logits(tiny, spec, IMAGES), atol=1e-5)
    assert scores.shape == (5, 5)


def test_the_newest_opset_of_the_installed_onnx_can_be_wrapped():
    model = Tiny().proto()
    model.opset_import[0].version = onnx.defs.onnx_opset_version()
    model.ir_version = onnx.IR_VERSION
    onnx.checker.check_model(wrapped(Tiny(), spec_for((4, 6)), proto=model), full_check=True)


def test_states_its_inputs_and_outputs():
    model = wrapped(Tiny(fixed_size=False), spec_for((4, 6)), top_k=3)
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)

    def described(value):
        tensor = value.type.tensor_type
        sizes = [d.dim_param or d.dim_value for d in tensor.shape.dim]
        return value.name, tensor.elem_type, sizes

    assert [described(v) for v in inferred.graph.input] == [
        ("images", TensorProto.UINT8, ["batch", 4, 6, 3])
    ]
    assert [described(v) for v in inferred.graph.output] == [
        ("scores", TensorProto.FLOAT, ["batch", 3]),
        ("label_ids", TensorProto.INT32, ["batch", 3]),
        ("logits", TensorProto.FLOAT, ["batch", 7]),
    ]


def test_pixels_feed_a_cast_and_nothing_else_reads_uint8():
    for layout, dtype in product(["nchw", "nhwc"], ["float32", "float16"]):
        model = wrapped(Tiny(layout=layout, dtype=dtype), spec_for((4, 6)))
        [reader] = [node for node in model.graph.node if "images" in node.input]
        assert (reader.op_type, reader.name) == ("Cast", "nightshift/cast")
        assert reader.attribute[0].i == TensorProto.FLOAT


def test_our_nodes_are_named_and_the_models_keep_their_names():
    proto = Tiny(layout="nhwc").proto()
    for index, node in enumerate(proto.graph.node):
        node.name = "" if index == 0 else "twice"
    model = wrapped(Tiny(layout="nhwc"), spec_for((4, 6)), proto=proto)
    names = [node.name for node in model.graph.node]
    assert len(set(names)) == len(names)
    assert [name for name in names if name.startswith(PREFIX)] == [
        "nightshift/cast",
        "nightshift/subtract",
        "nightshift/multiply",
        "nightshift/cast_output",
        "nightshift/softmax",
        "nightshift/top_k",
        "nightshift/cast_indices",
    ]
    assert names.count("twice") == 1
    ours = [name for name in (t.name for t in model.graph.initializer) if name.startswith(PREFIX)]
    assert len(ours) == 3


@pytest.mark.parametrize(
    ("input_name", "output_name"),
    [
        ("images", "scores"),
        ("logits", "images"),
        ("scores", "label_ids"),
        ("model/images", "images"),
    ],
)
def test_a_models_own_names_may_be_ours(input_name, output_name):
    tiny = Tiny(input_name=input_name, output_name=output_name)
    spec = spec_for(tiny.size)
    model = wrapped(tiny, spec)
    onnx.checker.check_model(model, full_check=True)
    _, _, logits = run(model, {"images": IMAGES})
    np.testing.assert_allclose(logits, unwrapped_logits(tiny, spec, IMAGES), atol=1e-5)


def test_names_are_changed_in_subgraphs_too():
    tiny = Tiny(input_name="images")
    proto = tiny.proto()
    branch = helper.make_graph(
        [helper.make_node("Abs", ["images"], ["absolute"])],
        "branch",
        [],
        [helper.make_tensor_value_info("absolute", TensorProto.FLOAT, None)],
    )
    condition = onnx.numpy_helper.from_array(np.array(True), "condition")
    choose = helper.make_node(
        "If", ["condition"], ["chosen"], then_branch=branch, else_branch=branch
    )
    proto.graph.initializer.append(condition)
    proto.graph.node[0].input[0] = "chosen"
    proto.graph.node.insert(0, choose)
    spec = spec_for(tiny.size)
    [logits] = run(wrapped(tiny, spec, proto=proto), {"images": IMAGES}, ["logits"])
    expected = tiny.logits(np.abs(normalise(IMAGES, spec)))
    np.testing.assert_allclose(logits, expected, atol=1e-5)


def test_uint8_that_not_only_casts_read_is_cast_back():
    graph = helper.make_graph(
        [
            helper.make_node("Max", ["x", "x"], ["same"]),
            helper.make_node("Cast", ["same"], ["floats"], to=TensorProto.FLOAT),
            helper.make_node("GlobalAveragePool", ["floats"], ["logits"]),
        ],
        "bytes",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, ["n", 3, 4, 6])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 3, 1, 1])],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    model = wrapped(Tiny(classes=3), spec_for((4, 6)), proto=proto)
    _, _, logits = run(model, {"images": IMAGES})
    np.testing.assert_allclose(logits, IMAGES.mean(axis=(1, 2)), rtol=1e-6)


def test_weights_that_old_exporters_list_as_inputs_become_constants():
    tiny = Tiny(opset=11)
    proto = tiny.proto()
    proto.ir_version = 3
    for tensor in proto.graph.initializer:
        proto.graph.input.append(
            helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
        )
    onnx.checker.check_model(proto)
    model = wrapped(tiny, spec_for(tiny.size), proto=proto)
    onnx.checker.check_model(model)
    assert [value.name for value in model.graph.input] == ["images"]
    assert model.ir_version == 4


@pytest.mark.parametrize("activation", ["softmax", "sigmoid", "none"])
def test_activations(activation):
    tiny = Tiny()
    _, scores, logits = run(
        wrapped(tiny, spec_for(tiny.size), activation=activation, top_k=7), {"images": IMAGES}
    )
    values = logits.astype(np.float64)
    expected = {
        "softmax": np.exp(values) / np.exp(values).sum(axis=1, keepdims=True),
        "sigmoid": 1 / (1 + np.exp(-values)),
        "none": values,
    }[activation]
    np.testing.assert_allclose(scores, -np.sort(-expected, axis=1), atol=1e-6)


def test_softmax_is_computed_in_float32_where_the_model_is_float16():
    # exp(12) is beyond float16.
    tiny = Tiny(dtype="float16", bias=(12.0, 11.0, 0.0, 0.0, 0.0, 0.0, 0.0))
    _, scores, _ = run(wrapped(tiny, spec_for(tiny.size)), {"images": IMAGES[:1]})
    powers = np.exp(np.array([12.0, 11, 0, 0, 0, 0, 0]) - 12)
    np.testing.assert_allclose(scores[0, :2], (powers / powers.sum())[:2], rtol=1e-6)


def test_equal_scores_come_in_order_of_label_id_at_any_k():
    rng = np.random.default_rng(3)
    bias = tuple(float(value) for value in rng.integers(0, 3, 500))
    expected = np.argsort(-np.array(bias), kind="stable")
    for top_k in (2, 5, 100, 499, 500):
        tiny = Tiny(classes=500, bias=bias)
        model = wrapped(tiny, spec_for(tiny.size), top_k=top_k)
        label_ids, _, _ = run(model, {"images": IMAGES[:2]})
        np.testing.assert_array_equal(label_ids, [expected[:top_k]] * 2)


def test_columns():
    assert [columns(*args) for args in [(1, 1), (5, 1), (1, 2), (1, 9), (5, 9), (9, 9)]] == [
        *(1, 1, 2, 2, 5, 9),
    ]
