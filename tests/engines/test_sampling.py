from __future__ import annotations

import hashlib

import numpy as np
import pytest

from engines.graph import inspect
from engines.sampling import SYNTHETIC_KINDS, model_input, sample_outputs, synthetic_images
from tests.models.tiny import Tiny, normalise, spec_for


def test_synthetic_images_never_change():
    """What is read off them is part of model_id."""
    images = synthetic_images(8, 32, 48)
    assert (images.shape, images.dtype) == ((8, 32, 48, 3), np.uint8)
    digest = hashlib.sha256(images.tobytes()).hexdigest()
    assert digest == "4896de083954094beb65c576f7437006352f39375a0a7cd4074ecf9311275347"


@pytest.mark.parametrize("size", [(1, 1), (4, 6), (7, 300), (224, 224)])
def test_synthetic_images_differ_and_are_in_colour(size):
    images = synthetic_images(len(SYNTHETIC_KINDS), *size)
    assert len({image.tobytes() for image in images}) == len(SYNTHETIC_KINDS)
    for image in images:
        assert (image != image[..., ::-1]).any(), "swapped channels would go unnoticed"


def test_fewer_images_are_the_first_ones():
    np.testing.assert_array_equal(synthetic_images(3, 8, 8), synthetic_images(8, 8, 8)[:3])


@pytest.mark.parametrize("count", [0, 9])
def test_there_are_eight(count):
    with pytest.raises(ValueError, match="expected 1 to 8"):
        synthetic_images(count, 8, 8)


@pytest.mark.parametrize("order", ["rgb", "bgr"])
@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_the_models_input_is_what_the_specification_says(layout, order):
    info = inspect(Tiny(layout=layout).proto())
    spec = spec_for((4, 6), channel_order=order)
    images = synthetic_images(8, 4, 6)
    given = model_input(images, info, spec)
    assert (given.dtype, given.flags.c_contiguous) == (np.float32, True)
    given = given if layout == "nchw" else given.transpose(0, 3, 1, 2)
    np.testing.assert_allclose(given, normalise(images, spec), atol=1e-5)


@pytest.mark.parametrize("batch", ["batch", 1, 3, 8, 20])
def test_a_sample_is_what_the_model_gives_whatever_batch_it_takes(batch):
    tiny = Tiny(batch=batch)
    spec = spec_for(tiny.size)
    rows = sample_outputs(tiny.proto(), inspect(tiny.proto()), spec, count=5)
    expected = tiny.logits(normalise(synthetic_images(5, 4, 6), spec))
    np.testing.assert_allclose(rows, expected, atol=1e-5)
