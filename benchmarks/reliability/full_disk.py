"""Fills a small disk with a run, enlarges it, and goes on: nothing finished is done again.

    python -m benchmarks.reliability.full_disk [--kilobytes 300] [--json FILE]

Needs root on Linux, to mount a tmpfs. The command writes its output there until the disk is full;
it must end with exit code 1 and say so, leave nothing in staging, and a table of whole files. After
the disk is enlarged, the same command must complete the table, and write the rows that were not
there and no more. Then the disk is filled once more, by a run that finds all images changed: all
old rows must stay until there is room for the new ones.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter

from benchmarks.machine import facts
from benchmarks.reliability.example_runs import ROOT, command, copy_images
from shards.local_tree import LocalTree
from shards.verify_table import check_table

__all__ = ["main"]

IMAGES = 2000
SHARD_SIZE = 40
LARGE = 64 << 20
SPARE_KB = 60
"""Room for the second filling: for some files, and not for all."""

app = App(help=__doc__)


@app.default
def main(
    *, kilobytes: int = 300, json_file: Annotated[Path | None, Parameter(name="--json")] = None
) -> None:
    """Print a table; exit code 1 if anything went wrong.

    Args:
        kilobytes: Size of the disk.
        json_file: Where the figures go.
    """
    with tempfile.TemporaryDirectory() as folder:
        images = copy_images(Path(folder, "images"), IMAGES)
        disk = Path(folder, "disk")
        disk.mkdir()
        with _mounted(disk, kilobytes << 10):
            out = disk / "out"
            work = command(images[0].parent, out, "--shard-size", str(SHARD_SIZE))
            rows = [_fill_and_go_on(disk, out, work, "new images")]
            for path in images:
                os.utime(path)
            _resize(disk, _used(disk) + (SPARE_KB << 10))
            rows.append(_fill_and_go_on(disk, out, work, "all images changed"))
    columns = [name for name in rows[0] if name != "message"]
    print("| " + " | ".join(columns) + " |\n|" + "---|" * len(columns))
    for row in rows:
        print("| " + " | ".join(str(row[name]) for name in columns) + " |")
    print(f"\n{rows[0]['message']}")
    if json_file is not None:
        json_file.write_text(json.dumps(facts(["pyarrow"]) | {"figures": rows}, indent=2) + "\n")
    if any(row["wrong"] for row in rows):
        raise SystemExit(1)


@contextmanager
def _mounted(disk: Path, size: int) -> Iterator[None]:
    """Mount a file system in memory, for the length of the block."""
    _as_root(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(disk)])
    try:
        yield
    finally:
        _as_root(["umount", str(disk)])


def _resize(disk: Path, size: int) -> None:
    _as_root(["mount", "-o", f"remount,size={size}", str(disk)])


def _as_root(order: list[str]) -> None:
    done = subprocess.run(order, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{order[0]}: {done.stderr.strip()}. Run this script as root.")


def _used(disk: Path) -> int:
    status = os.statvfs(disk)
    return (status.f_blocks - status.f_bfree) * status.f_frsize


def _fill_and_go_on(disk: Path, out: Path, work: list[str], name: str) -> dict[str, Any]:
    """Run until the disk is full, enlarge it, run again; returns a line of the table."""
    held = _rows(out)
    full = _run(work)
    wrong = []
    if full.returncode != 1 or "The disk is full" not in full.stderr or "Traceback" in full.stderr:
        wrong.append(f"exit code {full.returncode}: {full.stderr}")
    if left := list(LocalTree(out).staging.iterdir()):
        wrong.append(f"left in staging: {left}")
    committed, at_full = _state(out, wrong)
    if at_full < held:
        wrong.append(f"{held - at_full} rows lost")
    _resize(disk, LARGE)
    resumed = _run(work)
    summary = json.loads(resumed.stdout) if resumed.returncode == 0 else {}
    written, skipped = summary.get("rows_written"), summary.get("skipped")
    if (written, skipped) != (IMAGES - committed, committed):
        wrong.append(f"wrote {written}, skipped {skipped}: {resumed.stderr}")
    again = _run(work)
    if again.returncode != 0 or json.loads(again.stdout)["rows_written"] != 0:
        wrong.append(f"not finished: {again.stdout} {again.stderr}")
    if _state(out, wrong) != (IMAGES, IMAGES):
        wrong.append("the table is not complete")
    print("\n".join(wrong))
    return {
        "run": name,
        "rows there when full": at_full,
        "of them new": committed,
        "computed after": written,
        "rows at last": _rows(out),
        "wrong": len(wrong),
        "message": full.stderr.strip().splitlines()[-1],
    }


def _run(work: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(work, cwd=ROOT, capture_output=True, text=True, check=False)


def _state(out: Path, wrong: list[str]) -> tuple[int, int]:
    """Check the table; returns rows that are up to date, and all rows."""
    report = check_table(LocalTree(out), quick=False, workers=1)
    wrong += map(str, report.findings)
    [model] = report.models.values()
    return model.done * SHARD_SIZE, model.rows


def _rows(out: Path) -> int:
    """Rows of the table; none where there is no output yet."""
    return _state(out, [])[1] if out.exists() else 0


if __name__ == "__main__":
    app()
