"""Kills overlapping runs with their output in a bucket, under the eyes of readers.

    python -m benchmarks.reliability.bucket_kills [--kills 200] [--json FILE]

As kills.py does with directories: two runs are always under way on one output; one of them is
killed (kill -9) at random, and another begins. Forked runs that publish new objects, then such that
replace objects, too, then the command itself. Readers are pyarrow, DuckDB and polars, each by its
own way to S3. The server is moto, in a process of its own (bucket_server.py): some hundred requests
a second for all of them together.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from benchmarks.machine import facts
from benchmarks.reliability.bucket_readers import READERS
from benchmarks.reliability.bucket_server import BUCKET_URI, bucket_server
from benchmarks.reliability.kill_loops import Aim, Ground, kill_all
from benchmarks.reliability.kills import report

__all__ = ["main"]

MOST_IMAGES = 30
PAUSE_S = 0.5
"""A run makes some 30 to 60 requests."""

app = App(help=__doc__)


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketAim(Aim):
    """When enough was done; a read takes much longer than of files."""

    reads: int = 300
    limit: float = 300


@app.default
def main(aim: Annotated[BucketAim | None, Parameter(name="*")] = None) -> None:
    """Print two tables; exit code 1 if anything was wrong."""
    aim = aim or BucketAim()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as place, bucket_server() as server:
        figures = kill_all(aim, partial(_ground, Path(place)), _rows)
        about = facts(["moto", "obstore", "pyarrow", "duckdb", "polars"]) | {
            "requests": server.requests(),
            "seconds": time.monotonic() - began,
        }
    report(figures, about, aim.json_file)


def _ground(place: Path, name: str) -> Ground:
    return Ground(
        outs=f"{BUCKET_URI}/{name}",
        folder=place / name,
        readers="benchmarks.reliability.bucket_readers",
        names=list(READERS),
        most_images=MOST_IMAGES,
        pause_s=PAUSE_S,
    )


def _rows(out: str) -> list[str]:
    return [name for _, name, _ in READERS["pyarrow"](out)()]


if __name__ == "__main__":
    app()
