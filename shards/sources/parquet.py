"""Tables that hold images: one row of theirs is one of ours.

Hugging Face's Image is a struct of `bytes` and `path`; others have a column of bytes. Planning
reads no image, only the footer and the columns that are kept; the bytes are read row group by row
group when a shard is classified.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.types as types

from shards.errors import ErrorKind, ImageError, SourceError
from shards.inputs import InputBatch
from shards.kept import wider
from shards.names import SEPARATOR, shown
from shards.sources.located import attributes_of, opened_arrow
from shards.sources.source import BATCH_ROWS, ListingOptions, Source
from shards.sources.tables import Columns, parquet_rows

__all__ = ["ParquetSource", "contents", "image_column", "row_key"]

# Images that are in memory at once: 16 of 256 MiB at the very worst.
_ROWS = 16


def row_key(path: bytes, row: int) -> bytes:
    """Return the key of a row."""
    return b"%s%s%012d" % (path, SEPARATOR, row)


def image_column(schema: pa.Schema, wanted: str | None) -> str | None:
    """Return the column that has images: the one that is wanted, `image`, or the only such one."""
    fitting = [field.name for field in schema if _holds_bytes(field.type)]
    if wanted is not None:
        return wanted if wanted in fitting else None
    if "image" in fitting:
        return "image"
    return fitting[0] if len(fitting) == 1 else None


def _holds_bytes(kind: pa.DataType) -> bool:
    if types.is_struct(kind):
        names = [field.name for field in kind]
        return "bytes" in names and _holds_bytes(kind.field("bytes").type)
    return bool(types.is_binary(kind) or types.is_large_binary(kind))


class ParquetSource(Source):
    """The images in some Parquet files."""

    kind = "parquet"

    def __init__(
        self, paths: Sequence[bytes], root: bytes, given: str, options: ListingOptions
    ) -> None:
        """List these files.

        Args:
            paths: Absolute, in any order.
            root: Directory above all of them.
            given: What the user named.
            options: image_column, keep, keep_all.
        """
        super().__init__(root, given)
        self._paths = sorted(set(paths))
        self._options = options

    def _batches(self) -> Iterator[InputBatch]:
        for path in self._paths:
            try:
                size, mtime_ns = attributes_of([path])[:, 0].tolist()
                file = pq.ParquetFile(opened_arrow(path))
            except FileNotFoundError as error:
                raise SourceError(f"no such file: {shown(path)}.") from error
            except (OSError, pa.ArrowException) as error:
                self.damaged.append(f"{shown(path)}: {error}")
                continue
            column = image_column(file.schema_arrow, self._options.image_column)
            if column is None:
                raise self._without_images(path, file.schema_arrow)
            columns = Columns(shown(path), file.schema_arrow.names, column, self._options)
            start = 0
            for rows, extras in self._rows(path, file, columns):
                keys = [row_key(path, row) for row in range(start, start + rows)]
                sizes, times, offsets = (
                    np.full(rows, value, np.int64) for value in (size, mtime_ns, 0)
                )
                yield InputBatch(keys, sizes, times, offsets, extras)
                start += rows
            self.whole.add(path)

    def _rows(
        self, path: bytes, file: pq.ParquetFile, columns: Columns
    ) -> Iterator[tuple[int, pa.Array | None]]:
        """Yield numbers of rows, and what came with them."""
        rows: int = file.metadata.num_rows
        if not columns.sources:
            for start in range(0, rows, BATCH_ROWS):
                yield min(BATCH_ROWS, rows - start), None
            return
        columns.path = next(iter(columns.sources.values()))  # the images stay where they are
        for first, extras in parquet_rows(path, file, columns):
            yield len(first), extras
        for name, kind in columns.kinds.items():
            self.kinds[name] = wider(self.kinds.get(name), kind) or kind

    def _without_images(self, path: bytes, schema: pa.Schema) -> SourceError:
        columns = ", ".join(f"{field.name} ({field.type})" for field in schema)
        wanted = self._options.image_column
        what = (
            f"no column {wanted} with images" if wanted else "no column image, or several of bytes"
        )
        return SourceError(
            f"{shown(path)} has {what}: it has {columns}. Name a column of bytes, or of structs "
            "with bytes, by --image-column; for a table of paths, give --input-format manifest."
        )


def contents(
    path: bytes, rows: Sequence[int], column: str | None, mtime_ns: int | None = None
) -> Iterator[bytes | ImageError]:
    """Yield the bytes of some rows, or why they cannot be read.

    Args:
        path: A Parquet file.
        rows: Ascending.
        mtime_ns: When the file was written that was planned; None for whatever is there.
        column: As for `image_column`.
    """
    try:
        file = pq.ParquetFile(opened_arrow(path), page_checksum_verification=True)
        if mtime_ns is not None and attributes_of([path])[1, 0] != mtime_ns:
            raise ValueError("it has changed since it was listed: run again")
        name = image_column(file.schema_arrow, column)
        if name is None:
            raise ValueError("it has no column with images any more")
    except (OSError, ValueError, pa.ArrowException) as error:
        missing = isinstance(error, FileNotFoundError)
        kind = ErrorKind.NOT_FOUND if missing else ErrorKind.READ_ERROR
        yield from (ImageError(kind, f"{shown(path)}: {error}") for _ in rows)
        return
    starts = np.cumsum(
        [0, *(file.metadata.row_group(n).num_rows for n in range(file.metadata.num_row_groups))]
    )
    groups = np.searchsorted(starts, rows, side="right") - 1
    for group, numbered in groupby(
        zip(groups.tolist(), rows, strict=True), key=lambda pair: pair[0]
    ):
        wanted = [row - int(starts[group]) for _, row in numbered]
        if group >= file.metadata.num_row_groups:
            yield from (
                ImageError(ErrorKind.NOT_FOUND, "the table has no such row") for _ in wanted
            )
        else:
            yield from _contents_of_group(file, group, name, wanted)


def _contents_of_group(
    file: pq.ParquetFile, group: int, column: str, rows: list[int]
) -> Iterator[bytes | ImageError]:
    left = iter(rows)
    row = next(left, None)
    start = 0
    try:
        for batch in file.iter_batches(_ROWS, row_groups=[group], columns=[column]):
            images = batch.column(0)
            if types.is_struct(images.type):
                images = images.field("bytes")
            while row is not None and row < start + len(batch):
                content = images[row - start].as_py()
                yield _NOTHING if content is None else content
                row = next(left, None)
            if row is None:
                return
            start += len(batch)
    except (OSError, pa.ArrowException) as error:
        while row is not None:
            yield ImageError(ErrorKind.READ_ERROR, f"row group {group}: {error}")
            row = next(left, None)


_NOTHING = ImageError(ErrorKind.NOT_FOUND, "the row holds no bytes")
