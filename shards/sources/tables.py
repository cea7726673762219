"""Tables that name images: CSV, TSV, JSON Lines, Parquet, and lists with a path a line.

Read in blocks, so that ten million rows need no more memory than ten thousand. Values of text
formats stay text, for `007` is no 7; JSON's and Parquet's keep their types.
"""
# ruff: noqa: PTH122 - pathlib refuses bytes

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from shards.errors import SourceError
from shards.kept import (
    TARGET,
    column_name,
    extras_array,
    kind_of_type,
    kind_of_value,
    plain_values,
    wider,
)
from shards.names import shown
from shards.sources.located import opened_arrow, opened_binary
from shards.sources.source import ListingOptions

__all__ = [
    "PATH_COLUMNS",
    "Blocks",
    "Columns",
    "class_names",
    "list_blocks",
    "parquet_rows",
    "table_blocks",
    "table_errors",
]

PATH_COLUMNS = ("uri", "file_name", "filepath", "path", "filename", "url", "image")
"""Names under which tables have paths, in the order in which they are looked for."""

TARGET_COLUMNS = (TARGET, "label")
"""Names under which tables say what an image shows."""

_BLOCK_ROWS = 65_536
_JSON_LOOK = 1000
"""Lines that are looked at for the names of columns: a row may leave out what is null."""
_BLOCK_BYTES = 8 << 20

Blocks = Iterator[tuple[pa.Array, pa.Array | None]]
"""Paths, binary, and what came with them (`InputBatch.extras`)."""


class Columns:
    """Which columns of a table are wanted, and what they are called in ours.

    Attributes:
        path: The column of paths.
        sources: Our name to the column that it is made of.
        kinds: Our name to the kind of its values (shards.kept).
    """

    def __init__(
        self, table: str, names: Sequence[str], path: str, options: ListingOptions
    ) -> None:
        """Choose among the columns that there are.

        Args:
            table: The table, for messages.
            names: Of its columns.
            path: The one of paths, or of image bytes.
            options: keep, keep_all.

        Raises:
            SourceError: A column that is to be kept is not there.
        """
        self.path = path
        missing = [name for name in options.keep if name not in names]
        if missing:
            raise SourceError(
                f"{table} has no column {', '.join(missing)}: it has {', '.join(names)}. "
                "Correct --keep-columns."
            )
        kept = [name for name in names if options.keeps(name) and name != path]
        self.sources = {column_name(name): name for name in kept}
        for name in TARGET_COLUMNS:
            if name in names and name != path:
                self.sources.setdefault(TARGET, name)
        self.kinds: dict[str, str] = {}

    @property
    def needed(self) -> list[str]:
        """Names of the columns to read."""
        return list(dict.fromkeys([self.path, *self.sources.values()]))

    def note(self, name: str, kind: str | None) -> None:
        """Widen the kind of one of our columns; what an image shows is always text."""
        kind = "string" if name == TARGET else wider(self.kinds.get(name), kind)
        if kind is not None:
            self.kinds[name] = kind

    def extras(self, values: Mapping[str, Sequence[Any]]) -> pa.Array | None:
        """Make extras of lists of values by our names."""
        if not self.sources:
            return None
        lists = [values[name] for name in self.sources]
        rows = zip(*lists, strict=True)
        return extras_array(dict(zip(self.sources, row, strict=True)) for row in rows)


@contextmanager
def table_errors(path: bytes) -> Iterator[None]:
    """Turn what a reader raises into a SourceError that names the table."""
    try:
        yield
    except (OSError, ValueError, pa.ArrowException) as error:
        text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise SourceError(f"cannot read {shown(path)}: {text}. Correct or leave it out.") from error


def table_blocks(
    path: bytes, options: ListingOptions, candidates: Sequence[str] = PATH_COLUMNS
) -> tuple[Columns, Blocks]:
    """Open a table by its suffix.

    Args:
        path: Ends in .csv, .tsv, .jsonl, .ndjson or .parquet.
        options: uri_column, keep, keep_all.
        candidates: Names under which paths may stand, the best first; `*_x` means any that ends so.

    Returns:
        Its columns, whose kinds are known once all blocks were read; and the blocks, to be read
        once.

    Raises:
        SourceError: It cannot be read, or has no such column; also while blocks are read.
    """
    suffix = os.path.splitext(path)[1].lower()
    reader = {b".csv": _csv_blocks, b".tsv": _csv_blocks, b".parquet": _parquet_blocks}
    return reader.get(suffix, _json_blocks)(path, options, candidates)


def list_blocks(file: BinaryIO) -> Blocks:
    """Read a path a line; of a list with zero bytes, as `find -print0` makes, what lies between."""
    rest = b""
    separator: bytes | None = None
    while chunk := file.read(_BLOCK_BYTES):
        separator = separator or (b"\0" if b"\0" in chunk else b"\n")
        *lines, rest = (rest + chunk).split(separator)
        yield _paths(lines), None
    if rest:
        yield _paths([rest]), None


def class_names(metadata: Mapping[bytes, bytes] | None, column: str) -> list[str] | None:
    """Return the names of a Hugging Face ClassLabel column."""
    try:
        features = json.loads((metadata or {})[b"huggingface"])["info"]["features"]
        names = features[column]["names"]
    except (KeyError, ValueError, TypeError):
        return None
    return names if isinstance(names, list) and all(isinstance(n, str) for n in names) else None


def _paths(lines: Sequence[bytes]) -> pa.Array:
    return pa.array([line.removesuffix(b"\r") for line in lines], pa.binary())


def _path_column(
    path: bytes, names: Sequence[str], options: ListingOptions, candidates: Sequence[str]
) -> str:
    wanted = (options.uri_column,) if options.uri_column else candidates
    for candidate in wanted:
        for name in names:
            if name == candidate or (candidate[0] == "*" and name.endswith(candidate[1:])):
                return name
    raise SourceError(
        f"{shown(path)} has no column {' or '.join(wanted)}: it has {', '.join(names)}. "
        "Say by --uri-column which one holds the paths."
    )


def _csv_blocks(
    path: bytes, options: ListingOptions, candidates: Sequence[str]
) -> tuple[Columns, Blocks]:
    with table_errors(path), opened_binary(path) as file:
        first = file.readline(1 << 20).decode("utf-8-sig")
    # Spreadsheets write semicolons where the comma is the decimal point.
    delimiter = max("\t" if path.lower().endswith(b".tsv") else ",;\t", key=first.count)
    parsing = pyarrow.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True)
    with table_errors(path):
        names = _csv_reader(path, parsing, None).schema.names
    columns = Columns(shown(path), names, _path_column(path, names, options, candidates), options)
    columns.kinds = dict.fromkeys(columns.sources, "string")
    types = {name: pa.string() for name in columns.needed} | {columns.path: pa.binary()}
    converting = pyarrow.csv.ConvertOptions(
        column_types=types, include_columns=columns.needed, strings_can_be_null=False
    )

    def blocks() -> Blocks:
        with table_errors(path):
            for batch in _csv_reader(path, parsing, converting):
                values = {
                    name: batch.column(source).to_pylist()
                    for name, source in columns.sources.items()
                }
                yield batch.column(columns.path), columns.extras(values)

    return columns, blocks()


def _csv_reader(
    path: bytes,
    parsing: pyarrow.csv.ParseOptions,
    converting: pyarrow.csv.ConvertOptions | None,
) -> pyarrow.csv.CSVStreamingReader:
    reading = pyarrow.csv.ReadOptions(block_size=_BLOCK_BYTES, use_threads=False)
    return pyarrow.csv.open_csv(
        opened_arrow(path), read_options=reading, parse_options=parsing, convert_options=converting
    )


def _json_blocks(
    path: bytes, options: ListingOptions, candidates: Sequence[str]
) -> tuple[Columns, Blocks]:
    with table_errors(path), opened_binary(path) as file:
        first = enumerate(islice(file, _JSON_LOOK), start=1)
        found = (_json_row(path, number, line) for number, line in first if line.strip())
        names = list(dict.fromkeys(name for row in found for name in row))
    columns = Columns(shown(path), names, _path_column(path, names, options, candidates), options)

    def blocks() -> Blocks:
        with table_errors(path), opened_binary(path) as file:
            rows: list[dict[str, Any]] = []
            for number, line in enumerate(file, start=1):
                if line.strip():
                    rows.append(_json_row(path, number, line, columns.path))
                if len(rows) == _BLOCK_ROWS:
                    yield _json_block(rows, columns)
                    rows = []
            yield _json_block(rows, columns)

    return columns, blocks()


def _json_row(path: bytes, number: int, line: bytes, column: str | None = None) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise SourceError(f"{shown(path)}, line {number}: no JSON ({error}).") from error
    if not isinstance(row, dict):
        raise SourceError(f"{shown(path)}, line {number}: expected an object in each line.")
    if column is not None and not isinstance(row.get(column), str | None):
        raise SourceError(f"{shown(path)}, line {number}: {column} is no text.")
    return row


def _json_block(
    rows: Sequence[dict[str, Any]], columns: Columns
) -> tuple[pa.Array, pa.Array | None]:
    values: dict[str, list[Any]] = {
        name: [row.get(source) for row in rows] for name, source in columns.sources.items()
    }
    for name in columns.sources:
        for value in values[name]:
            columns.note(name, kind_of_value(value))
    texts = [row.get(columns.path) for row in rows]
    paths = [None if text is None else os.fsencode(text) for text in texts]
    return pa.array(paths, pa.binary()), columns.extras(values)


def _parquet_blocks(
    path: bytes, options: ListingOptions, candidates: Sequence[str]
) -> tuple[Columns, Blocks]:
    with table_errors(path):
        file = pq.ParquetFile(opened_arrow(path))
    schema = file.schema_arrow
    chosen = _path_column(path, schema.names, options, candidates)
    columns = Columns(shown(path), schema.names, chosen, options)
    return columns, parquet_rows(path, file, columns)


def parquet_rows(path: bytes, file: pq.ParquetFile, columns: Columns) -> Blocks:
    """Yield a Parquet file's paths, and what came with them.

    Columns of bytes are not kept.
    """
    schema = file.schema_arrow
    kinds = {
        name: kind
        for name, source in columns.sources.items()
        if (kind := kind_of_type(schema.field(source).type)) is not None
    }
    columns.sources = {name: columns.sources[name] for name in kinds}
    for name, kind in kinds.items():
        columns.note(name, kind)
    labels = class_names(schema.metadata, columns.sources.get(TARGET, ""))
    with table_errors(path):
        for batch in file.iter_batches(_BLOCK_ROWS, columns=columns.needed):
            values = {
                name: plain_values(batch.column(source), kinds[name])
                for name, source in columns.sources.items()
            }
            if labels is not None:
                values[TARGET] = [_label(labels, value) for value in values[TARGET]]
            yield batch.column(columns.path), columns.extras(values)


def _label(labels: Sequence[str], value: object) -> object:
    if isinstance(value, int) and 0 <= value < len(labels):
        return labels[value]
    return value  # -1 stands for an image that has no label
