from __future__ import annotations

import pytest

from engines.profile import Profile, ShapeRange, parse_batch_size, parse_image_size


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("256", ShapeRange(1, 256, 256)),
        ("1", ShapeRange(1, 1, 1)),
        ("1:256:512", ShapeRange(1, 256, 512)),
        ("8:8:8", ShapeRange(8, 8, 8)),
        (" 4 ", ShapeRange(1, 4, 4)),
    ],
)
def test_batch_sizes(text, expected):
    assert parse_batch_size(text) == expected


@pytest.mark.parametrize(
    "text",
    ["", "0", "-1", "1:2", "4:2:8", "1:8:4", "1:2:3:4", "1e3", "1_0", "+5", "x", "٣", "1: 2:3"],
)
def test_other_batch_sizes_are_refused_with_what_was_given_and_expected(text):
    with pytest.raises(ValueError, match=r'--batch-size .*expected "N" or "min:opt:max"') as error:
        parse_batch_size(text)
    assert repr(text) in str(error.value)


def test_a_batch_beyond_reason_is_refused():
    with pytest.raises(ValueError, match="65537 exceeds the largest batch, 65536"):
        parse_batch_size("65537")


@pytest.mark.parametrize(
    ("text", "height", "width"),
    [
        ("224", ShapeRange(224, 224, 224), ShapeRange(224, 224, 224)),
        ("240x320", ShapeRange(240, 240, 240), ShapeRange(320, 320, 320)),
        ("160:224:448", ShapeRange(160, 224, 448), ShapeRange(160, 224, 448)),
        ("120x160:240x320:480X640", ShapeRange(120, 240, 480), ShapeRange(160, 320, 640)),
        ("224:224:224x448", ShapeRange(224, 224, 224), ShapeRange(224, 224, 448)),
    ],
)
def test_image_sizes(text, height, width):
    assert parse_image_size(text) == (height, width)


@pytest.mark.parametrize("text", ["", "0", "224x", "x224", "1x2x3", "448:224:160", "224:448", "a"])
def test_other_image_sizes_are_refused(text):
    with pytest.raises(ValueError, match=r'--image-size .*expected "N", "HxW" or min:opt:max'):
        parse_image_size(text)


def test_an_image_size_beyond_reason_is_refused():
    with pytest.raises(ValueError, match="exceeds 16384 pixels"):
        parse_image_size("16385")


def test_ranges_print_as_they_are_written():
    assert str(ShapeRange(1, 256, 512)) == "1:256:512"
    assert str(ShapeRange.fixed(224)) == "224"
    assert 224 in ShapeRange(160, 224, 448)
    assert 449 not in ShapeRange(160, 224, 448)


def test_a_profile_gives_the_shapes_of_the_input():
    height, width = parse_image_size("160x192:224x256:448")
    profile = Profile(batch=parse_batch_size("1:256:512"), height=height, width=width)
    assert profile.min_shape == (1, 160, 192, 3)
    assert profile.opt_shape == (256, 224, 256, 3)
    assert profile.max_shape == (512, 448, 448, 3)


def test_a_profile_that_tensorrt_cannot_address_is_refused():
    height, width = parse_image_size("1024")
    assert Profile(batch=parse_batch_size("682"), height=height, width=width)
    with pytest.raises(ValueError, match=r"more than 2\^31 values"):
        Profile(batch=parse_batch_size("683"), height=height, width=width)
