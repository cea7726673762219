from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from engines.alternatives import CANDIDATES, Refeeding, answers_of, clearly_better, spread_of
from engines.onnx_runtime import OnnxRuntimeClassifier
from engines.suitability import check_suitability
from tests.models import digits
from tests.models.tiny import Tiny, loaded, normalise, spec_for

RANGES = {
    "0-255": {"scale": 1.0},
    "0-1": {"scale": 1 / 255},
    "-1-1": {"scale": 2 / 255, "offset": -1.0},
    "imagenet": {"scale": 1 / 255, "mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)},
}


def found(model, images, targets=None):
    checks = check_suitability(model, images, targets or [None] * len(images))
    return {check.name: check for check in checks}


def logits_of(model, images):
    with OnnxRuntimeClassifier(model, batch_size=len(images), slots=1, logits=True) as classifier:
        slot = classifier.acquire()
        slot.images[:] = images
        classifier.submit(slot, len(images))
        return classifier.collect().logits


class TestRefeeding:
    def test_as_configured_is_what_the_classifier_gives(self):
        images, _ = digits.some(40)
        expected = logits_of(digits.right_model(), images)
        given = Refeeding(digits.right_model()).logits(images)
        np.testing.assert_allclose(given, expected, atol=1e-4)

    @pytest.mark.parametrize("order", ["rgb", "bgr"])
    @pytest.mark.parametrize("candidate", CANDIDATES, ids=lambda candidate: candidate.name)
    def test_in_another_way_is_what_a_model_of_that_way_gives(self, candidate, order):
        tiny = Tiny(size=(16, 16))
        model = loaded(tiny, spec=spec_for((16, 16), channel_order=order))
        images = np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3), np.uint8)
        spec = candidate.applied_to(model.spec)
        given = Refeeding(model).logits(images, spec)
        np.testing.assert_allclose(
            given, tiny.logits(normalise(images, spec)), rtol=1e-4, atol=1e-3
        )

    def test_a_uint8_model_can_only_have_its_channels_swapped(self):
        tiny = Tiny(dtype="uint8", size=(16, 16))
        model = loaded(tiny)
        refeeding = Refeeding(model)
        assert not refeeding.normalises
        images = np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3), np.uint8)
        swapped = refeeding.logits(images, spec_for((16, 16), channel_order="bgr"))
        np.testing.assert_allclose(swapped, refeeding.logits(images[..., ::-1]), rtol=1e-5)


class TestTheRightPreprocessing:
    @pytest.mark.parametrize("count", [16, 64, 200])
    def test_passes_on_images_of_all_classes(self, count):
        images, targets = digits.some(count)
        checks = found(digits.right_model(), images, targets)
        assert {name: check.status for name, check in checks.items()} == {
            "pixel range": "passed",
            "channel order": "passed",
            "accuracy": "passed",
        }
        assert f"of {count} images whose folder" in checks["accuracy"].measured

    @pytest.mark.parametrize("label", range(10))
    def test_passes_on_images_of_one_class(self, label):
        images, targets = digits.some(45, label)
        checks = found(digits.right_model(), images, targets)
        assert all(check.status == "passed" for check in checks.values())

    def test_passes_where_the_graph_scales_by_itself(self):
        checks = found(digits.model_with(scaling_inside=True), digits.some()[0])
        assert checks["pixel range"].status == "passed"

    def test_passes_on_images_that_the_model_was_not_made_for(self):
        for seed in range(5):
            rng = np.random.default_rng(seed)
            coarse = rng.integers(0, 256, (64, 4, 4, 3), np.uint8)
            images = coarse.repeat(8, axis=1).repeat(8, axis=2)
            assert found(digits.right_model(), images)["pixel range"].status == "passed"


class TestAWrongPixelRange:
    @pytest.mark.parametrize("name", ["0-255", "0-1"])
    def test_is_told_by_the_information_alone(self, name):
        check = found(digits.model_with(**RANGES[name]), digits.some()[0])["pixel range"]
        assert check.status == "warning"
        assert any(c.flags in check.advice for c in CANDIDATES)

    @pytest.mark.parametrize("name", ["0-1", "-1-1", "imagenet"])
    def test_for_a_graph_that_scales_by_itself_is_told(self, name):
        model = digits.model_with(scaling_inside=True, **RANGES[name])
        check = found(model, digits.some()[0])["pixel range"]
        assert check.status == "warning"
        assert "--pixel-range 0-255" in check.advice

    @pytest.mark.parametrize("name", ["0-255", "0-1"])
    def test_is_told_by_labelled_images(self, name):
        images, targets = digits.some()
        check = found(digits.model_with(**RANGES[name]), images, targets)["accuracy"]
        assert check.status == "warning"
        assert "try --pixel-range" in check.advice

    def test_that_does_no_harm_is_left_alone(self):
        """With ImageNet's mean this model is as accurate as with its own: nothing to see."""
        images, targets = digits.some()
        checks = found(digits.model_with(**RANGES["imagenet"]), images, targets)
        assert {check.status for check in checks.values()} == {"passed"}


class TestSwappedChannels:
    """Six colours, told apart by their means alone."""

    COLOURS = np.array(
        [(210, 40, 40), (40, 40, 210), (40, 170, 60), (210, 170, 40), (40, 170, 210), (160, 60, 40)]
    )

    def model(self, order="rgb"):
        """Scores are the distances to six colours, as a linear layer gives them."""
        tiny = Tiny(size=(8, 8), classes=6)
        spec = spec_for((8, 8), plain=True, channel_order=order)
        model = loaded(tiny, spec=spec)
        graph = onnx.ModelProto.FromString(model.graph)
        values = {
            "weight": 2 * self.COLOURS.T / 500,
            "bias": -(self.COLOURS**2).sum(axis=1) / 500,
        }
        for tensor in graph.graph.initializer:
            if tensor.name in values:
                new = numpy_helper.from_array(values[tensor.name].astype(np.float32), tensor.name)
                tensor.CopyFrom(new)
        return replace(model, graph=graph.SerializeToString())

    def images(self, count=48):
        rng = np.random.default_rng(0)
        targets = rng.integers(0, 6, count)
        noise = rng.normal(0, 12, (count, 8, 8, 3))
        images = self.COLOURS[targets][:, None, None, :] + noise
        return np.clip(images, 0, 255).astype(np.uint8), targets.tolist()

    def test_are_told_by_labelled_images(self):
        images, targets = self.images()
        right = found(self.model(), images, targets)
        assert right["accuracy"].status == "passed"
        assert right["accuracy"].measured.startswith("100% of 48")
        wrong = found(self.model("bgr"), images, targets)["accuracy"]
        assert wrong.status == "warning"
        assert "red and blue swapped" in wrong.measured
        assert wrong.advice.endswith("try --channel-order rgb")

    @pytest.mark.parametrize("order", ["rgb", "bgr"])
    def test_cannot_be_told_from_unlabelled_images_and_that_is_said(self, order):
        check = found(self.model(order), self.images()[0])["channel order"]
        assert check.status == "skipped"
        assert "cannot be told" in check.measured
        assert "a folder for each label" in check.advice

    def test_of_grey_images_are_no_matter(self):
        images = self.images()[0].mean(axis=3, keepdims=True).repeat(3, axis=3).astype(np.uint8)
        check = found(self.model("bgr"), images)["channel order"]
        assert check.status == "passed"
        assert "the label of 0 of 48 images" in check.measured


def test_labels_in_another_order_are_no_better_than_chance():
    images, targets = digits.some()
    shifted = [(target + 1) % 10 for target in targets]
    check = found(digits.right_model(), images, shifted)["accuracy"]
    assert check.status == "warning"
    assert "another order" in check.advice


def test_folders_that_name_a_few_images_only_are_not_judged_by():
    images, targets = digits.some(40)
    few = [*targets[:15], *[None] * 25]
    assert "accuracy" not in found(digits.right_model(), images, few)


@pytest.mark.parametrize("count", [0, 15])
def test_few_images_tell_nothing(count):
    images = np.zeros((count, 32, 32, 3), np.uint8)
    [check] = found(digits.right_model(), images).values()
    assert (check.status, f"{count} images are too few" in check.measured) == ("skipped", True)


def test_independent_labels_are_not_judged_by_their_information():
    model = loaded(Tiny(size=(16, 16)), activation="sigmoid")
    images = np.random.default_rng(0).integers(0, 256, (20, 16, 16, 3), np.uint8)
    assert found(model, images)["pixel range"].status == "skipped"


def test_numbers_that_are_none_are_not_judged_by():
    model = loaded(Tiny(size=(16, 16), bias=(np.nan,) * 7))
    images = np.random.default_rng(0).integers(0, 256, (20, 16, 16, 3), np.uint8)
    [check] = found(model, images).values()
    assert check.status == "skipped"


class TestAnswers:
    def test_sure_and_different_answers_carry_all_bits(self):
        answers = answers_of(np.eye(8) * 100, "softmax")
        assert answers.information == pytest.approx(3) == answers.possible
        assert (answers.doubt, answers.size, answers.spread) == (pytest.approx(0), 100, 1)

    def test_answers_that_are_alike_carry_none_however_sure(self):
        for logits in (np.zeros((8, 8)), np.tile([50.0, 0, 0], (8, 1))):
            assert answers_of(logits, "softmax").information == pytest.approx(0, abs=1e-9)
            assert answers_of(logits, "softmax").spread == 0

    def test_probabilities_are_taken_as_they_are(self):
        logits = np.random.default_rng(0).standard_normal((20, 5)) * 3
        scores = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        mine, theirs = answers_of(scores, "none"), answers_of(logits, "softmax")
        assert mine.information == pytest.approx(theirs.information)
        assert mine.doubt == pytest.approx(theirs.doubt)

    def test_spread_does_not_depend_on_scale(self):
        logits = np.random.default_rng(0).standard_normal((20, 5))
        assert spread_of(logits * 1000) == pytest.approx(spread_of(logits))

    def test_more_information_alone_does_not_make_a_better_one(self):
        """Images of one class: the right preprocessing says one thing, a wrong one many."""
        sure = answers_of(
            np.tile([9.0, 0, 0, 0], (16, 1)) + np.eye(4)[np.arange(16) % 4], "softmax"
        )
        babbling = answers_of(np.eye(4)[np.arange(16) % 4] * 5, "softmax")
        assert babbling.information > sure.information + 1
        assert not clearly_better(babbling, sure)
