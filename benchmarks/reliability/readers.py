"""Reads a table again and again while runs write it, and holds each read against the plan.

    python -m benchmarks.reliability.readers LIBRARY OUT --reads 10000

LIBRARY is pyarrow, duckdb, polars, or polars-linked: polars on hard links to the files, made for
that read, as `cp -rl` makes them. Prints what it saw as JSON, at the end or when it is told to
end (SIGTERM). Every read takes the whole table as an analyst does, with the file of each row. It is
right if no image has two rows, every file has exactly the rows of its shard, and no file and no
row that was there is gone.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import duckdb
import polars as pl
import pyarrow.dataset as ds
from cyclopts import App

from shards.local_tree import LocalTree
from shards.plan import PlanLog

__all__ = ["READERS", "Seen", "main"]

READS_PER_CONNECTION = 100
Rows = list[tuple[str, str]]
"""The file's name and the image's, for each row."""

app = App(help=__doc__)


@dataclass(slots=True, kw_only=True)
class Seen:
    """What some reads saw.

    Attributes:
        reads: How many there were.
        rows: Rows in all of them.
        errors: What the library raised.
        partial: Reads with a file that had other than its shard's rows.
        twice: Reads with two rows of one image.
        lost: Reads without an image that an earlier read had.
        seconds: From the first to the last.
        examples: The first of whatever was wrong.
    """

    reads: int = 0
    rows: int = 0
    errors: int = 0
    partial: int = 0
    twice: int = 0
    lost: int = 0
    seconds: float = 0.0
    examples: list[str] = field(default_factory=list)


def _pyarrow(out: Path) -> Callable[[], Rows]:
    def read() -> Rows:
        table = ds.dataset(out / "predictions").to_table(columns=["__filename", "file_name"])
        return list(zip(*(column.to_pylist() for column in table.columns), strict=True))

    return read


def _polars(out: Path) -> Callable[[], Rows]:
    def read() -> Rows:
        frame = pl.scan_parquet(str(out / "predictions/**/*.parquet"), include_file_paths="path")
        return frame.select("path", "file_name").collect().rows()

    return read


def _polars_linked(out: Path) -> Callable[[], Rows]:
    def read() -> Rows:
        with tempfile.TemporaryDirectory(dir=out.parent) as folder:
            copy = Path(folder) / "predictions"
            shutil.copytree(out / "predictions", copy, copy_function=os.link)
            return _polars(Path(folder))()

    return read


def _duckdb(out: Path) -> Callable[[], Rows]:
    glob = str(out / "predictions/**/*.parquet")
    connection, reads = duckdb.connect(), 0

    def read() -> Rows:
        nonlocal connection, reads
        reads += 1
        if reads % READS_PER_CONNECTION == 0:
            connection.close()
            connection = duckdb.connect()
        query = "SELECT filename, file_name FROM read_parquet(?, filename = true)"
        return connection.execute(query, [glob]).fetchall()

    return read


READERS = {
    "pyarrow": _pyarrow,
    "duckdb": _duckdb,
    "polars": _polars,
    "polars-linked": _polars_linked,
}


class _Plan:
    """How many rows each shard has; asked of the log once for each shard."""

    def __init__(self, out: Path) -> None:
        self._log = PlanLog(LocalTree(out), tool_version="readers")
        self._rows: dict[str, int] = {}

    def rows(self, shard: str) -> int | None:
        if shard not in self._rows:
            self._rows = {each.id: each.rows for each in self._log.shards()}
        return self._rows.get(shard)


@app.default
def main(library: str, out: Path, *, reads: int) -> None:
    """Read until there were so many reads.

    Args:
        library: One of READERS.
        out: The output.
        reads: Reads.
    """
    stopped = False

    def stop(*_: object) -> None:
        nonlocal stopped
        stopped = True

    signal.signal(signal.SIGTERM, stop)
    while not stopped and not any((out / "predictions").rglob("*.parquet")):
        time.sleep(0.01)
    read, plan, seen = READERS[library](out), _Plan(out), Seen()
    known: set[str] = set()
    began = time.monotonic()
    while not stopped and seen.reads < reads:
        known |= _look(read, plan, seen, known)
    seen.seconds = time.monotonic() - began
    print(json.dumps(asdict(seen)))


def _look(read: Callable[[], Rows], plan: _Plan, seen: Seen, known: set[str]) -> set[str]:
    """Read once and judge it; returns the images that it had."""
    seen.reads += 1
    try:
        rows = read()
    except BaseException as error:  # a panic of polars is no Exception
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise
        seen.errors += 1
        seen.examples = [*seen.examples, f"{type(error).__name__}: {error}"][:5]
        return set()
    seen.rows += len(rows)
    names = {name for _, name in rows}
    partial = [
        f"{path}: {count} rows"
        for path, count in Counter(path for path, _ in rows).items()
        if count != plan.rows(Path(path).stem)
    ]
    seen.partial += bool(partial)
    seen.twice += len(names) < len(rows)
    seen.lost += not known <= names
    if partial or len(names) < len(rows) or not known <= names:
        text = f"{len(rows)} rows of {len(names)} images, {len(known - names)} lost; {partial}"
        seen.examples = [*seen.examples, text][:5]
    return names


if __name__ == "__main__":
    app()
