from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.quantize.histogram import METHODS, Histogram


def counted(*batches: np.ndarray) -> Histogram:
    histogram = Histogram()
    for batch in batches:
        histogram.add(np.asarray(batch, np.float32))
    return histogram


def test_minmax_keeps_everything_that_was_seen():
    values = np.array([[-3.5, 0.25], [7.125, -0.5]])
    assert counted(values).range("minmax") == (-3.5, 7.125)


def test_percentile_cuts_off_what_is_rarer_than_one_in_ten_thousand():
    values = np.concatenate([np.linspace(0, 1, 30_000), [50.0]])[None]
    low, high = counted(values).range("percentile")
    assert low == 0
    assert high == pytest.approx(1, abs=64 / 2048)


def test_entropy_keeps_a_narrow_distribution_and_drops_a_far_outlier():
    values = np.random.default_rng(0).normal(size=(1, 30_000))
    values[0, 0] = 60
    low, high = counted(values).range("entropy")
    assert 3 < high < 8
    assert -8 < low < -3


def test_entropy_keeps_nearly_all_of_an_even_distribution():
    values = np.random.default_rng(0).uniform(0, 1, (1, 30_000))
    assert counted(values).range("entropy")[1] > 0.95


def test_zeros_in_plenty_do_not_narrow_the_range():
    """What ReLU leaves: with half of the values 0, the rest is cut off where it would be alone."""
    values = np.abs(np.random.default_rng(0).normal(size=(1, 30_000)))
    alone = counted(values).range("entropy")[1]
    half = values.copy()
    half[0, ::2] = 0
    assert counted(half).range("entropy")[1] == pytest.approx(alone, rel=0.15)


@given(
    st.lists(
        st.lists(st.floats(-1e6, 1e6, width=32), min_size=3, max_size=3), min_size=1, max_size=6
    ),
    st.sampled_from(METHODS),
)
@settings(max_examples=60, deadline=None)
def test_neither_the_order_of_batches_nor_how_they_are_cut_matters(rows, method):
    whole = counted(np.array(rows)).range(method)
    apart = counted(*(np.array([row]) for row in reversed(rows))).range(method)
    assert whole == apart
    assert min(map(min, rows)) <= whole[0] <= whole[1] <= max(map(max, rows))


def test_all_rows_and_channels_of_a_large_tensor_are_sampled():
    """A stride that divided the width would see only some columns."""
    values = np.zeros((1, 64, 64, 64), np.float32)
    values[..., 1] = 5
    low, high = counted(values).range("percentile")
    assert (low, high) == (0, 5)


def test_what_is_always_zero_has_an_empty_range():
    assert counted(np.zeros((2, 5))).range("entropy") == (0, 0)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_no_numbers_are_refused(bad):
    with pytest.raises(ValueError, match="infinite or not a number"):
        counted(np.array([[1.0, bad]]))
