"""Reads tables again and again while runs write them, and holds each read against the plan.

    python -m benchmarks.reliability.readers LIBRARY FOLDER --reads 10000

LIBRARY is pyarrow, duckdb, polars, or polars-linked: polars on hard links to the files, made for
that read, as `cp -rl` makes them. FOLDER holds outputs; read is the one whose name is last, once it
has a file. Prints what it saw as JSON, at the end or when it is told to end (SIGTERM). Every read
takes the whole table as an analyst does, with the file of each row. It is right if no image has two
rows, every file has exactly the rows of its shard, and no file and no row that was there is gone.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TypeVar

import duckdb
import polars as pl
import pyarrow.dataset as ds
from cyclopts import App

from shards.local_tree import LocalTree
from shards.output import OutputTree
from shards.plan import PlanLog

__all__ = [
    "DUCKDB_QUERY",
    "READERS",
    "Read",
    "Rows",
    "Seen",
    "Watch",
    "duckdb_connections",
    "main",
    "watch",
]

READS_PER_CONNECTION = 100
DUCKDB_QUERY = "SELECT filename, file_name, run_id FROM read_parquet(?, filename = true)"
Rows = list[tuple[str, str, str]]
"""For each row: the file's name, the image's, and the run that wrote it."""
Read = Callable[[], Rows]
Tree = TypeVar("Tree", bound=OutputTree)

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
        changed: Reads that saw another table than the one before.
        seconds: From the first to the last.
        examples: The first of whatever was wrong.
    """

    reads: int = 0
    rows: int = 0
    errors: int = 0
    partial: int = 0
    twice: int = 0
    lost: int = 0
    changed: int = 0
    seconds: float = 0.0
    examples: list[str] = field(default_factory=list)


def _pyarrow(out: Path) -> Read:
    def read() -> Rows:
        columns = ["__filename", "file_name", "run_id"]
        table = ds.dataset(out / "predictions").to_table(columns=columns)
        return list(zip(*(column.to_pylist() for column in table.columns), strict=True))

    return read


def _polars(out: Path) -> Read:
    def read() -> Rows:
        frame = pl.scan_parquet(str(out / "predictions/**/*.parquet"), include_file_paths="path")
        return frame.select("path", "file_name", "run_id").collect().rows()

    return read


def _polars_linked(out: Path) -> Read:
    def read() -> Rows:
        with tempfile.TemporaryDirectory(dir=out.parent.parent) as folder:
            copy = Path(folder) / "predictions"
            shutil.copytree(out / "predictions", copy, copy_function=os.link)
            rows = _polars(Path(folder))()
        return [(path.rpartition("/")[2], name, run) for path, name, run in rows]

    return read


def _duckdb(out: Path) -> Read:
    glob = str(out / "predictions/**/*.parquet")
    connections = duckdb_connections(READS_PER_CONNECTION)
    return lambda: next(connections).execute(DUCKDB_QUERY, [glob]).fetchall()


def duckdb_connections(
    reads: int, prepare: Callable[[duckdb.DuckDBPyConnection], None] = lambda _: None
) -> Iterator[duckdb.DuckDBPyConnection]:
    """Yield a connection for each read, another one after so many, as analysts come and go."""
    while True:
        with duckdb.connect() as connection:
            prepare(connection)
            for _ in range(reads):
                yield connection


READERS = {
    "pyarrow": _pyarrow,
    "duckdb": _duckdb,
    "polars": _polars,
    "polars-linked": _polars_linked,
}


class Watch:
    """One output, read over and over."""

    def __init__(self, read: Read, tree: OutputTree, seen: Seen) -> None:
        """Count in `seen` what is read."""
        self._read, self._seen = read, seen
        self._log = PlanLog(tree, tool_version="readers")
        self._shards: dict[str, int] = {}
        self._known: set[str] = set()
        self._last: Rows = []

    def look(self) -> None:
        """Read once, and judge it."""
        seen = self._seen
        seen.reads += 1
        try:
            rows = sorted(self._read())
        except BaseException as error:  # a panic of polars is no Exception
            if isinstance(error, KeyboardInterrupt | SystemExit):
                raise
            seen.errors += 1
            self._tell(f"{type(error).__name__}: {error}")
            return
        seen.rows += len(rows)
        seen.changed += rows != self._last
        self._last = rows
        self._judge(rows)

    def _judge(self, rows: Rows) -> None:
        """Hold rows against the plan, and against what was there before."""
        names = {name for _, name, _ in rows}
        partial = [
            f"{path}: {count} rows"
            for path, count in Counter(path for path, _, _ in rows).items()
            if count != self._planned(Path(path).stem)
        ]
        twice, lost = len(rows) - len(names), len(self._known - names)
        self._seen.partial += bool(partial)
        self._seen.twice += bool(twice)
        self._seen.lost += bool(lost)
        if partial or twice or lost:
            self._tell(f"{len(rows)} rows, {twice} of them twice, {lost} lost; {partial}")
        self._known |= names

    def _planned(self, shard: str) -> int | None:
        """How many rows a shard has; the log is read again where it is a new one."""
        if shard not in self._shards:
            self._shards = {each.id: each.rows for each in self._log.shards()}
        return self._shards.get(shard)

    def _tell(self, text: str) -> None:
        self._seen.examples = [*self._seen.examples, text][:5]


@app.default
def main(library: str, folder: Path, *, reads: int) -> None:
    """Read until there were so many reads.

    Args:
        library: One of READERS.
        folder: Holds outputs.
        reads: Reads.
    """

    def newest() -> LocalTree | None:
        outs = folder.iterdir() if folder.is_dir() else ()
        return max(map(LocalTree, outs), key=lambda tree: tree.root, default=None)

    watch(newest, lambda tree: READERS[library](tree.root), reads)


def watch(newest: Callable[[], Tree | None], reader: Callable[[Tree], Read], reads: int) -> None:
    """Read whatever is newest, until there were so many reads or SIGTERM; print what was seen.

    Args:
        newest: Finds the output that was begun last.
        reader: Makes what reads it.
        reads: Reads.
    """
    seen, stopped = Seen(), stopping()
    began, read, one = time.monotonic(), None, None
    while not stopped() and seen.reads < reads:
        tree = newest()
        if tree is not None and tree != read and any(tree.files()):
            read, one = tree, Watch(reader(tree), tree, seen)
        if one is None:
            time.sleep(0.01)
            began = time.monotonic()
            continue
        one.look()
    seen.seconds = time.monotonic() - began
    print(json.dumps(asdict(seen)))


def stopping() -> Callable[[], bool]:
    """Wait for SIGTERM from now on; returns whether it has come."""
    came: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: came.append(number))
    return lambda: bool(came)


if __name__ == "__main__":
    app()
