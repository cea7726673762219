import datetime
import decimal
import json

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shards.kept import (
    KINDS,
    column_name,
    extras_array,
    kept_column,
    kind_of_type,
    kind_of_value,
    parsed_extras,
    plain_values,
    wider,
)
from shards.predictions import schema_v1


def kept(column: pa.Array) -> pa.Array:
    """A column on its whole way: out of a Parquet file, through a plan, into the table."""
    kind = kind_of_type(column.type)
    rows = [{"c": value} for value in plain_values(column, kind)]
    return kept_column(parsed_extras(extras_array(rows), len(rows)), "c", kind)


@pytest.mark.parametrize(
    ("values", "given_type", "kept_type"),
    [
        ([True, None, False], pa.bool_(), pa.bool_()),
        ([-(2**63), 2**63 - 1, None], pa.int64(), pa.int64()),
        ([-128, 127], pa.int8(), pa.int32()),
        ([0, 2**32 - 1], pa.uint32(), pa.int64()),
        ([0.1, None, float("inf")], pa.float64(), pa.float64()),
        ([0.5, 0.25], pa.float32(), pa.float32()),
        (["a", None, "ü\n\0"], pa.string(), pa.string()),
        (["a", "b"], pa.large_string(), pa.string()),
        ([datetime.date(1969, 7, 20), None], pa.date32(), pa.date32()),
        ([1_767_323_045_678_901], pa.timestamp("us"), pa.timestamp("us")),
        ([1_767_323_045, None], pa.timestamp("s"), pa.timestamp("us")),
        ([1_700_000_000_123_456_789], pa.timestamp("ns"), pa.timestamp("us")),
    ],
)
def test_types_that_are_kept(values, given_type, kept_type):
    column = pa.array(values, given_type)
    found = kept(column)
    assert found.type == kept_type
    assert found.to_pylist() == column.cast(kept_type, safe=False).to_pylist()


def test_types_that_become_text():
    assert kept(pa.array(["a", "b", "a"]).dictionary_encode()).to_pylist() == ["a", "b", "a"]
    assert kept(pa.array([decimal.Decimal("1.50")])).to_pylist() == ["1.50"]
    assert [json.loads(text) for text in kept(pa.array([[1, 2], []])).to_pylist()] == [[1, 2], []]
    assert json.loads(kept(pa.array([{"a": 1}]))[0].as_py()) == {"a": 1}
    assert kept(pa.nulls(2)).to_pylist() == [None, None]


def test_times_with_zones_keep_their_moment():
    zone = datetime.timezone(datetime.timedelta(hours=5))
    when = datetime.datetime(2026, 5, 6, 7, tzinfo=zone)
    found = kept(pa.array([when], pa.timestamp("us", "Asia/Karachi")))
    assert found.type == pa.timestamp("us", "UTC")
    assert found[0].as_py() == when


def test_bytes_are_not_kept():
    for kind in (pa.binary(), pa.large_binary(), pa.binary(4)):
        assert kind_of_type(kind) is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=5,
)


@given(st.lists(JSON, max_size=6))
def test_any_values_of_json_have_a_kind_that_holds_all_of_them(values):
    kind = None
    for value in values:
        kind = wider(kind, kind_of_value(value))
    kind = kind or "string"
    rows = parsed_extras(extras_array({"c": value} for value in values), len(values))
    column = kept_column(rows, "c", kind)
    assert column.type == KINDS[kind]
    assert [value is None for value in column.to_pylist()] == [value is None for value in values]
    if kind != "string" and not any(isinstance(v, int) and abs(v) > 2**53 for v in values):
        assert column.to_pylist() == values


def test_values_that_do_not_fit_are_null():
    rows = [{"c": 1}, {"c": "x"}, {"c": 2**70}, {"c": 1.5}, {}, {"c": None}]
    assert kept_column(rows, "c", "int64").to_pylist() == [1, None, None, None, None, None]
    rows = [{"c": 1}, {"c": True}, {"c": 10**400}, {"c": "1"}, {"c": 0.5}]
    assert kept_column(rows, "c", "double").to_pylist() == [1.0, None, None, None, 0.5]
    assert kept_column(rows, "c", "bool").to_pylist() == [None, True, None, None, None]


def test_half_a_surrogate_pair_is_no_obstacle():
    assert kept_column([{"c": json.loads('"\\ud83d"')}], "c", "string").to_pylist() == ["\\ud83d"]


def test_the_tables_own_names_are_taken():
    for name in (*schema_v1().names, "model", "logits", "embedding", "label_12", "SCORE"):
        assert column_name(name) == f"input_{name}"
    for name in ("target", "labels", "scores", "input_label", "split", "label_x"):
        assert column_name(name) == name
