from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from shards.ranking import Ranking, list_array, topk_column, wide_columns

NAMES = ("zero", "one", "two", "three", "four")


@st.composite
def ranked(draw):
    """label_ids, scores in descending order, and which rows failed."""
    rows, k = draw(st.integers(1, 6)), draw(st.integers(1, 5))
    scores = draw(hnp.arrays(np.float32, (rows, k), elements=st.floats(0, 1, width=32)))
    failed = draw(hnp.arrays(np.bool_, rows))
    ids = draw(hnp.arrays(np.int32, (rows, k), elements=st.integers(0, len(NAMES) - 1)))
    ids[failed] = 2**30  # must not be looked at
    scores = -np.sort(-scores, axis=1)
    scores[failed] = np.nan
    return ids, scores, failed


def naive(ids, scores, failed, top_k, threshold):
    """For each row the entries that are listed; None where it failed."""
    return [
        None
        if failed[row]
        else [
            {"label": NAMES[i], "label_id": int(i), "score": float(s)}
            for i, s in list(zip(ids[row], scores[row], strict=True))[:top_k]
            if threshold is None or s >= np.float32(threshold)
        ]
        for row in range(len(ids))
    ]


THRESHOLDS = st.none() | st.floats(0, 1)


@settings(max_examples=150, deadline=None)
@given(found=ranked(), top_k=st.integers(1, 7), threshold=THRESHOLDS)
def test_both_forms_list_what_the_naive_one_does(found, top_k, threshold):
    expected = naive(*found, top_k, threshold)
    names, rows = pa.array(NAMES), len(expected)
    struct = Ranking(top_k=top_k, threshold=threshold)
    column = topk_column(names, *found, struct)
    column.validate(full=True)
    assert column.to_pylist() == expected
    assert wide_columns(names, *found, struct) == {}

    wide = Ranking(top_k=top_k, threshold=threshold, form="wide")
    assert topk_column(names, *found, wide).null_count == rows
    columns = wide_columns(names, *found, wide)
    assert len(columns) == 3 * (top_k - 1)
    for rank in range(2, top_k + 1):
        for name in ("label", "label_id", "score"):
            assert columns[f"{name}_{rank}"].to_pylist() == [
                entries[rank - 1][name] if entries and len(entries) >= rank else None
                for entries in expected
            ]


def test_none_lists_nothing():
    scores = np.ones((2, 2), np.float32)
    found = (np.zeros((2, 2), np.int32), scores, np.zeros(2, np.bool_))
    ranking = Ranking(top_k=2, form="none")
    column = topk_column(pa.array(NAMES), *found, ranking)
    assert column.to_pylist() == [None, None]
    assert column.type == topk_column(pa.array(NAMES), *found, Ranking(top_k=2)).type
    assert wide_columns(pa.array(NAMES), *found, ranking) == {}
    assert ranking.wide == 1


def test_a_score_that_equals_the_threshold_is_listed():
    """0.3 is no float32: compared as float64, a score of 0.3 would lie above it, and 0.7 below."""
    for value in (0.1, 0.3, 0.7):
        assert Ranking(top_k=1, threshold=value).listed(np.array([value], np.float32)).all()


def test_more_values_than_a_file_can_count_are_refused():
    lengths, kept = np.full(3, 2**30), np.zeros(3, np.bool_)
    with pytest.raises(ValueError, match="3221225472 list entries in one shard: choose a smaller"):
        list_array(pa.array([], pa.float32()), lengths, kept)
