from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest

from engines.check import Check, worst
from engines.classifier import BackendInfo, Predictions
from engines.onnx_runtime import OnnxRuntimeClassifier
from engines.self_test import self_test
from tests.models import digits
from tests.models.tiny import Tiny, loaded


def check(model, own=None, batch_size=64, graph=None):
    """The results by name, of the model on ONNX Runtime; `graph` runs instead of the model's."""
    served = model if graph is None else replace(model, graph=graph)
    with OnnxRuntimeClassifier(served, batch_size=batch_size, logits=True) as classifier:
        return {found.name: found for found in self_test(classifier, model, own)}


def statuses(results):
    return {name: found.status for name, found in results.items()}


ALL = {"classes", "finite scores", "images differ", "batch of 1", "activation", "size of logits"}


class TestSoundModels:
    @pytest.mark.parametrize("batch_size", [1, 2, 7, 64])
    def test_pass_whatever_the_batch(self, batch_size):
        results = check(digits.right_model(), digits.some(3)[0], batch_size=batch_size)
        assert results.keys() == ALL
        expected = dict.fromkeys(ALL, "passed")
        if batch_size == 1:
            expected["batch of 1"] = "skipped"
        assert statuses(results) == expected
        assert all(found.advice == "" for found in results.values())

    def test_pass_without_images_of_the_users(self):
        assert worst(check(digits.right_model()).values()) == "passed"

    @pytest.mark.parametrize("label", range(10))
    def test_pass_where_all_first_images_are_of_one_class(self, label):
        assert worst(check(digits.right_model(), digits.some(3, label)[0]).values()) == "passed"

    def test_pass_where_all_first_images_are_the_same(self):
        own = np.repeat(digits.some(1)[0], 3, axis=0)
        assert worst(check(digits.right_model(), own).values()) == "passed"

    def test_pass_where_the_graph_scales_by_itself(self):
        assert worst(check(digits.model_with(scaling_inside=True)).values()) == "passed"

    @pytest.mark.parametrize(
        ("final", "activation"), [("Softmax", "none"), ("LogSoftmax", "softmax"), (None, "sigmoid")]
    )
    def test_pass_with_any_activation(self, final, activation):
        model = loaded(Tiny(final=final, size=(16, 16)), activation=activation)
        assert worst(check(model).values()) == "passed"

    def test_of_saturated_softmaxes_pass(self):
        """Scores of exactly 1 for every image, but of different classes."""
        model = loaded(Tiny(final="Softmax", size=(16, 16)), activation="none")
        graph = onnx.ModelProto.FromString(model.graph)
        scale = next(
            t for t in graph.graph.initializer if t.name == "nightshift/multiply/constant_0"
        )
        scale.CopyFrom(
            onnx.numpy_helper.from_array(np.full((3, 1, 1), 1e3, np.float32), scale.name)
        )
        assert worst(check(replace(model, graph=graph.SerializeToString())).values()) == "passed"

    @pytest.mark.parametrize("activation", ["softmax", "none"])
    def test_whose_masked_classes_are_minus_infinity_pass(self, activation):
        weights = loaded(Tiny(size=(16, 16)), activation=activation, top_k=7)
        weights = replace(weights, sources={"activation": "--activation"})
        graph = onnx.ModelProto.FromString(weights.graph)
        bias = next(t for t in graph.graph.initializer if t.name == "bias")
        values = onnx.numpy_helper.to_array(bias).copy()
        values[2] = -np.inf
        bias.CopyFrom(onnx.numpy_helper.from_array(values, "bias"))
        assert worst(check(replace(weights, graph=graph.SerializeToString())).values()) == "passed"

    def test_of_one_class_pass(self):
        assert (
            worst(check(loaded(Tiny(classes=1, size=(16, 16)), activation="sigmoid")).values())
            == "passed"
        )


class TestPixelRange:
    def test_of_0_to_1_for_a_graph_that_scales_by_itself_is_refused(self):
        """formats.md's trap: flat outputs, and every metric is fine."""
        found = check(digits.model_with(scaling_inside=True, scale=1 / 255))["images differ"]
        assert found.status == "failed"
        assert "with pixels of 0 to 255" in found.measured
        assert "--pixel-range 0-255 --mean 0 0 0 --std 1 1 1" in found.advice

    @pytest.mark.parametrize(
        "device",
        [
            {"scale": 2 / 255, "offset": -1.0},
            {"scale": 1 / 255, "mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)},
        ],
    )
    def test_normalised_already_for_a_graph_that_scales_by_itself_is_told(self, device):
        found = check(digits.model_with(scaling_inside=True, **device))["images differ"]
        assert found.status in ("warning", "failed")
        assert "--pixel-range 0-255" in found.advice

    def test_of_0_to_255_for_minus_1_to_1_has_logits_out_of_all_proportion(self):
        results = check(digits.model_with(scale=1.0))
        assert results["size of logits"].status == "warning"
        assert "pixel range may be too wide" in results["size of logits"].advice

    def test_is_not_blamed_where_no_other_sets_images_apart(self):
        """Weights that were never trained may hardly look at their images: that is no offence."""
        tiny = Tiny(size=(16, 16))
        model = loaded(tiny)
        graph = onnx.ModelProto.FromString(model.graph)
        weight = next(t for t in graph.graph.initializer if t.name == "weight")
        small = onnx.numpy_helper.to_array(weight) * np.float32(1e-5)
        weight.CopyFrom(onnx.numpy_helper.from_array(small, "weight"))
        found = check(replace(model, graph=graph.SerializeToString()))["images differ"]
        assert found.status == "warning"
        assert "no other normalisation" in found.measured

    def test_of_a_uint8_model_is_its_own_affair(self):
        model = loaded(Tiny(dtype="uint8", size=(16, 16)))
        assert check(model)["images differ"].status == "passed"


def test_one_answer_for_all_images_is_refused():
    model = loaded(Tiny(size=(16, 16), bias=(1.0, 2.0, 3.0, 0.0, 0.0, 0.0, 0.0)))
    found = check(model)["images differ"]
    assert (found.status, found.measured) == ("failed", "4 different images get the same answer")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_scores_that_are_no_numbers_for_any_image_are_refused(value):
    results = check(loaded(Tiny(size=(16, 16), bias=(value,) + (0.0,) * 6)))
    assert statuses(results) == {"classes": "passed", "finite scores": "failed"}
    assert "4 of 4 images" in results["finite scores"].measured


class Scripted:
    """A classifier that answers from a table of logits by the brightness of an image."""

    def __init__(self, answer, batch_size=64, precision="fp32"):
        self.answer, self.batch_size = answer, batch_size
        self.info = BackendInfo(backend="x", precision=precision, device="x", versions={})

    def acquire(self):
        self.slot = type("Slot", (), {"images": np.zeros((self.batch_size, 4, 6, 3), np.uint8)})()
        return self.slot

    def submit(self, slot, count):
        self.count = count

    def collect(self):
        logits = self.answer(self.slot.images[: self.count].astype(np.float64))
        logits = np.asarray(logits, np.float32)
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        scores = -np.sort(-powers / powers.sum(axis=1, keepdims=True))[:, :5]
        return Predictions(np.zeros(scores.shape, np.int32), scores, logits)


def brightness(images):
    means = images.mean(axis=(1, 2, 3)) / 255
    return means[:, None] * np.arange(7) * 3 - np.arange(7)[::-1]


def scripted(answer, *, model=None, **classifier):
    results = self_test(Scripted(answer, **classifier), model or loaded(Tiny()))
    return {found.name: found for found in results}


def test_numbers_that_are_none_for_some_images_are_told_with_a_way_out():
    def overflowing(images):
        logits = brightness(images)
        logits[logits.max(axis=1) > 11] = np.nan
        return logits

    bright = scripted(overflowing, precision="fp16")["finite scores"]
    assert bright.status in ("passed", "warning")
    some_nan = scripted(
        lambda images: np.where(np.arange(len(images))[:, None] == 2, np.nan, brightness(images)),
        precision="fp16",
    )
    assert some_nan["finite scores"].status == "warning"
    assert some_nan["finite scores"].measured.startswith("1 of 4 images")
    assert "--precision fp32" in some_nan["finite scores"].advice
    assert some_nan["images differ"].status == "passed"


def test_a_model_that_mixes_the_images_of_a_batch_is_refused():
    def mixing(images):
        logits = brightness(images)
        return logits - logits.mean(axis=0)

    found = scripted(mixing)["batch of 1"]
    assert found.status == "failed"
    assert "--batch-size 1" in found.advice


@pytest.mark.parametrize(
    ("precision", "error", "status"),
    [
        ("fp32", 1e-3, "passed"),
        ("fp32", 2e-2, "failed"),
        ("fp16", 1e-2, "passed"),
        ("fp16", 5e-2, "failed"),
        ("bf16", 5e-2, "passed"),
        ("int8", 5e-2, "passed"),
        ("int8", 0.3, "failed"),
    ],
)
def test_batches_may_differ_as_far_as_the_precision_does(precision, error, status):
    def rounding(images):
        logits = brightness(images)
        return logits * (1 + error * (len(images) == 1))

    assert scripted(rounding, precision=precision)["batch of 1"].status == status


def test_a_wrong_number_of_scores_ends_the_test():
    results = scripted(lambda images: brightness(images)[:, :6])
    assert statuses(results)["classes"] == "failed"
    assert results["classes"].measured == "6 scores for 7 labels"
    assert set(results) == {"classes", "finite scores"}


class TestActivation:
    def test_twice_is_refused(self):
        """As the graph's analysis would have it, were it wrong."""
        model = loaded(Tiny(final="Softmax", size=(16, 16)), activation="softmax")
        found = check(model)["activation"]
        assert found.status == "failed"
        assert found.measured == "softmax, on rows that add up to 1 already"
        assert "--activation none" in found.advice

    def test_twice_is_told_where_the_user_wants_it(self):
        model = loaded(Tiny(final="Softmax", size=(16, 16)), activation="softmax")
        asked = replace(model, sources={"activation": "--activation"})
        assert check(asked)["activation"].status == "warning"

    def test_of_rows_between_0_and_1_is_told(self):
        model = loaded(Tiny(final="Sigmoid", size=(16, 16)), activation="sigmoid")
        assert check(model)["activation"].status == "warning"

    @pytest.mark.parametrize(
        ("tiny", "axis"),
        [
            (Tiny(final="Softmax", size=(16, 16), trailing=True), -1),  # of [batch, classes, 1, 1]
            (Tiny(final="Softmax", size=(16, 16), batch=1), 0),
            (Tiny(final="Softmax", size=(16, 16), classes=1), 1),
        ],
    )
    @pytest.mark.parametrize("source", ["--activation", "the graph ends in Softmax"])
    def test_a_softmax_over_another_axis_than_the_classes_is_refused(self, tiny, axis, source):
        """Every score is 1, and only the number of classes would be left of the images."""
        model = loaded(tiny, activation="none")
        graph = onnx.ModelProto.FromString(model.graph)
        [softmax] = [node for node in graph.graph.node if node.op_type == "Softmax"]
        softmax.attribute[0].i = axis
        sources = {"activation": source}
        wrong = replace(
            model, graph=graph.SerializeToString(), sources=sources, ends_in_softmax=True
        )
        found = check(wrong, batch_size=1)["activation"]
        assert found.status == "failed"
        assert f"the scores of an image add up to {tiny.classes}" in found.measured
        assert "over axis 1, or without it" in found.advice

    @pytest.mark.parametrize("classes", [2, 7, 500])
    def test_a_softmax_over_the_classes_passes(self, classes):
        model = loaded(Tiny(final="Softmax", size=(16, 16), classes=classes), activation="none")
        assert check(replace(model, ends_in_softmax=True))["activation"].status == "passed"

    def test_on_percentages_is_refused(self):
        def percentages(images):
            powers = np.exp(brightness(images))
            return 100 * powers / powers.sum(axis=1, keepdims=True)

        found = scripted(percentages)["activation"]
        assert (found.status, found.measured) == (
            "failed",
            "softmax, on rows that are parts of one whole, as percentages, already",
        )
        asked = replace(loaded(Tiny()), sources={"activation": "--activation"})
        assert scripted(percentages, model=asked)["activation"].status == "warning"

    def test_none_on_logits_is_told_unless_asked_for(self):
        model = loaded(Tiny(size=(16, 16)), activation="none")
        found = check(model)["activation"]
        assert (found.status, "--activation softmax" in found.advice) == ("warning", True)
        asked = replace(model, sources={"activation": "--activation"})
        assert check(asked)["activation"].status == "passed"


def test_the_worst_status_is_what_counts():
    def one(status):
        return Check(name="x", status=status, measured="m", expected="e")

    assert worst([]) == "passed"
    assert worst([one("passed"), one("skipped")]) == "skipped"
    assert worst([one("warning"), one("skipped"), one("passed")]) == "warning"
    assert worst([one("warning"), one("failed")]) == "failed"


def test_a_check_is_a_sentence():
    plain = Check(name="size", status="passed", measured="small", expected="small")
    assert str(plain) == "size: small"
    assert str(replace(plain, advice="Do this")) == "size: small. Do this"
