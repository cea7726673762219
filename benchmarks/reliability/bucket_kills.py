"""Kills overlapping runs with their output in a bucket, under the eyes of readers.

    python -m benchmarks.reliability.bucket_kills [--kills 200] [--json FILE]

As kills.py does with directories: two runs are always under way on one output; one of them is
killed (kill -9) at random, and another begins. Forked runs that publish new objects, then such that
replace objects, too, then the command itself. Readers are pyarrow, DuckDB and polars, each by its
own way to S3. The server is moto, in a process of its own (bucket_server.py): some hundred requests
a second for all of them together.
"""

from __future__ import annotations

import random
import tempfile
import time
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from benchmarks.machine import facts
from benchmarks.reliability.bucket_readers import READERS
from benchmarks.reliability.bucket_server import BUCKET_URI, bucket_server
from benchmarks.reliability.kill_loops import Aim, Ground, kill_commands, kill_forked
from benchmarks.reliability.kills import report

__all__ = ["main"]

MOST_IMAGES = 30
PAUSE_S = 0.5
"""A run makes some 30 to 60 requests."""

app = App(help=__doc__)


@app.default
def main(
    *,
    kills: int = 200,
    reads: int = 300,
    limit: float = 300,
    commands: int = 20,
    seed: int = 0,
    json_file: Annotated[Path | None, Parameter(name="--json")] = None,
) -> None:
    """Print two tables; exit code 1 if anything was wrong.

    Args:
        kills: Of forked runs, at least; 0 for none of these.
        reads: Of the table meanwhile, for each kind of run, by all libraries together.
        limit: Seconds after which no more reads are waited for.
        commands: Kills of the command.
        seed: Of the moments.
        json_file: Where the figures go.
    """
    figures, choose, began = {}, random.Random(seed), time.monotonic()
    with tempfile.TemporaryDirectory() as place, bucket_server() as server:
        aim = Aim(kills=kills, reads=reads, limit=limit)
        for name in ("publishing", "replacing") if kills else ():
            ground = _ground(Path(place), name)
            figures[name] = kill_forked(ground, aim, choose, replacing=name == "replacing")
        if commands:
            ground = _ground(Path(place), "commands")
            figures["the command"] = kill_commands(ground, commands, reads, choose, _rows)
        about = facts(["moto", "obstore", "pyarrow", "duckdb", "polars"]) | {
            "requests": server.requests(),
            "seconds": time.monotonic() - began,
        }
    report(figures, about, json_file)


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
