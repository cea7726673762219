from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from engines.embedding import find_embedding, measure_embedding
from engines.errors import ModelError
from engines.graph import inspect
from engines.onnx_runtime import OnnxRuntimeClassifier
from engines.ort_session import Session
from engines.precision import apply_precision
from engines.wrap import wrap
from tests.engines.test_model import load, write
from tests.models.tiny import Tiny, normalise, position_weights, spec_for

FLOAT = TensorProto.FLOAT
WIDTH, CLASSES = 3, 7
IMAGES = np.random.default_rng(0).integers(0, 256, (4, 4, 6, 3), np.uint8)
RNG = np.random.default_rng(0)
WEIGHTS = {
    "matrix": RNG.standard_normal((WIDTH, CLASSES)),
    "transposed": RNG.standard_normal((CLASSES, WIDTH)),
    "kernel": RNG.standard_normal((CLASSES, WIDTH, 1, 1)),
    "wide_kernel": RNG.standard_normal((CLASSES, WIDTH, 3, 3)),
    "bias": RNG.standard_normal(CLASSES),
    "scale": np.array(2.0),
    "ones": np.ones(CLASSES),
    "two": np.array(2.0),
}
INTEGERS = {"flat_shape": [0, -1], "image_shape": [0, -1, 1, 1], "axes": [2, 3], "first": [0]}
INTEGERS |= {"starts": [1], "ends": [1000], "class_axis": [1]}


def node(op_type, inputs, output, **attributes):
    return helper.make_node(op_type, inputs.split(), [output], **attributes)


def graph(*nodes, batch="batch", shape=(CLASSES,), output="logits", functions=()):
    """Pool to `pooled` [batch, 3, 1, 1] and `flat` [batch, 3]; `nodes` go on from there."""
    body = [
        node("GlobalAveragePool", "x", "pooled"),
        node("Flatten", "pooled", "flat"),
        *nodes,
    ]
    constants = [
        *(numpy_helper.from_array(v.astype(np.float32), name) for name, v in WEIGHTS.items()),
        *(numpy_helper.from_array(np.array(v, np.int64), name) for name, v in INTEGERS.items()),
    ]
    used = {name for each in body for name in each.input}
    made = helper.make_graph(
        body,
        "heads",
        [helper.make_tensor_value_info("x", FLOAT, [batch, 3, 4, 6])],
        [helper.make_tensor_value_info(output, FLOAT, [batch, *shape])],
        [tensor for tensor in constants if tensor.name in used or functions],
    )
    imports = [helper.make_opsetid("", 17), *([helper.make_opsetid("own", 1)] if functions else [])]
    model = helper.make_model(made, opset_imports=imports, ir_version=8, functions=functions)
    onnx.checker.check_model(model)
    return model


HEADS = {
    "gemm": [node("Gemm", "flat transposed bias", "logits", transB=1)],
    "matmul and bias": [node("MatMul", "flat matrix", "m"), node("Add", "bias m", "logits")],
    "transposed weights": [
        node("Transpose", "transposed", "t"),
        node("MatMul", "flat t", "logits"),
    ],
    "scaled": [node("MatMul", "flat matrix", "m"), node("Mul", "m scale", "logits")],
    "softmax": [node("MatMul", "flat matrix", "m"), node("Softmax", "m", "logits", axis=1)],
    "normalised scores": [
        node("MatMul", "flat matrix", "m"),
        node("BatchNormalization", "m ones bias bias ones", "logits"),
    ],
    "sliced": [
        node("MatMul", "flat matrix", "m"),
        node("Slice", "m starts ends class_axis", "logits"),
    ],
    "a computed shape": [
        node("Gemm", "flat matrix", "m"),
        node("Shape", "m", "shape"),
        node("Reshape", "m shape", "logits"),
    ],
}


@pytest.mark.parametrize("head", HEADS)
def test_the_input_of_the_last_layer_is_found(head):
    assert find_embedding(graph(*HEADS[head]), "logits") == "flat"


@pytest.mark.parametrize(
    "tail",
    [
        [node("Flatten", "c", "logits")],
        [node("GlobalAveragePool", "c", "p"), node("Reshape", "p flat_shape", "logits")],
        [node("ReduceMean", "c", "logits", axes=[2, 3], keepdims=0)],
    ],
)
def test_a_pointwise_convolution_is_a_layer(tail):
    assert find_embedding(graph(node("Conv", "pooled kernel bias", "c"), *tail), "logits") == (
        "pooled"
    )


NO_LAYER = {
    "two layers added": (
        [
            node("Gemm", "flat matrix", "a"),
            node("Gemm", "flat matrix", "b"),
            node("Add", "a b", "logits"),
        ],
        "Add logits, of 2 computed tensors",
    ),
    "a product of two tensors": (
        [
            node("Gemm", "flat matrix", "a"),
            node("Reshape", "a image_shape", "i"),
            node("Mul", "a a", "logits"),
        ],
        "Mul logits, of 2 computed tensors",
    ),
    "a wide kernel": (
        [
            node("Conv", "x wide_kernel", "c"),
            node("GlobalAveragePool", "c", "p"),
            node("Flatten", "p", "logits"),
        ],
        "Conv c",
    ),
    "an activation that is not one of scores": (
        [node("Gemm", "flat matrix", "m"), node("Relu", "m", "logits")],
        "Relu logits",
    ),
}


@pytest.mark.parametrize("kind", NO_LAYER)
def test_what_is_no_last_layer_is_refused_with_where_the_search_ended(kind):
    nodes, where = NO_LAYER[kind]
    with pytest.raises(ModelError, match=rf"search from logits .* ended at {where}: give --emb"):
        find_embedding(graph(*nodes), "logits")


def test_a_graph_without_any_layer_ends_at_its_input():
    model = graph(node("Identity", "flat", "logits"), shape=(3,))
    with pytest.raises(ModelError, match="ended at GlobalAveragePool pooled"):
        find_embedding(model, "logits")


def test_a_layer_inside_a_function_is_found():
    layer = helper.make_function(
        "own",
        "Head",
        ["features", "weights"],
        ["scores"],
        [node("Relu", "features", "hidden"), node("MatMul", "hidden weights", "scores")],
        [helper.make_opsetid("", 17)],
    )
    call = helper.make_node("Head", ["flat", "matrix"], ["logits"], domain="own")
    model = graph(call, functions=[layer])
    tensor = find_embedding(model, "logits")
    [maker] = [each for each in model.graph.node if tensor in each.output]
    assert maker.op_type == "Relu"
    assert not model.functions


class TestNames:
    def test_any_tensor_can_be_named(self):
        assert find_embedding(graph(*HEADS["gemm"]), "logits", "pooled") == "pooled"

    def test_an_unknown_one_is_refused_with_the_nearest(self):
        with pytest.raises(ModelError, match=r"--embedding-name flatt: .*its 3, as flat"):
            find_embedding(graph(*HEADS["gemm"]), "logits", "flatt")
        with pytest.raises(ModelError, match=r"its 3, as flat, logits, pooled"):
            find_embedding(graph(*HEADS["gemm"]), "logits", "zzz")


def wrapped(model, tensor, **options):
    info = inspect(model)
    spec = spec_for((4, 6))
    wrap(
        model,
        info,
        spec,
        classes=CLASSES,
        activation="softmax",
        top_k=5,
        embedding=tensor,
        **options,
    )
    return measure_embedding(model, tensor, batch=info.batch, height=4, width=6)


@pytest.mark.parametrize(("tensor", "batch"), [("flat", "n"), ("pooled", "n"), ("flat", 1)])
def test_one_vector_an_image_comes_out_and_its_width_is_stated(tensor, batch):
    model = graph(*HEADS["gemm"], batch=batch)
    assert wrapped(model, tensor).width == WIDTH
    onnx.checker.check_model(model, full_check=True)
    [output] = [value for value in model.graph.output if value.name == "embedding"]
    shape = output.type.tensor_type.shape.dim
    assert (shape[0].dim_param, shape[1].dim_value) == ("batch", WIDTH)
    [found] = Session(model.SerializeToString(), threads=1).run(["embedding"], {"images": IMAGES})
    expected = normalise(IMAGES, spec_for((4, 6))).mean(axis=(2, 3))
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_what_is_no_vector_for_each_image_is_refused_with_its_shape():
    spread = [
        node("Conv", "x kernel", "c"),
        node("GlobalAveragePool", "c", "p"),
        node("Flatten", "p", "logits"),
    ]
    model = graph(*spread)
    tensor = find_embedding(model, "logits", "c")
    with pytest.raises(ModelError, match=r"tensor c is float32 \[2, 7, 4, 6\] for 2 image\(s\)"):
        wrapped(model, tensor)
    assert [value.name for value in model.graph.output][-1] == "embedding"


def test_integers_and_tensors_without_images_are_refused():
    for last, what in (
        (node("Cast", "flat", "z", to=TensorProto.INT64), r"int64 \[2, 3\]"),
        (node("Shape", "flat", "z"), r"int64 \[2\]"),
        (node("ReduceSum", "flat first", "z", keepdims=1), r"float32 \[1, 3\]"),
    ):
        with pytest.raises(ModelError, match=f"tensor z is {what} for 2"):
            wrapped(graph(*HEADS["gemm"], last), "z")


def test_a_name_of_ours_is_found_after_it_was_vacated():
    nodes = [node("Identity", "flat", "embedding"), node("Gemm", "embedding matrix", "logits")]
    model = graph(*nodes)
    assert wrapped(model, find_embedding(model, "logits")).tensor == "embedding"
    found = Session(model.SerializeToString(), threads=1).run(
        ["embedding", "logits"], {"images": IMAGES}
    )
    expected = normalise(IMAGES, spec_for((4, 6))).mean(axis=(2, 3))
    np.testing.assert_allclose(found[0], expected, atol=1e-5)
    np.testing.assert_allclose(found[1], expected @ WEIGHTS["matrix"], atol=1e-5)


def test_it_is_float32_and_kept_when_the_model_becomes_fp16():
    model = graph(*HEADS["gemm"])
    wrapped(model, find_embedding(model, "logits"))
    full = model.SerializeToString()
    half = apply_precision(full, "fp16")
    outputs = [
        Session(each, threads=1).run(["embedding", "scores"], {"images": IMAGES})
        for each in (full, half)
    ]
    assert [values.dtype for values in outputs[1]] == [np.float32, np.float32]
    np.testing.assert_allclose(outputs[1][0], outputs[0][0], atol=5e-3)
    assert np.abs(outputs[1][0] - outputs[0][0]).max() > 0


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_loaded_model_gives_it_to_the_classifier(tmp_path, dtype):
    tiny = Tiny(dtype=dtype)
    model = load(write(tmp_path / "tiny", tiny), save_embedding=True)
    assert model.embedding is not None
    assert model.embedding.width == 3
    assert model.sources["embedding"] == "the input of the last layer"
    with OnnxRuntimeClassifier(model, batch_size=4, embedding=True) as classifier:
        slot = classifier.acquire()
        slot.images[:] = IMAGES
        classifier.submit(slot, 4)
        found = classifier.collect().embedding
    assert found is not None
    assert found.dtype == np.float32
    expected = (normalise(IMAGES, model.spec) * position_weights(tiny.size)).sum(axis=(2, 3))
    np.testing.assert_allclose(found, expected, atol=1e-5 if dtype == "float32" else 1e-2)


def test_it_changes_the_graph_but_not_the_models_identity(tmp_path):
    folder = write(tmp_path / "tiny")
    plain, with_it = load(folder), load(folder, save_embedding=True)
    assert plain.model_id == with_it.model_id
    assert plain.embedding is None
    assert plain.graph != with_it.graph
    named = load(folder, save_embedding=True, embedding_name=with_it.embedding.tensor)
    assert named.sources["embedding"] == "--embedding-name"
    assert named.graph == with_it.graph
