"""Comparing logits: what must hold for any, and the cases that a gate is there for."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from engines.gate import MAX_FLIPS, compare, wilson_interval


def found(reference, candidate, **more):
    rows, classes = np.shape(reference)
    return compare(
        np.asarray(reference, np.float32),
        np.asarray(candidate, np.float32),
        images=[f"{row}.jpg" for row in range(rows)],
        labels=[f"class {index}" for index in range(classes)],
        **more,
    )


NUMBERS = st.integers(-16_000, 16_000).map(lambda sixteenths: sixteenths / 16)
"""Halved or shifted without rounding; many of them equal."""


def logits(least=(1, 1)):
    rows, classes = (st.integers(low, high) for low, high in zip(least, (12, 8), strict=True))
    return st.tuples(rows, classes).flatmap(
        lambda shape: arrays(np.float32, shape, elements=NUMBERS)
    )


@given(logits())
def test_what_is_compared_with_itself_agrees_without_error(values):
    same = found(values, values.copy(), alone=values[:3])
    assert (same.flips, same.top1_agreement, same.top5_misses) == (0, 1.0, 0)
    assert (same.top5_agreement, same.top5_overlap) == (1.0, 1.0)
    assert (same.worst_error, same.median_error, same.batch_difference) == (0.0, 0.0, 0.0)
    assert same.noise in (0.0, None)
    assert not same.constant
    assert same.worst_flips == ()


@given(st.data(), logits())
def test_counts_are_those_of_a_plain_loop(data, reference):
    candidate = data.draw(arrays(np.float32, reference.shape, elements=NUMBERS))
    result = found(reference, candidate)
    flips = misses = 0
    for mine, theirs in zip(reference.tolist(), candidate.tolist(), strict=True):
        best = mine.index(max(mine))
        five = sorted(range(len(theirs)), key=lambda index: (-theirs[index], index))[:5]
        flips += five[0] != best
        misses += best not in five
    assert (result.flips, result.top5_misses) == (flips, misses)
    assert result.top5_misses <= result.flips
    assert result.worst_error == np.abs(reference.astype(float) - candidate).max()
    assert result.median_error <= result.worst_error
    low, high = result.top1_interval
    assert 0 <= low <= result.top1_agreement <= high <= 1
    assert len(result.worst_flips) == min(flips, MAX_FLIPS)


@given(logits(least=(2, 1)), st.integers(-3, 6), st.randoms())
def test_the_order_and_the_unit_of_logits_do_not_matter(values, exponent, random):
    rng = np.random.default_rng(random.getrandbits(32))
    candidate = values + rng.normal(0, 0.1, values.shape).astype(np.float32)
    plain = found(values, candidate)
    order = rng.permutation(len(values))
    scale = np.float32(2.0**exponent)
    other = found(values[order] * scale, candidate[order] * scale)
    assert other.flips == plain.flips
    assert other.top5_overlap == pytest.approx(plain.top5_overlap)
    assert other.worst_error == pytest.approx(plain.worst_error * scale)
    if plain.noise is None:
        assert other.noise is None
    else:
        assert other.noise == pytest.approx(plain.noise, rel=1e-6)


@given(logits(least=(1, 2)), st.data())
def test_no_pattern_of_odd_numbers_makes_it_fail_or_gives_odd_numbers(reference, data):
    odd = st.sampled_from([math.nan, math.inf, -math.inf, 3.0e38, -3.0e38, 0.0])
    candidate = data.draw(arrays(np.float32, reference.shape, elements=odd))
    result = found(reference, candidate)
    assert 0 <= result.not_finite <= result.flips <= result.images
    for field in dataclasses.fields(result):
        value = getattr(result, field.name)
        assert not isinstance(value, float) or math.isfinite(value), field.name


def test_a_flip_is_listed_with_both_labels_and_both_margins_the_clearest_first():
    reference = [[9, 8, 0], [9, 1, 0], [0, 5, 1]]
    candidate = [[8, 9, 0], [3, 4, 0], [0, 5, 1]]
    result = found(reference, candidate)
    assert result.flips == 2
    worst, doubtful = result.worst_flips
    assert (worst.image, worst.reference, worst.candidate) == ("1.jpg", "class 0", "class 1")
    assert (worst.reference_margin, worst.candidate_margin) == (8.0, 1.0)
    assert (doubtful.image, doubtful.reference_margin) == ("0.jpg", 1.0)


def test_all_flips_are_counted_and_some_are_listed():
    reference = np.tile([1.0, 0.0], (MAX_FLIPS + 7, 1))
    result = found(reference, reference[:, ::-1])
    assert (result.flips, len(result.worst_flips)) == (MAX_FLIPS + 7, MAX_FLIPS)
    assert result.top5_agreement == 1.0


def test_an_image_without_finite_logits_is_a_flip_and_has_no_label():
    reference = np.random.default_rng(0).normal(size=(4, 6))
    candidate = reference.copy()
    candidate[1, 3], candidate[2, 0] = np.nan, np.inf
    result = found(reference, candidate)
    assert (result.not_finite, result.flips, result.top5_misses) == (2, 2, 2)
    assert result.worst_flips == ()
    assert result.worst_error == 0.0


def test_images_that_the_reference_cannot_do_are_left_out_and_counted():
    reference = np.random.default_rng(0).normal(size=(4, 6))
    reference[2, 1] = np.nan
    result = found(reference, np.nan_to_num(reference), targets=[None, 1, 2, None])
    assert (result.images, result.unusable, result.flips) == (3, 1, 0)
    assert result.accuracy.images == 1
    with pytest.raises(ValueError, match="no finite logits for any of 2 images"):
        found(np.full((2, 3), np.nan), np.zeros((2, 3)))


def test_a_masked_class_is_no_error_whatever_stands_for_its_minus_infinity():
    reference = np.random.default_rng(0).normal(size=(5, 3))
    reference[:, 1] = -np.inf
    candidate = np.where(np.isinf(reference), -65504, reference)
    for same in (found(reference, candidate), found(reference, reference)):
        assert (same.flips, same.not_finite, same.worst_error) == (0, 0, 0.0)
        assert same.signal > 0


def test_a_candidate_that_ignores_the_image_is_constant_and_nothing_but_noise():
    reference = np.random.default_rng(0).normal(size=(50, 10))
    result = found(reference, np.tile(reference.mean(axis=0), (50, 1)))
    assert result.constant
    assert not result.reference_constant
    assert result.noise == pytest.approx(1.0)


def test_a_constant_reference_is_said_and_measures_nothing():
    rows = np.tile(np.float32([1.5, -0.2, 3.0]), (9, 1))
    rows[4] *= np.float32(1 + 1e-6)
    result = found(rows, rows + 0.01)
    assert result.reference_constant
    assert (result.signal, result.noise, result.constant) == (0.0, None, False)
    assert not found(rows[:1], rows[:1]).reference_constant


def test_what_depends_on_the_batch_shows():
    candidate = np.random.default_rng(0).normal(size=(9, 4)).astype(np.float32)
    assert found(candidate, candidate).batch_difference is None
    mixed = candidate[[1, 0]]
    expected = np.abs(candidate[:2].astype(float) - mixed).max()
    assert found(candidate, candidate, alone=mixed).batch_difference == pytest.approx(expected)


def test_accuracy_counts_images_whose_label_is_known():
    reference, candidate = np.eye(4), np.eye(4)[[0, 1, 3, 2]]
    result = found(reference, candidate, targets=[0, 2, 2, None])
    assert result.accuracy.images == 3
    assert result.accuracy.reference == pytest.approx(2 / 3)
    assert result.accuracy.candidate == pytest.approx(1 / 3)
    assert found(reference, candidate, targets=[None] * 4).accuracy is None


def test_shapes_that_do_not_fit_are_a_mistake_of_the_caller():
    with pytest.raises(ValueError, match=r"expected \(2, 3\)"):
        found(np.zeros((2, 3)), np.zeros((2, 4)))


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [  # Newcombe, Statistics in Medicine 17 (1998) 857, table I, method 3
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_the_interval_is_wilsons(successes, trials, low, high):
    assert wilson_interval(successes, trials) == pytest.approx((low, high), abs=5e-5)
    mirrored = wilson_interval(trials - successes, trials)
    assert mirrored == pytest.approx((1 - high, 1 - low), abs=5e-5)


@given(st.integers(1, 10_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_ends_of_the_interval_are_as_unlikely_as_they_should_be(counts):
    successes, trials = counts
    for end in wilson_interval(successes, trials):
        error = 1.959964 * math.sqrt(end * (1 - end) / trials)
        assert abs(successes / trials - end) == pytest.approx(error, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize(("successes", "trials"), [(1, 0), (3, 2), (-1, 2)])
def test_an_interval_needs_trials(successes, trials):
    with pytest.raises(ValueError, match="trials"):
        wilson_interval(successes, trials)
