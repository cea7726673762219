"""The rows of a file of the table, as its footer was when it was looked at.

Runs replace files. Rows that are read later than the footer may be those of another file: of other
images, or with other counts. So the footer is read again with the rows, from one opened file.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq

from shards.footer import FOOTER_KEY, FooterInfo, reading
from shards.place import Place, opened
from shards.seal import is_intact

__all__ = ["ReplacedError", "read_all_rows", "read_columns"]


class ReplacedError(Exception):
    """A file is not the one any more whose footer was looked at, or is gone."""


def read_columns(path: Place, expected: FooterInfo, columns: list[str]) -> pa.Table:
    """Read some columns of a file.

    Args:
        path: The file.
        expected: Its footer.
        columns: Their names.

    Raises:
        DamagedFileError: The file is damaged.
        OutputError: It cannot be read.
        ReplacedError: It has another footer by now.
    """
    return _read(path, expected, columns)


def read_all_rows(path: Place, expected: FooterInfo) -> pa.Table:
    """Read a file whose rows are to be written again.

    They get a new seal, which would hide what has changed in the file. So every byte is held
    against the old one first; files of versions before 1.2 have none.

    Raises:
        DamagedFileError: The file is damaged.
        OutputError: It cannot be read.
        ReplacedError: It has another footer by now.
    """
    return _read(path, expected, None)


def _read(path: Place, expected: FooterInfo, columns: list[str] | None) -> pa.Table:
    try:
        with reading(path), opened(path) as source:
            if columns is None:
                _check_seal(source, expected)
            file = pq.ParquetFile(source, page_checksum_verification=True)
            if FooterInfo.from_json(file.metadata.metadata[FOOTER_KEY]) != expected:
                raise ReplacedError
            return file.read(columns)
    except FileNotFoundError as error:
        raise ReplacedError from error


def _check_seal(source: pa.NativeFile, expected: FooterInfo) -> None:
    intact = is_intact(source)
    source.seek(0)
    if intact is False:
        raise ValueError("its bytes are not those that were written")
    if intact is None and expected.has_seal:
        raise ValueError("it has lost its seal")
