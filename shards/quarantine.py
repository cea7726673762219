r"""The images that have no label, as a list that a person can open and a later run can take.

    OUT/runs/<run_id>/errors.csv    uri, file_name, error_kind, error

It is written from the files of the table, some thousand rows at a time, in UTF-8, every field in
quotes, one line a row (RFC 4180). Names of files and messages come from whoever made the files, and
spreadsheets take a cell that begins with `=`, `+`, `-` or `@` for a formula: such a cell gets an
apostrophe before it, which spreadsheets hide, and control characters are written `\xNN`. A uri
begins with its scheme and is percent-encoded, so it needs neither, and stands as in the table.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress

import pyarrow as pa
import pyarrow.parquet as pq

from shards.footer import reading
from shards.output import OutputTree, output_errors
from shards.place import Place, opened

__all__ = ["COLUMNS", "error_rows", "write_errors"]

COLUMNS = ["uri", "file_name", "error_kind", "error"]

BATCH_ROWS = 16_384
"""Rows of the table in memory: some megabytes of names."""

# What Excel, LibreOffice and Google Sheets begin a formula with, also in full width; a tab or line
# break before it is passed over.
_FORMULA = re.compile(r"\s*[=+\-@＝＋－＠]")  # noqa: RUF001
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def error_rows(path: Place) -> Iterator[pa.Table]:
    """Yield the rows of a shard's file that have no label, in COLUMNS.

    Raises:
        OutputError: The file cannot be read.
    """
    with output_errors("read", path), reading(path), opened(path) as source:
        file = pq.ParquetFile(source, page_checksum_verification=True)
        for batch in file.iter_batches(BATCH_ROWS, columns=COLUMNS):
            yield pa.Table.from_batches([batch])


def write_errors(tree: OutputTree, run_id: str, tables: Iterable[pa.Table]) -> int:
    """Write `errors.csv` of a run, complete or not at all; none where there is no error.

    Args:
        tree: The output.
        run_id: Whose it is.
        tables: Rows in COLUMNS; those without an error_kind are left out.

    Returns:
        How many errors it lists.

    Raises:
        OutputError: The file system failed.
    """
    final = tree.run_path(run_id) / "errors.csv"
    count = 0
    with tree.stage(f"errors-{run_id}") as staged:
        text = io.TextIOWrapper(staged.file, encoding="utf-8", newline="")
        try:
            rows = csv.writer(text, quoting=csv.QUOTE_ALL)
            for number, row in enumerate(_rows(tables)):
                with output_errors("write", final):
                    if number == 0:
                        rows.writerow(COLUMNS)
                    rows.writerow(row)
                count += 1
            with output_errors("write", final):
                text.flush()
        finally:
            with suppress(OSError):  # what was to be said of the disk was said
                text.detach()
        if count:
            tree.replace(staged, final)
        else:
            # An earlier end of a run that was gone on with under its name.
            with output_errors("remove", final):
                final.unlink(missing_ok=True)
    return count


def _rows(tables: Iterable[pa.Table]) -> Iterator[list[str]]:
    for table in tables:
        failed = table.filter(table.column("error_kind").is_valid())
        for uri, *texts in zip(*(failed.column(c).to_pylist() for c in COLUMNS), strict=True):
            yield [uri, *(_harmless(text or "") for text in texts)]


def _harmless(text: str) -> str:
    r"""Write control characters `\xNN`, and an apostrophe before what looks like a formula."""
    one_line = _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)
    return f"'{one_line}" if _FORMULA.match(text) or _FORMULA.match(one_line) else one_line
