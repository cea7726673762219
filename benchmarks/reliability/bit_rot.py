"""Damages files of a table in every way that disks and people do, and counts what verify names.

    python -m benchmarks.reliability.bit_rot [--flips 1000] [--json FILE]

Each damage is done to a right output, which is checked and made right again. It counts as found
only if the check names the damaged file, and no other. Beside it: how many of the same flipped
bits a reader finds with page checksums alone, which PyArrow checks if it is told to.
"""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import cyclopts
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.machine import facts
from benchmarks.reliability.synthetic import write_output
from shards.output import OutputTree
from shards.verify_table import check_table

__all__ = ["DAMAGES", "Figures", "damage", "main", "read_all"]


@dataclass(slots=True, kw_only=True)
class Figures:
    """What became of some damages.

    Attributes:
        tried: How many there were.
        found: Those that were found, and named with the right file.
        by_page_checksums: Those that reading with page checksums finds; None where not tried.
    """

    tried: int = 0
    found: int = 0
    by_page_checksums: int | None = None


def _flip(path: Path, choose: random.Random) -> list[Path]:
    content = bytearray(path.read_bytes())
    content[choose.randrange(len(content))] ^= 1 << choose.randrange(8)
    path.write_bytes(content)
    return [path]


def _cut(path: Path, choose: random.Random) -> list[Path]:
    path.write_bytes(path.read_bytes()[: choose.randrange(path.stat().st_size)])
    return [path]


def _zero(path: Path, choose: random.Random) -> list[Path]:
    """A lost sector."""
    content = bytearray(path.read_bytes())
    at = choose.randrange(len(content) // 512) * 512
    content[at : at + 512] = bytes(len(content[at : at + 512]))
    path.write_bytes(content)
    return [path]


def _swap(path: Path, choose: random.Random) -> list[Path]:
    other = choose.choice([each for each in path.parent.iterdir() if each != path])
    content = path.read_bytes()
    path.write_bytes(other.read_bytes())
    other.write_bytes(content)
    return [path, other]


def _copy(path: Path, choose: random.Random) -> list[Path]:
    extra = path.with_name(f"p{choose.randrange(2, 999_999):06d}-00000.parquet")
    shutil.copyfile(path, extra)
    return [extra]


DAMAGES: dict[str, Callable[[Path, random.Random], list[Path]]] = {
    "one bit flipped": _flip,
    "cut short": _cut,
    "512 bytes zeroed": _zero,
    "two files swapped": _swap,
    "copied under another name": _copy,
}
"""Each damages a file of the table, and returns the files that are wrong then."""


def main(
    *, flips: int = 1000, json_file: Annotated[Path | None, cyclopts.Parameter("--json")] = None
) -> None:
    """Print a table; exit code 1 if anything was not found.

    Args:
        flips: Bits to flip; a tenth as many of each other damage.
        json_file: Where the figures go.
    """
    figures: dict[str, Figures] = {}
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        tree = write_output(Path(folder, "out"), images=3000, shard_size=1000)
        for name in DAMAGES:
            count = flips if name == "one bit flipped" else max(1, flips // 10)
            figures[name] = damage(tree, name, count)
        deleted = figures["deleted"] = Figures(tried=1)
        next(tree.predictions.rglob("*.parquet")).unlink()
        report = check_table(tree, quick=False, workers=2)
        [model] = report.models.values()
        deleted.found = int((model.missing, report.findings) == (1, ()))
    print("| damage | tried | found and named | by page checksums alone |\n|---|---:|---:|---:|")
    for name, each in figures.items():
        beside = "" if each.by_page_checksums is None else f"{each.by_page_checksums:,}"
        print(f"| {name} | {each.tried:,} | {each.found:,} | {beside} |")
    print(f"\nin {time.monotonic() - started:.0f} s")
    if json_file is not None:
        found = {name: asdict(each) for name, each in figures.items()}
        json_file.write_text(json.dumps(facts(["pyarrow"]) | {"figures": found}, indent=2) + "\n")
    if any(each.found < each.tried for each in figures.values()):
        raise SystemExit(1)


def damage(tree: OutputTree, name: str, count: int, *, seed: int = 0) -> Figures:
    """Do one kind of damage again and again, each time to a right output.

    Args:
        tree: A right output; right again afterwards.
        name: Of the damage.
        count: How often.
        seed: Of the places.
    """
    choose = random.Random(seed)
    files = sorted(tree.predictions.rglob("*.parquet"))
    right = {path: path.read_bytes() for path in files}
    figures = Figures()
    with tempfile.TemporaryDirectory() as kept:
        for number in range(count):
            path = choose.choice(files)
            wrong = DAMAGES[name](path, choose)
            figures.tried += 1
            found = {finding.path for finding in check_table(tree, quick=False, workers=2).findings}
            figures.found += found == set(map(str, wrong))
            shutil.copyfile(path, Path(kept, f"{number:06d}"))
            for each in wrong:
                if each in right:
                    each.write_bytes(right[each])
                else:
                    each.unlink()
        if name == "one bit flipped":
            figures.by_page_checksums = _refused_by_readers(sorted(Path(kept).iterdir()))
    return figures


def _refused_by_readers(paths: list[Path]) -> int:
    """Read files with page checksums, in a process that a damaged file may crash."""
    refused = 0
    while paths:
        code = "from benchmarks.reliability.bit_rot import read_all; read_all()"
        done = subprocess.run(
            [sys.executable, "-c", code],
            input="\n".join(map(str, paths)),
            capture_output=True,
            text=True,
            check=False,
        )
        words = done.stdout.split()
        refused += words.count("refused") + (len(words) < len(paths))
        paths = paths[len(words) + 1 :]
    return refused


def read_all() -> None:
    """Print for each file that stdin names whether PyArrow reads it."""
    for path in sys.stdin.read().splitlines():
        try:
            pq.read_table(pa.OSFile(path), page_checksum_verification=True)
        except (OSError, ValueError, KeyError, pa.ArrowException):
            print("refused", flush=True)
        else:
            print("read", flush=True)


if __name__ == "__main__":
    cyclopts.run(main)
