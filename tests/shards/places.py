"""Doing to a file of an output, in a directory or a bucket, what no Nightshift does."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq

from shards.object_path import ObjectPath
from shards.object_write import overwrite
from shards.place import Place, opened


def write(place: Place, content: bytes) -> None:
    """Put bytes under a name, in place of what is there."""
    if isinstance(place, ObjectPath):
        overwrite(content, place)
    else:
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)


def write_table(place: Place, table: pa.Table) -> None:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    write(place, sink.getvalue().to_pybytes())


def parquet_file(place: Place) -> pq.ParquetFile:
    return pq.ParquetFile(opened(place))
