from __future__ import annotations

import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from engines.errors import InferenceError, ModelError
from engines.onnx_runtime import OnnxRuntimeClassifier, processor_name
from engines.ort_session import available_cores
from tests.engines.classifier_contract import BATCH_SIZE, SLOTS, ClassifierContract
from tests.models.tiny import Tiny, loaded, spec_for

IMAGES = np.random.default_rng(0).integers(0, 256, (4, 4, 6, 3), np.uint8)


class TestOnnxRuntime(ClassifierContract):
    def make_classifier(self, model, batch_size, slots, **fetch):
        return OnnxRuntimeClassifier(model, batch_size=batch_size, slots=slots, **fetch)


def infer(classifier, images):
    slot = classifier.acquire()
    slot.images[: len(images)] = images
    classifier.submit(slot, len(images))
    return classifier.collect()


def failing_model():
    """A graph in the wrapped form that fails where an image's first pixel is red: Gather at 255."""
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["images"], ["integers"], to=TensorProto.INT64),
            helper.make_node("ReduceMax", ["integers"], ["index"], axes=[1, 2, 3], keepdims=0),
            helper.make_node("Gather", ["table", "index"], ["scores"]),
            helper.make_node("Cast", ["scores"], ["label_ids"], to=TensorProto.INT32),
        ],
        "failing",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["batch", 4, 6, 3])],
        [
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", 2]),
            helper.make_tensor_value_info("label_ids", TensorProto.INT32, ["batch", 2]),
        ],
        [onnx.numpy_helper.from_array(np.zeros((255, 2), np.float32), "table")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def with_graph(graph):
    return replace(loaded(Tiny()), graph=graph)


def test_a_failed_batch_raises_once_and_leaves_the_ring_usable():
    model = with_graph(failing_model().SerializeToString())
    good, bad = np.zeros_like(IMAGES), np.full_like(IMAGES, 255)
    with OnnxRuntimeClassifier(model, batch_size=4, slots=2) as classifier:
        for _ in range(3):
            first, second = classifier.acquire(), classifier.acquire()
            first.images[:], second.images[:] = bad, good
            classifier.submit(first, 3)
            classifier.submit(second, 4)
            with pytest.raises(InferenceError, match=r"images \[3, 4, 6, 3\]: .*Gather") as caught:
                classifier.collect()
            assert "\n" not in str(caught.value)
            assert classifier.collect().scores.shape == (4, 2)


@pytest.mark.parametrize("declared", [1, 5, 12])
@pytest.mark.parametrize("logits", [True, False])
def test_another_number_of_scores_than_declared_is_a_model_error(declared, logits):
    """Labels would be missing, or be of other classes."""
    proto = onnx.ModelProto.FromString(loaded(Tiny()).graph)
    given = next(value for value in proto.graph.output if value.name == "logits")
    given.type.tensor_type.shape.dim[1].dim_value = declared
    names = tuple(map(str, range(declared)))
    model = replace(with_graph(proto.SerializeToString()), labels=names)
    with (
        OnnxRuntimeClassifier(model, batch_size=4, logits=logits) as classifier,
        pytest.raises(ModelError, match=f"declares {declared} scores for an image and gives 7"),
    ):
        infer(classifier, IMAGES)


def test_scores_that_cannot_be_flattened_as_declared_are_a_model_error():
    proto = onnx.ModelProto.FromString(loaded(Tiny(trailing=True)).graph)
    [shape] = [t for t in proto.graph.initializer if t.name == "nightshift/flatten/constant_0"]
    shape.CopyFrom(onnx.numpy_helper.from_array(np.array([-1, 12]), shape.name))
    model = replace(with_graph(proto.SerializeToString()), labels=tuple("abcdefghijkl"))
    with (
        OnnxRuntimeClassifier(model, batch_size=4) as classifier,
        pytest.raises(ModelError, match="does not give the 12 scores for an image"),
    ):
        infer(classifier, IMAGES)


def test_the_number_of_scores_is_proved_without_fetching_more():
    with OnnxRuntimeClassifier(loaded(Tiny()), batch_size=4) as classifier:
        first, second = infer(classifier, IMAGES), infer(classifier, IMAGES)
    assert first.logits is None
    np.testing.assert_array_equal(first.scores, second.scores)


def test_a_graph_that_onnx_runtime_does_not_know_is_a_model_error():
    proto = failing_model()
    proto.graph.node[0].op_type = "Mystery"
    with pytest.raises(ModelError, match=r"ONNX Runtime \d.*does not accept the model: .*Mystery"):
        OnnxRuntimeClassifier(with_graph(proto.SerializeToString()), batch_size=1)
    with pytest.raises(ModelError, match="does not accept the model"):
        OnnxRuntimeClassifier(with_graph(b"no model"), batch_size=1)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("classes", [7, 1000])
def test_outputs_that_are_no_numbers_pass_as_such(value, classes):
    bias = [0.0] * classes
    bias[3] = value
    tiny = Tiny(classes=classes, bias=tuple(bias))
    with OnnxRuntimeClassifier(loaded(tiny), batch_size=4, logits=True) as classifier:
        predictions = infer(classifier, IMAGES)
    assert ((predictions.label_ids >= 0) & (predictions.label_ids < classes)).all()
    np.testing.assert_array_equal(predictions.logits[:, 3], [value] * 4)
    if value == -np.inf:  # a masked class is no error
        assert np.isfinite(predictions.scores).all()
        assert not (predictions.label_ids == 3).any()
    else:
        assert np.isnan(predictions.scores).all()


def test_a_not_a_number_comes_first_where_others_are_numbers():
    """So that whoever looks at the best score sees it."""
    bias = [float(index) for index in range(1000)]
    bias[500] = np.nan
    model = loaded(Tiny(classes=1000, bias=tuple(bias)), activation="sigmoid")
    with OnnxRuntimeClassifier(model, batch_size=4) as classifier:
        predictions = infer(classifier, IMAGES)
    assert predictions.label_ids[:, 0].tolist() == [500] * 4
    assert np.isnan(predictions.scores[:, 0]).all()


def test_the_same_batch_gives_the_same_bits_whatever_the_slot():
    with OnnxRuntimeClassifier(loaded(Tiny()), batch_size=4, logits=True) as classifier:
        runs = [infer(classifier, IMAGES).logits.tobytes() for _ in range(2 * SLOTS)]
    assert len(set(runs)) == 1


def test_pixels_are_read_where_they_lie_when_they_are_collected():
    """No copy at submit: what is written late is what is inferred, hence the protocol's rule."""
    with OnnxRuntimeClassifier(loaded(Tiny()), batch_size=4) as classifier:
        expected = infer(classifier, IMAGES)
        slot = classifier.acquire()
        classifier.submit(slot, 4)
        slot.images[:] = IMAGES
        np.testing.assert_array_equal(classifier.collect().scores, expected.scores)


def test_other_threads_run_while_a_batch_is_computed():
    """The interpreter's lock is free during inference, or decoders would stand still."""
    tiny = Tiny(size=(384, 384), fixed_size=False)
    model = loaded(tiny, spec=spec_for((384, 384)))
    with OnnxRuntimeClassifier(model, batch_size=64, slots=1) as classifier:
        slot = classifier.acquire()
        classifier.submit(slot, 64)
        counting, counts = threading.Event(), []

        def count():
            number = 0
            while not counting.is_set():
                number += 1
            counts.append(number)

        thread = threading.Thread(target=count)
        thread.start()
        classifier.collect()
        counting.set()
        thread.join()
    assert counts[0] > 1000


def test_nothing_grows_from_batch_to_batch():
    tiny = Tiny(size=(64, 64), fixed_size=False)
    model = loaded(tiny, spec=spec_for((64, 64)))
    with OnnxRuntimeClassifier(model, batch_size=16) as classifier:
        image = np.zeros((16, 64, 64, 3), np.uint8)
        # The allocator keeps one arrangement for each batch size that it has seen.
        for number in range(160):
            infer(classifier, image[: 1 + number % 16])
        before = resident_bytes()
        for number in range(640):
            infer(classifier, image[: 1 + number % 16])
        assert resident_bytes() - before < 1 << 20


def resident_bytes():
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


def test_nothing_is_printed(tmp_path):
    """ONNX Runtime warns of initializers, devices and the like on stderr of its own accord."""
    model = loaded(Tiny(final="Softmax"), activation="none")
    (tmp_path / "graph").write_bytes(model.graph)
    code = (
        "import sys, numpy as np; from engines.ort_session import Session;"
        "s = Session(open(sys.argv[1], 'rb').read(), threads=2);"
        "s.run(['scores'], {'images': np.zeros((2, 4, 6, 3), np.uint8)})"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "graph"], capture_output=True, check=True
    )
    assert (done.stdout, done.stderr) == (b"", b"")


@pytest.mark.parametrize(("batch_size", "slots"), [(0, 3), (1, 0), (-1, 1)])
def test_an_empty_ring_is_a_programming_error(batch_size, slots):
    with pytest.raises(ValueError, match="expected 1 or more"):
        OnnxRuntimeClassifier(loaded(Tiny()), batch_size=batch_size, slots=slots)


def test_threads_do_not_change_the_results():
    results = []
    for threads in (1, 2, 5):
        with OnnxRuntimeClassifier(loaded(Tiny()), batch_size=4, threads=threads) as classifier:
            results.append(infer(classifier, IMAGES).scores)
    np.testing.assert_allclose(results[1], results[0], atol=1e-6)
    np.testing.assert_allclose(results[2], results[0], atol=1e-6)


def test_the_record_says_what_ran():
    with OnnxRuntimeClassifier(loaded(Tiny()), batch_size=BATCH_SIZE) as classifier:
        info = classifier.info
    assert (info.backend, info.precision, info.engine_key) == ("onnxruntime", "fp32", None)
    assert info.device == processor_name() != ""
    assert info.versions["onnxruntime"].count(".") == 2
    assert available_cores() >= 1
