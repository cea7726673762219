"""The synthetic task: every image follows from its number, and the splits share nothing."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.clutter.images import SIDE, TRAINING_DIGITS, Composer
from benchmarks.clutter.sources import HELD_OUT_PHOTOS, TRAINING_PHOTOS


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """Digits that are all white, and photographs of one colour each: black where held out."""
    path = tmp_path_factory.mktemp("clutter") / "sources.npz"
    arrays = {
        "digits": np.full((1797, 8, 8), 255, np.uint8),
        "labels": np.where(np.arange(1797) < TRAINING_DIGITS, 1, 7).astype(np.uint8),
        **{name: np.full((120, 150, 3), 128, np.uint8) for name in TRAINING_PHOTOS},
        **{name: np.zeros((120, 150, 3), np.uint8) for name in HELD_OUT_PHOTOS},
    }
    np.savez(path, **arrays)
    return path


def test_an_image_depends_on_its_number_and_split_alone(sources):
    composer = Composer(sources, "train")
    images, answers = composer.compose(range(4))
    again, _ = composer.compose(range(2, 4))
    assert images.shape == (4, SIDE, SIDE, 3)
    assert images.dtype == np.uint8
    np.testing.assert_array_equal(images[2:], again)
    assert not np.array_equal(images[0], images[1])
    assert not np.array_equal(images[0], Composer(sources, "calibration").compose(range(1))[0][0])
    assert answers.tolist() == [1, 1, 1, 1]


def test_held_out_images_use_other_digits_and_photographs(sources):
    training, _ = Composer(sources, "train").compose(range(8))
    held_out, answers = Composer(sources, "held_out").compose(range(8))
    assert set(answers.tolist()) == {7}
    # Gain and shift of the colours leave black dark and grey bright.
    assert np.median(held_out) < 40 < np.median(training)


def test_the_photographs_are_split():
    assert not set(TRAINING_PHOTOS) & set(HELD_OUT_PHOTOS)
