"""What counts as agreement with the reference, on numbers chosen by hand."""

import json
import math
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.gpu.agreement import CLASSES, compare, read_table, shortcomings

BOUND = 0.01


def softmax(logits):
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


@pytest.fixture
def logits():
    """Image i has label i, by a margin of 1; 8 images."""
    return np.eye(CLASSES, dtype=np.float32) + np.float32(3)


def test_equal_logits_agree_whatever_softmax_takes_away(logits):
    found = compare(softmax(logits + np.arange(CLASSES)[:, None]), logits, BOUND)
    assert (found.left_out, found.agreement, found.agreement_of_all) == (0, 1, 1)
    assert found.worst_difference < 1e-6
    assert found.classes == CLASSES


def test_a_difference_is_measured_less_what_all_logits_share(logits):
    served = logits.copy()
    served[2, 5] += 0.4
    found = compare(softmax(served), logits, BOUND)
    assert found.worst_difference == pytest.approx(0.4 * (1 - 1 / CLASSES))
    assert found.median_difference < 1e-6
    assert found.agreement == 1


def test_only_images_within_twice_the_bound_are_left_out(logits):
    logits[0, 1] = logits[0, 0] - np.float32(1.9 * BOUND)
    logits[1, 2] = logits[1, 1] - np.float32(2.1 * BOUND)
    swapped = logits.copy()
    swapped[0, [0, 1]] = swapped[0, [1, 0]]
    found = compare(softmax(swapped), logits, BOUND)
    assert found.left_out == 1 / CLASSES
    assert found.agreement == 1
    assert found.agreement_of_all == 1 - 1 / CLASSES
    swapped[1, [1, 2]] = swapped[1, [2, 1]]
    assert compare(softmax(swapped), logits, BOUND).agreement == pytest.approx(6 / 7)


def test_requirements_are_missed_one_by_one(logits):
    good = compare(softmax(logits), logits, BOUND)
    assert list(shortcomings(good, "fp32")) == []
    for changes, missed in (
        ({"agreement": 0.9985}, "agreement 99.8500%, expected 99.9% or more"),
        ({"agreement": math.nan}, "agreement nan%, expected 99.9% or more"),
        ({"left_out": 0.0501}, "5.01% left out, expected 5% or less"),
        ({"worst_difference": math.inf}, "worst logit difference inf"),
        ({"classes": 7}, "7 of 8 classes occur"),
    ):
        assert list(shortcomings(replace(good, **changes), "fp32")) == [missed]
    assert list(shortcomings(replace(good, agreement=0.9985), "fp16")) == []


def test_the_table_gives_scores_in_order_of_label_id(tmp_path):
    best_first = [(3, 0.5), (0, 0.3), (1, 0.2)]
    entry = pa.struct([("label", pa.string()), ("label_id", pa.int32()), ("score", pa.float32())])
    topk = [[{"label": "x", "label_id": i, "score": s} for i, s in best_first], None]
    for part, names in (("0", ["a", "b"]), ("1", ["c", "d"])):
        table = pa.table({"file_name": names, "topk": pa.array(topk, pa.list_(entry))})
        footer = {b"nightshift": json.dumps({"part": part}).encode()}
        pq.write_table(table.replace_schema_metadata(footer), tmp_path / f"{part}.parquet")
    names, scores, footer = read_table(tmp_path)
    assert (names, footer) == (["a", "b", "c", "d"], {"part": "0"})
    np.testing.assert_allclose(scores[[0, 2]][:, [3, 0, 1]], [[0.5, 0.3, 0.2]] * 2, rtol=1e-6)
    assert np.isnan(scores[[1, 3]]).all()
    assert np.isnan(scores[:, 4:]).all()
