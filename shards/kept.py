"""Columns that come with images and go into the table: their types, and how they wait in plans.

The values that came with one image are a JSON object (`extra` in shards.inputs); the table's record
(shards.columns) says what type each column has. Types are few, and those that every reader of
Parquet has: narrower ones become the next wider, lists and structs become JSON text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.types as types

__all__ = [
    "KINDS",
    "TARGET",
    "column_name",
    "extras_array",
    "kept_column",
    "kept_columns",
    "kind_of_type",
    "kind_of_value",
    "parsed_extras",
    "plain_values",
    "wider",
]

TARGET = "target"
"""The column for what an image is said to show."""

KINDS: dict[str, pa.DataType] = {
    "bool": pa.bool_(),
    "int32": pa.int32(),
    "int64": pa.int64(),
    "float": pa.float32(),
    "double": pa.float64(),
    "string": pa.string(),
    "date32": pa.date32(),
    "timestamp": pa.timestamp("us"),
    "timestamp_utc": pa.timestamp("us", "UTC"),
}
"""What a column may be."""

_STORED = {
    "date32": pa.int32(),
    "timestamp": pa.int64(),
    "timestamp_utc": pa.int64(),
}
"""Kinds that are numbers in JSON: days and microseconds since the epoch."""

_NUMBERS = ("bool", "int32", "int64", "float", "double")

# The table's own columns, the partition's, and the wide ranks.
_TAKEN = re.compile(
    r"uri|file_name|status|label|label_id|score|score_margin|topk|width|height|error_kind|error"
    r"|run_id|predicted_at|logits|embedding|model|(label|label_id|score)_[0-9]+",
    re.IGNORECASE,
)


_encode = json.JSONEncoder(separators=(",", ":")).encode


def column_name(name: str) -> str:
    """Return what a column is called in the table: `input_` before a name that is taken there."""
    return f"input_{name}" if _TAKEN.fullmatch(name) else name


def kind_of_type(kind: pa.DataType) -> str | None:
    """Return the kind for a column of a Parquet file; None where it cannot be kept."""
    if types.is_dictionary(kind):
        return kind_of_type(kind.value_type)
    if types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind):
        return None
    if types.is_timestamp(kind):
        return "timestamp" if kind.tz is None else "timestamp_utc"
    simple = {
        "bool": "bool", "int8": "int32", "int16": "int32", "int32": "int32", "int64": "int64",
        "uint8": "int32", "uint16": "int32", "uint32": "int64", "uint64": "int64",
        "halffloat": "float", "float": "float", "double": "double",
        "date32[day]": "date32", "date64[ms]": "date32",
    }  # fmt: skip
    return simple.get(str(kind), "string")


def kind_of_value(value: object) -> str | None:
    """Return the kind for a value of JSON; None for null, which fits any."""
    if value is None:
        return None
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "int64" if -(2**63) <= value < 2**63 else "string"
    return "double" if isinstance(value, float) else "string"


def wider(one: str | None, other: str | None) -> str | None:
    """Return the kind that holds the values of both; None stands for no value."""
    if one is None or other is None or one == other:
        return one or other
    if {one, other} <= set(_NUMBERS) - {"bool"}:
        return max(one, other, key=_NUMBERS.index)
    return "string"


def plain_values(column: pa.Array, kind: str) -> list[Any]:
    """Return the values of a column as JSON can hold them."""
    if types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if kind in _STORED:
        return column.cast(KINDS[kind], safe=False).cast(_STORED[kind]).to_pylist()  # type: ignore[no-any-return]
    values: list[Any] = column.to_pylist()
    if kind == "string" and not (
        types.is_string(column.type) or types.is_large_string(column.type)
    ):
        nested = types.is_nested(column.type)
        return [
            None if value is None else json.dumps(value, default=str) if nested else str(value)
            for value in values
        ]
    return values


def extras_array(rows: Iterable[Mapping[str, Any]]) -> pa.Array:
    """Return values by column name as `InputBatch.extras`; nulls are left out."""
    return pa.array([_dumped(row) for row in rows], pa.string())


def _dumped(row: Mapping[str, Any]) -> str | None:
    values = {name: value for name, value in row.items() if value is not None}
    return _encode(values) if values else None


def parsed_extras(extras: pa.Array | None, rows: int) -> list[dict[str, Any]]:
    """Return what `extras_array` was given; empty where there was nothing."""
    if extras is None:
        return [{}] * rows
    return [{} if text is None else json.loads(text) for text in extras.to_pylist()]


def kept_columns(
    extras: pa.Array | None, rows: int, columns: Sequence[tuple[str, str]]
) -> dict[str, pa.Array]:
    """Make columns of the table, given by name and kind, of what came with its images."""
    if not columns:
        return {}
    values = parsed_extras(extras, rows)
    return {name: kept_column(values, name, kind) for name, kind in columns}


def kept_column(rows: Sequence[Mapping[str, Any]], name: str, kind: str) -> pa.Array:
    """Make a column of the table; values that do not fit its type are null."""
    values = [row.get(name) for row in rows]
    if kind == "string":
        return pa.array([_text(value) for value in values], pa.string())
    fitting = [value if _fits(value, kind) else None for value in values]
    return pa.array(fitting, _STORED.get(kind, KINDS[kind])).cast(KINDS[kind])


def _text(value: object) -> str | None:
    if value is None:
        return None
    text = value if isinstance(value, str) else json.dumps(value)
    return text.encode("utf-8", "backslashreplace").decode()  # JSON can hold half a surrogate pair


def _fits(value: object, kind: str) -> bool:
    """Whether a column of a kind other than text can hold a value: Arrow would cut 1.5 to 1."""
    if kind == "bool" or isinstance(value, bool):
        return kind == "bool" and isinstance(value, bool)
    if kind in ("float", "double"):
        return isinstance(value, float) or (isinstance(value, int) and abs(value) < 2**1000)
    bits = 31 if kind in ("int32", "date32") else 63
    return isinstance(value, int) and -(2**bits) <= value < 2**bits
