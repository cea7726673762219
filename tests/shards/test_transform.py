"""Resize and crop: sizes against an independent formulation, pixels against Pillow's one call."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from shards import transform as transform_module
from shards.errors import ErrorKind, ImageError
from shards.transform import apply, center_window, resized_size


@dataclass(frozen=True, slots=True, kw_only=True)
class Values:
    """A Transform of plain values."""

    height: int = 8
    width: int = 8
    resize: str = "shortest"
    resize_height: int = 9
    resize_width: int = 9
    interpolation: str = "bilinear"
    rounding: str = "trunc"
    crop_offset: str = "round"
    pad_fill: tuple[int, int, int] = (0, 0, 0)
    pad_bias: str = "floor"
    alpha: str = "drop"


sides = st.integers(1, 3000)


def noise(width: int, height: int) -> Image.Image:
    generator = np.random.default_rng(width * 7919 + height)
    return Image.fromarray(generator.integers(0, 256, (height, width, 3), dtype=np.uint8))


def apply_plainly(image: Image.Image, values: Values) -> NDArray[np.uint8]:
    """What a reader of the documentation would write: resize, paste on a canvas, cut."""
    size = resized_size(*image.size, values)
    resized = image.resize(size, getattr(Image.Resampling, values.interpolation.upper()))
    canvas_size = (max(size[0], values.width), max(size[1], values.height))
    canvas = Image.new("RGB", canvas_size, values.pad_fill)
    up = 1 if values.pad_bias == "ceil" else 0
    canvas.paste(
        resized, ((canvas_size[0] - size[0] + up) // 2, (canvas_size[1] - size[1] + up) // 2)
    )
    half = round if values.crop_offset == "round" else int
    left = half((canvas_size[0] - values.width) / 2)
    top = half((canvas_size[1] - values.height) / 2)
    return np.asarray(canvas.crop((left, top, left + values.width, top + values.height)))


transforms = st.builds(
    Values,
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    resize=st.sampled_from(["shortest", "exact", "cover", "contain", "longest", "none"]),
    resize_height=st.integers(1, 50),
    resize_width=st.integers(1, 50),
    interpolation=st.sampled_from(["nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"]),
    rounding=st.sampled_from(["trunc", "round"]),
    crop_offset=st.sampled_from(["round", "floor"]),
    pad_fill=st.just((7, 130, 255)),
    pad_bias=st.sampled_from(["floor", "ceil"]),
)


@settings(deadline=None)
@given(transforms, st.integers(1, 90), st.integers(1, 90))
def test_a_row_of_the_batch_is_the_plain_resize_and_crop(
    values: Values, width: int, height: int
) -> None:
    image = noise(width, height)
    out = np.full((values.height, values.width, 3), 99, dtype=np.uint8)
    apply(image, values, out)
    np.testing.assert_array_equal(out, apply_plainly(image, values))


@settings(deadline=None)
@given(transforms, st.integers(1, 6), st.integers(1, 60), st.booleans(), st.integers(1, 400))
def test_an_image_enlarged_piece_by_piece_is_the_one_enlarged_at_once(
    values: Values, short: int, long: int, tall: bool, piece: int
) -> None:
    image = noise(short, long) if tall else noise(long, short)
    out = np.empty((values.height, values.width, 3), dtype=np.uint8)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transform_module, "_PIECE_PIXELS", piece)
        apply(image, values, out)
    np.testing.assert_array_equal(out, apply_plainly(image, values))


@pytest.mark.parametrize("size", [(20_000, 10), (10, 20_000)])
def test_huge_aspect_ratios_are_computed_exactly_in_little_memory(
    size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    values = Values(height=24, width=24, resize_height=32, resize_width=32, interpolation="bicubic")
    image = noise(*size)
    expected = apply_plainly(image, values)
    largest = 0
    whole_resize = Image.Image.resize

    def resize(self: Image.Image, to: tuple[int, int], resample: int) -> Image.Image:
        nonlocal largest
        largest = max(largest, to[0] * to[1])
        return whole_resize(self, to, resample)

    monkeypatch.setattr(Image.Image, "resize", resize)
    monkeypatch.setattr(transform_module, "_PIECE_PIXELS", 1 << 20)
    out = np.empty((24, 24, 3), dtype=np.uint8)
    apply(image, values, out)
    np.testing.assert_array_equal(out, expected)
    assert largest <= 1 << 20


@pytest.mark.parametrize("size", [(60_000, 2), (2, 60_000), (1_100_000, 3), (9_000, 1)])
def test_a_resize_beyond_the_limits_is_refused_with_both_sizes(
    size: tuple[int, int],
) -> None:
    image = Image.new("RGB", size)
    values = Values(height=224, width=224, resize_height=256, resize_width=256)
    with pytest.raises(ImageError, match=f"{size[0]}x{size[1]} pixels would be resized") as error:
        apply(image, values, np.empty((224, 224, 3), dtype=np.uint8))
    assert error.value.kind is ErrorKind.TOO_LARGE


@given(sides, sides, sides)
def test_the_shortest_edge_is_met_and_the_other_truncated(
    width: int, height: int, edge: int
) -> None:
    values = Values(resize="shortest", resize_height=edge, resize_width=edge)
    resized = resized_size(width, height, values)
    assert min(resized) == edge
    # Exact arithmetic: the libraries' floats can only differ where the ratio is a whole number.
    exact = Fraction(edge * max(width, height), min(width, height))
    assert max(resized) == int(exact)
    assert (resized[0] >= resized[1]) == (width >= height) or resized[0] == resized[1]


@given(sides, sides, sides)
def test_the_longest_edge_is_met_and_the_other_at_least_one(
    width: int, height: int, edge: int
) -> None:
    values = Values(resize="longest", resize_height=edge, resize_width=edge)
    resized = resized_size(width, height, values)
    assert max(resized) == edge
    assert min(resized) == max(int(Fraction(edge * min(width, height), max(width, height))), 1)


@given(sides, sides, sides, sides)
def test_cover_fills_the_box_and_contain_fits_into_it(
    width: int, height: int, to_width: int, to_height: int
) -> None:
    values = Values(resize_height=to_height, resize_width=to_width, rounding="round")
    covering = resized_size(width, height, replace(values, resize="cover"))
    assert covering[0] >= to_width
    assert covering[1] >= to_height
    assert covering[0] == to_width or covering[1] == to_height
    contained = resized_size(width, height, replace(values, resize="contain"))
    assert contained[0] <= to_width
    assert contained[1] <= to_height
    assert contained[0] == to_width or contained[1] == to_height


@given(sides, sides, st.sampled_from(["round", "floor"]), st.sampled_from(["floor", "ceil"]))
def test_the_window_is_in_the_middle(size: int, target: int, offset: str, bias: str) -> None:
    values = Values(crop_offset=offset, pad_bias=bias)
    source, destination, length = center_window(size, target, values)
    assert length == min(size, target)
    assert 0 <= source <= size - length
    assert 0 <= destination <= target - length
    before, after = source + destination, abs(size - target) - source - destination
    assert abs(before - after) <= 1


@pytest.mark.parametrize(
    ("size", "target", "offset", "bias", "expected"),
    [
        (256, 224, "round", "floor", (16, 0, 224)),
        (227, 224, "round", "floor", (2, 0, 224)),  # 1.5 to the even 2
        (229, 224, "round", "floor", (2, 0, 224)),  # 2.5 to the even 2
        (227, 224, "floor", "floor", (1, 0, 224)),
        (221, 224, "round", "floor", (0, 1, 221)),
        (221, 224, "floor", "ceil", (0, 2, 221)),
    ],
)
def test_an_odd_difference_goes_where_the_library_puts_it(
    size: int, target: int, offset: str, bias: str, expected: tuple[int, int, int]
) -> None:
    assert center_window(size, target, Values(crop_offset=offset, pad_bias=bias)) == expected
