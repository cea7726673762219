"""Kills overlapping runs at random moments, under the eyes of readers; counts what is wrong.

    python -m benchmarks.reliability.kills [--kills 200] [--reads 50000] [--json FILE]

Two runs are always under way on one output; every some milliseconds one of them is killed
(kill -9), and another begins. First with forked runs that make rows up: of new images alone, which
publish new files; then also of images that changed, and with --overwrite, which replace files. Once
such a table has all its images, an undisturbed run must complete it, and another one find nothing;
then a new table begins, so there is always something written. Then with the command itself, its
device process and decoders, over images some of which change. All the while three processes read
the whole table with pyarrow, DuckDB and polars. Killing goes on until the reads are done, too, or
the time is over; after the kills that were asked for, at half the pace, for the readers need
processors as well.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from benchmarks.machine import facts
from benchmarks.reliability.kill_loops import Aim, Figures, Ground, kill_all
from benchmarks.reliability.readers import READERS

__all__ = ["main", "report"]

PLAIN = ("pyarrow", "duckdb", "polars")
"""Readers, of what lies there; where files are replaced, also of hard links to it."""

MOST_IMAGES = 60
"""A small table is read often, in some milliseconds."""
PAUSE_S = 0.06

app = App(help=__doc__)


@app.default
def main(aim: Annotated[Aim | None, Parameter(name="*")] = None) -> None:
    """Print two tables; exit code 1 if anything was wrong."""
    aim = aim or Aim()
    with tempfile.TemporaryDirectory() as place:
        figures = kill_all(aim, partial(_ground, Path(place)), _rows)
    report(figures, facts(["pyarrow", "duckdb", "polars"]), aim.json_file)


def _ground(place: Path, name: str) -> Ground:
    folder = place / name
    return Ground(
        outs=str(folder / "outs"),
        folder=folder,
        readers="benchmarks.reliability.readers",
        names=[*PLAIN, "polars-linked"] if name == "replacing" else PLAIN,
        most_images=MOST_IMAGES,
        pause_s=PAUSE_S,
    )


def _rows(out: str) -> list[str]:
    return [name for _, name, _ in READERS["pyarrow"](Path(out))()]


def report(figures: dict[str, Figures], about: dict[str, object], json_file: Path | None) -> None:
    """Print what was found, and end with exit code 1 if anything was wrong.

    Args:
        figures: By kind of run.
        about: What was measured on.
        json_file: Where all of it goes.
    """
    columns = ("killed", "ended", "tables", "images", "lost", "other mistakes", "s")
    print("| runs | " + " | ".join(columns) + " |\n|" + "---|" * 8)
    for name, each in figures.items():
        counts = (each.kills, sum(each.ended.values()), each.tables, each.images, each.missing)
        cells = [name, *map(str, counts), str(len(each.wrong)), f"{each.seconds:.0f}"]
        print("| " + " | ".join(cells) + " |")
    columns = ("reads", "changed", "errors", "partial", "twice", "lost")
    print("\n| runs | reader | " + " | ".join(columns) + " |\n|" + "---|" * 8)
    for name, each in figures.items():
        for reader, seen in each.reads.items():
            print(
                f"| {name} | {reader} | " + " | ".join(f"{seen[key]:,}" for key in columns) + " |"
            )
            each.wrong += [f"{reader}: {text}" for text in seen["examples"]]
    if json_file is not None:
        found = {name: asdict(each) for name, each in figures.items()}
        json_file.write_text(json.dumps(about | {"figures": found}, indent=2) + "\n")
    wrong = [f"{name}: {text}" for name, each in figures.items() for text in each.wrong]
    print("\n".join(wrong))
    if wrong or any(each.missing for each in figures.values()):
        raise SystemExit(1)


if __name__ == "__main__":
    app()
