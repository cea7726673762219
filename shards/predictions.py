"""The analysts' table: schema v1, and rows from arrays.

docs/schema.md explains every column; tests/golden/schema_v1.json holds what must not change.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from shards.columns import OptionalColumns
from shards.errors import ErrorKind
from shards.footer import FOOTER_KEY, SCHEMA_VERSION, FooterInfo, Provenance
from shards.inputs import ShardInputs
from shards.kept import KINDS, kept_columns
from shards.names import file_names_of, uris_of
from shards.ranking import ENTRY, Ranking, list_array, topk_column, wide_columns
from shards.seal import BLANK, SEAL_KEY, seal

__all__ = [
    "ShardResults",
    "Table",
    "build_table",
    "encode",
    "footer_of",
    "open_writer",
    "row_group_rows",
    "schema_v1",
]

# 64 of DuckDB's vectors; a shard of the default size is one group.
ROW_GROUP_ROWS = 131_072

# With logits or embeddings a row has kilobytes: readers hold a group of one column at once.
ROW_GROUP_BYTES = 128 * 2**20

# Dictionary pages pay only where values repeat; on paths they cost time and space.
_REPETITIVE = [
    "status",
    "label",
    "label_id",
    "topk.list.element.label",
    "topk.list.element.label_id",
    "width",
    "height",
    "error_kind",
    "error",
    "run_id",
    "predicted_at",
]
_FLOATS = ["score", "score_margin", "topk.list.element.score"]

Table = pa.Table
"""Rows, to those who hand them on and do not import pyarrow."""

_TIMESTAMP = pa.timestamp("us", "UTC")

# Name, type, whether it may be null, description.
_COLUMNS = (
    ("uri", pa.string(), False, "The image: file:// and its absolute path, percent-encoded"),
    ("file_name", pa.string(), False, "POSIX path relative to the directory that was given"),
    ("status", pa.string(), False, "ok, or error for an image that has no label"),
    ("label", pa.string(), True, "The best label; null for an error"),
    ("label_id", pa.int32(), True, "Its index in the model's output; null for an error"),
    ("score", pa.float32(), True, "Its probability, 0 to 1; null for an error"),
    ("score_margin", pa.float32(), True, "score minus the second best; null if there is none"),
    ("topk", pa.list_(pa.field("element", ENTRY)), True, "The best labels, best first"),
    ("width", pa.int32(), True, "Pixels after EXIF orientation; null where it was not read"),
    ("height", pa.int32(), True, "Pixels after EXIF orientation; null where it was not read"),
    ("error_kind", pa.string(), True, "One of the kinds in docs/schema.md; null for ok"),
    ("error", pa.string(), True, "What went wrong, in words; null for ok"),
    ("run_id", pa.string(), False, "The run that computed the row: runs/<run_id>/run.json"),
    ("predicted_at", _TIMESTAMP, False, "When the row's shard was computed, UTC"),
)
_VECTOR = pa.list_(pa.field("element", pa.float32()))
_LOGITS = ("logits", _VECTOR, True, "The model's raw output; null for an error")
_EMBEDDING = ("embedding", _VECTOR, True, "The input of the model's last layer; null for an error")


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardResults:
    """What became of each image of a shard, in the shard's order.

    Attributes:
        label_ids: int32 [rows, k], best first; whatever stands in the rows of failed images is
            not looked at.
        scores: float32 [rows, k], descending.
        widths: int32 [rows], pixels after EXIF orientation; 0 where not known.
        heights: int32 [rows], likewise.
        errors: Row number to reason and text, for every image that has no label.
        logits: float32 [rows, classes], where they were asked for.
        embedding: float32 [rows, width], likewise.
    """

    label_ids: NDArray[np.int32]
    scores: NDArray[np.float32]
    widths: NDArray[np.int32]
    heights: NDArray[np.int32]
    errors: Mapping[int, tuple[ErrorKind, str]]
    logits: NDArray[np.float32] | None = None
    embedding: NDArray[np.float32] | None = None


def schema_v1(columns: OptionalColumns | None = None) -> pa.Schema:
    """Return the table's schema, by default without optional columns; metadata describes fields."""
    optional = columns or OptionalColumns()
    described = [
        *_COLUMNS,
        *[_LOGITS] * optional.logits,
        *[_EMBEDDING] * optional.embedding,
        *(column for rank in range(2, optional.wide + 1) for column in _of_rank(rank)),
        *((name, KINDS[kind], True, "Came with the image") for name, kind in optional.kept),
    ]
    return pa.schema(
        pa.field(name, kind, nullable, {"description": description})
        for name, kind, nullable, description in described
    )


def _of_rank(rank: int) -> list[tuple[str, pa.DataType, bool, str]]:
    text = f"Of the label of rank {rank}; null where none is listed"
    return [(f"{field.name}_{rank}", field.type, True, text) for field in ENTRY]


def build_table(
    inputs: ShardInputs,
    results: ShardResults,
    *,
    labels: Sequence[str],
    ranking: Ranking,
    run_id: str,
    predicted_at: datetime,
    kept: Sequence[tuple[str, str]] = (),
) -> pa.Table:
    """Make a shard's rows, in the order of its images.

    An image whose scores are no numbers becomes an error row here (see `_with_invalid_scores`).

    Args:
        inputs: The shard's images.
        results: What became of each.
        labels: Label of each label_id.
        ranking: Which labels are listed besides the best, and how.
        run_id: As in Provenance.
        predicted_at: When the shard was computed; timezone-aware.
        kept: Columns of the table that came with the images, as in OptionalColumns. Values that do
            not fit a column's type are null.
    """
    rows = len(inputs)
    _check_shapes(rows, results)
    if predicted_at.tzinfo is None:
        raise ValueError(f"predicted_at needs a timezone: {predicted_at}")
    errors = _with_invalid_scores(results)
    failed = np.isin(np.arange(rows), list(errors))
    names = pa.array(labels, pa.string())
    best = pa.array(results.label_ids[:, 0], mask=failed)
    kinds, texts = _error_columns(rows, errors)
    ranked = (names, results.label_ids, results.scores, failed, ranking)
    columns = {
        "uri": pa.array(uris_of(inputs.keys), pa.string()),
        "file_name": pa.array(file_names_of(inputs.keys, inputs.root), pa.string()),
        "status": pa.array(["ok", "error"]).take(pa.array(failed.astype(np.int8))),
        "label": names.take(best),
        "label_id": best,
        "score": pa.array(results.scores[:, 0], mask=failed),
        "score_margin": _margins(results.scores, failed),
        "topk": topk_column(*ranked),
        "width": pa.array(results.widths, mask=results.widths <= 0),
        "height": pa.array(results.heights, mask=results.heights <= 0),
        "error_kind": kinds,
        "error": texts,
        "run_id": pa.repeat(pa.scalar(run_id, pa.string()), rows),
        "predicted_at": pa.repeat(pa.scalar(predicted_at, _TIMESTAMP), rows),
    }
    vectors = {"logits": results.logits, "embedding": results.embedding}
    columns |= {name: _lists(v, failed) for name, v in vectors.items() if v is not None}
    optional = OptionalColumns(
        logits="logits" in columns,
        embedding="embedding" in columns,
        wide=ranking.wide,
        kept=tuple(kept),
    )
    columns |= wide_columns(*ranked) | kept_columns(inputs.extras, rows, kept)
    return pa.table(columns, schema=schema_v1(optional))


def footer_of(
    table: pa.Table,
    provenance: Provenance,
    *,
    work_key: str,
    rewrite: Mapping[str, str | int] | None = None,
) -> FooterInfo:
    """Return the footer of rows that `build_table` made; `rewrite` as in FooterInfo."""
    runs = table.column("run_id").value_counts().to_pylist()
    kinds = Counter(table.column("error_kind").drop_null().to_pylist())
    errors = kinds.total()
    return FooterInfo(
        schema_version=SCHEMA_VERSION,
        work_key=work_key,
        rows=table.num_rows,
        ok=table.num_rows - errors,
        errors=errors,
        errors_by_kind=dict(sorted(kinds.items())),
        provenance=provenance,
        runs={entry["values"]: entry["counts"] for entry in runs},
        rewrite=rewrite,
    )


def encode(table: pa.Table, footer: FooterInfo) -> memoryview:
    """Return the bytes of the shard's Parquet file, sealed."""
    schema = table.schema.with_metadata({FOOTER_KEY: footer.to_json()})
    sink = pa.BufferOutputStream()
    with open_writer(sink, schema) as writer:
        writer.write_table(
            table.replace_schema_metadata(schema.metadata), row_group_size=row_group_rows(table)
        )
    content = memoryview(sink.getvalue()).cast("B")
    seal(content)
    return content


def open_writer(sink: pa.NativeFile, schema: pa.Schema) -> pq.ParquetWriter:
    """Begin a file of the table; whoever closes it seals it (`shards.seal`).

    Args:
        sink: Open for writing.
        schema: Of the table; its metadata become the footer's.
    """
    optional = schema.names[len(_COLUMNS) :]
    vectors = [f"{name}.list.element" for name in optional if name in ("logits", "embedding")]
    scores = [name for name in optional if re.fullmatch(r"score_\d+", name)]
    labels = [name for name in optional if re.fullmatch(r"label(_id)?_\d+", name)]
    writer = pq.ParquetWriter(
        sink,
        schema,
        compression="zstd",
        compression_level=3,
        use_dictionary=[*_REPETITIVE, *labels],
        use_byte_stream_split=[*_FLOATS, *vectors, *scores],
        coerce_timestamps="us",
        write_statistics=True,
        write_page_index=True,
        write_page_checksum=True,
    )
    writer.add_key_value_metadata({SEAL_KEY: BLANK})
    return writer


def row_group_rows(table: pa.Table) -> int:
    """Rows of a row group, in whole vectors of DuckDB."""
    row_bytes: int = max(1, table.nbytes // max(1, table.num_rows))
    return min(ROW_GROUP_ROWS, max(1, ROW_GROUP_BYTES // row_bytes // 2048) * 2048)


def _check_shapes(rows: int, results: ShardResults) -> None:
    shape = results.label_ids.shape
    if (
        len(shape) != 2
        or shape[0] != rows
        or shape[1] < 1
        or results.scores.shape != shape
        or results.widths.shape != (rows,)
        or results.heights.shape != (rows,)
        or any(v is not None and len(v) != rows for v in (results.logits, results.embedding))
    ):
        raise ValueError(f"results do not fit a shard of {rows} rows: label_ids are {shape}")


def _with_invalid_scores(results: ShardResults) -> dict[int, tuple[ErrorKind, str]]:
    """Errors, and a best score that is not finite, or a NaN; -inf behind it is a masked class."""
    scores = results.scores
    sound = (scores < np.inf).all(axis=1) & (scores[:, 0] > -np.inf)  # a NaN is neither
    invalid = np.flatnonzero(~sound).tolist()
    text = "the model's scores for this image are not finite numbers"
    return dict.fromkeys(invalid, (ErrorKind.INVALID_SCORES, text)) | dict(results.errors)


def _error_columns(
    rows: int, errors: Mapping[int, tuple[ErrorKind, str]]
) -> tuple[pa.Array, pa.Array]:
    kinds: list[str | None] = [None] * rows
    texts: list[str | None] = [None] * rows
    for row, (kind, text) in errors.items():
        kinds[row] = kind.value
        # File names in messages may hold what no text can: Parquet's strings are UTF-8.
        texts[row] = text.encode("utf-8", "backslashreplace").decode()
    return pa.array(kinds, pa.string()), pa.array(texts, pa.string())


def _margins(scores: NDArray[np.float32], failed: NDArray[np.bool_]) -> pa.Array:
    if scores.shape[1] < 2:
        return pa.nulls(len(scores), pa.float32())
    alone = failed | ~np.isfinite(scores[:, 1])
    margins = np.zeros(len(scores), np.float32)
    np.subtract(scores[:, 0], scores[:, 1], out=margins, where=~alone)  # inf - inf warns
    return pa.array(margins, mask=alone)


def _lists(values: NDArray[np.float32], failed: NDArray[np.bool_]) -> pa.Array:
    # A shard's logits are its largest array: Arrow reads them where they lie if all rows count.
    kept = values[~failed] if failed.any() else np.ascontiguousarray(values)
    return list_array(pa.array(kept.ravel()), values.shape[1], failed)
