"""Reads tables in a bucket again and again while runs write them, as readers.py does on a disk.

    python -m benchmarks.reliability.bucket_readers LIBRARY s3://bucket/folder --reads 1000

LIBRARY is pyarrow, with its own S3 file system; polars, with its own object store; or duckdb, whose
extension for S3 has to be downloaded, with obstore's file system and a list of files instead (that
file system's glob takes no s3://). Where the server is and who we are, AWS_ENDPOINT_URL and so on
say.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import duckdb
import polars as pl
import pyarrow.dataset as ds
import pyarrow.fs
from cyclopts import App
from obstore.fsspec import FsspecStore

from benchmarks.reliability.readers import DUCKDB_QUERY, Read, Rows, duckdb_connections, watch
from shards.object_path import ObjectPath
from shards.output import OutputTree
from shards.trees import open_tree

__all__ = ["READERS", "main"]

READS_PER_CONNECTION = 20
COLUMNS = ("file_name", "run_id")

app = App(help=__doc__)


def _pyarrow(out: str) -> Read:
    files = pyarrow.fs.S3FileSystem(
        access_key=os.environ["AWS_ACCESS_KEY_ID"],
        secret_key=os.environ["AWS_SECRET_ACCESS_KEY"],
        region=os.environ["AWS_DEFAULT_REGION"],
        endpoint_override=os.environ["AWS_ENDPOINT_URL"],
    )
    place = out.removeprefix("s3://") + "/predictions"

    def read() -> Rows:
        table = ds.dataset(place, filesystem=files).to_table(columns=["__filename", *COLUMNS])
        return list(zip(*(column.to_pylist() for column in table.columns), strict=True))

    return read


def _polars(out: str) -> Read:
    options = {
        "aws_access_key_id": os.environ["AWS_ACCESS_KEY_ID"],
        "aws_secret_access_key": os.environ["AWS_SECRET_ACCESS_KEY"],
        "aws_region": os.environ["AWS_DEFAULT_REGION"],
        "aws_endpoint_url": os.environ["AWS_ENDPOINT_URL"],
        "aws_allow_http": "true",
    }
    glob = out + "/predictions/**/*.parquet"

    def read() -> Rows:
        frame = pl.scan_parquet(glob, include_file_paths="path", storage_options=options)
        return frame.select("path", *COLUMNS).collect().rows()

    return read


def _duckdb(out: str) -> Read:
    files = _file_system()

    def prepare(connection: duckdb.DuckDBPyConnection) -> None:
        connection.register_filesystem(files)

    connections = duckdb_connections(READS_PER_CONNECTION, prepare)

    def read() -> Rows:
        files.invalidate_cache()  # of listings
        found = [f"s3://{name}" for name in files.find(out + "/predictions")]
        return next(connections).execute(DUCKDB_QUERY, [found]).fetchall()

    return read


def _file_system() -> FsspecStore:
    return FsspecStore(
        "s3",
        config={"endpoint": os.environ["AWS_ENDPOINT_URL"]},
        client_options={"allow_http": True},
    )


READERS: dict[str, Callable[[str], Read]] = {
    "pyarrow": _pyarrow,
    "duckdb": _duckdb,
    "polars": _polars,
}


@app.default
def main(library: str, folder: str, *, reads: int) -> None:
    """Read until there were so many reads.

    Args:
        library: One of READERS.
        folder: Holds outputs; read is the one whose name is last, once it has a file.
        reads: Reads.
    """

    def newest() -> OutputTree | None:
        out = max(ObjectPath.of(folder).iterdir(), default=None)
        return None if out is None else open_tree(str(out))

    watch(newest, lambda tree: READERS[library](str(tree.root)), reads)


if __name__ == "__main__":
    app()
