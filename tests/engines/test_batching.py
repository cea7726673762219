from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from engines.batching import free_batch
from engines.errors import ModelError
from engines.graph import inspect
from engines.ort_session import Session
from engines.wrap import IMAGES, LOGITS, wrap
from tests.models.exports import EXPORTS, export, for_batches_of, open_batch, parse
from tests.models.tiny import Tiny, spec_for

SIZE = (8, 8)
IMAGES_8 = np.random.default_rng(1).integers(0, 256, (8, *SIZE, 3), np.uint8)


def wrapped(model, *, any_size=False, size=SIZE):
    info = inspect(model)
    wrap(model, info, spec_for(size), classes=5, activation="none", top_k=5, any_size=any_size)
    return model, info


def logits(model, images):
    session = Session(model.SerializeToString(), threads=1, optimise=False)
    return session.run([LOGITS], {IMAGES: images})[0]


def freed(model, **options):
    model, info = wrapped(model, **options)
    said = free_batch(model, info, *SIZE, **options)
    onnx.checker.check_model(model)
    return model, said


@pytest.mark.parametrize("name", EXPORTS)
def test_what_exporters_write_for_one_image_takes_any_number(name):
    reference, _ = wrapped(export(name))
    expected = np.concatenate([logits(reference, IMAGES_8[i : i + 1]) for i in range(8)])
    assert np.ptp(expected, axis=0).min() > 1e-3  # images differ, so that mixed ones would show
    model, said = freed(export(name))
    assert "rewritten to take any" in said
    for count in (1, 3, 8):
        np.testing.assert_allclose(logits(model, IMAGES_8[:count]), expected[:count], atol=1e-5)


@pytest.mark.parametrize(
    "name",
    [
        "a linear classifier, Reshape [1, -1]",
        "ShuffleNet, channels in groups",
        "ViT of the older exporter, class token by Expand",
        "a map resized to given sizes",
        "attention by Einsum",
    ],
)
def test_what_exporters_write_for_four_images_takes_any_number(name):
    reference, _ = wrapped(for_batches_of(4, name))
    expected = np.concatenate([logits(reference, IMAGES_8[i : i + 4]) for i in (0, 4)])
    model, said = freed(for_batches_of(4, name))
    assert said.startswith("4 in the graph's ")
    for count in (1, 3, 8):
        np.testing.assert_allclose(logits(model, IMAGES_8[:count]), expected[:count], atol=1e-5)


def test_a_batch_that_is_symbolic_in_name_only_is_found_out():
    model, said = freed(open_batch(export("ShuffleNet, channels in groups")))
    assert "rewritten to take any" in said
    assert logits(model, IMAGES_8).shape == (8, 5)


def test_a_graph_that_takes_any_batch_is_not_touched():
    for batch, said in ((1, "1 in the graph, which takes any"), ("n", "symbolic in the graph")):
        model, info = wrapped(Tiny(size=SIZE, classes=5, batch=batch).proto())
        before = model.SerializeToString(deterministic=True)
        assert free_batch(model, info, *SIZE) == said
        assert model.SerializeToString(deterministic=True) == before


def test_open_heights_and_widths_stay_open():
    text = """open (float[1, 3, h, w] x) => (float[1, 5] logits) {
        map = Conv <kernel_shape = [2, 2], strides = [2, 2]> (x, conv)
        target = Constant <value = int64[3] {1, 8, -1}> ()
        flat = Reshape (map, target)
        pooled = ReduceMax <axes = [2], keepdims = 0> (flat)
        logits = Gemm <transB = 1> (pooled, fc, fc_bias)
    }"""
    weights = {"conv": (8, 3, 2, 2), "fc": (5, 8), "fc_bias": (5,)}
    reference, _ = wrapped(parse(text, weights), any_size=True)
    model, said = freed(parse(text, weights), any_size=True)
    assert said.startswith("1 in the graph's Reshape ")
    for side in (8, 12):
        images = np.random.default_rng(2).integers(0, 256, (3, side, side, 3), np.uint8)
        expected = np.concatenate([logits(reference, images[i : i + 1]) for i in range(3)])
        np.testing.assert_allclose(logits(model, images), expected, atol=1e-5)


def test_weights_are_not_taken_for_rows_of_a_batch():
    """Eight filters, and a batch of eight: only what is added row by row is cut to one row."""
    text = """eight (float[8, 3, 8, 8] x) => (float[8, 5] logits) {
        map = Conv <kernel_shape = [8, 8]> (x, conv)
        flat = Flatten <axis = 1> (map)
        placed = Add (flat, rows)
        logits = Gemm <transB = 1> (placed, fc, fc_bias)
    }"""
    weights = {"conv": (8, 3, 8, 8), "rows": (8, 8), "fc": (5, 8), "fc_bias": (5,)}

    def model(equal):
        made = parse(text, weights)
        if equal:
            [rows] = [tensor for tensor in made.graph.initializer if tensor.name == "rows"]
            same = np.repeat(numpy_helper.to_array(rows)[:1], 8, axis=0)
            rows.CopyFrom(numpy_helper.from_array(same, "rows"))
        return made

    expected = logits(wrapped(model(equal=True))[0], IMAGES_8)
    rewritten, said = freed(model(equal=True))
    assert said.startswith("8 in the graph's Add ")
    np.testing.assert_allclose(logits(rewritten, IMAGES_8[:3]), expected[:3], atol=1e-5)
    with pytest.raises(ModelError, match=r"exactly 8, and other batches got other scores"):
        freed(model(equal=False))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            """indices = Constant <value = int64[1, 3, 1] {0, 1, 2}> ()
               zeros = Constant <value = float[1, 3] {0, 0, 0}> ()
               i = Constant <value = int64[1, 1, 2] {0, 1}> ()
               one = Constant <value = float[1, 1] {0}> ()
               pooled = GlobalAveragePool (x)
               flat = Flatten (pooled)
               v = ScatterND <reduction = "none"> (flat, i, one)
               w = Reshape (v, shape)
               logits = MatMul (w, fc)""",
            r"exactly 1, and 2 images at once get other scores",
        ),
        (
            """pooled = GlobalAveragePool (x)
               flat = Reshape (pooled, shape)
               mean = ReduceMean <axes = [0], keepdims = 1> (flat)
               v = Add (flat, mean)
               logits = MatMul (v, fc)""",
            r"it may be ReduceMean /ReduceMean_3 that mixes them.*dynamic_shapes=",
        ),
        (
            """pooled = GlobalAveragePool (x)
               flat = Reshape (pooled, shape)
               again = ConstantOfShape <value = float[1] {1}> (shape)
               rows = Reshape (again, shape)
               z = Concat <axis = 0> (flat, rows)
               zero = Constant <value = int64[1] {0}> ()
               v = Gather <axis = 0> (z, zero)
               logits = MatMul (v, fc)""",
            r"images at once get other scores.*Gather /Gather_\d",
        ),
    ],
)
def test_what_cannot_be_undone_is_refused_with_the_node(body, message):
    text = f"""refused (float[1, 3, 8, 8] x) => (float[1, 5] logits) {{
        shape = Constant <value = int64[2] {{1, 3}}> ()
        {body}
    }}"""
    with pytest.raises(ModelError, match=message):
        freed(parse(text, {"fc": (3, 5)}))


def test_a_node_that_fails_is_named_with_its_reason():
    text = """twice (float[1, 3, 8, 8] x) => (float[1, 5] logits) {
        shape = Constant <value = int64[2] {1, 3}> ()
        pooled = GlobalAveragePool (x)
        flat = Reshape (pooled, shape)
        index = Constant <value = int64[1, 2] {0, 0}> ()
        zero = Constant <value = float[1] {0}> ()
        update = Slice (flat, start, end, axis)
        column = Squeeze (update, axis)
        flat2 = ScatterND (flat, index, column)
        logits = MatMul (flat2, fc)
    }"""
    text = text.replace(
        "update =",
        """start = Constant <value = int64[1] {1}> ()
           end = Constant <value = int64[1] {2}> ()
           axis = Constant <value = int64[1] {1}> ()
           update =""",
    )
    with pytest.raises(ModelError, match=r"do not both run: ScatterND '/ScatterND_\d+' fails: "):
        freed(parse(text, {"fc": (3, 5)}))
