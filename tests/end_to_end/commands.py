"""The command as a person runs it, and the table that it leaves."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import partial
from pathlib import Path

import pyarrow.parquet as pq

from shards.place import opened
from shards.trees import open_tree

ROOT = Path(__file__).parent.parent.parent
DIGITS = ROOT / "examples/digits"
MODEL = DIGITS / "model"


def run(*arguments: object, stdin: bytes = b"", timeout: float = 100) -> tuple[int, dict, str]:
    """The command with --direct and --json: its exit code, its JSON, and what it said."""
    command = [sys.executable, "-m", "flows.classify_dir", *map(str, arguments)]
    done = subprocess.run(
        [*command, "--direct", "--json"],
        cwd=ROOT,
        capture_output=True,
        input=stdin,
        timeout=timeout,
    )
    assert b"Traceback" not in done.stderr, done.stderr.decode()
    return done.returncode, json.loads(done.stdout), done.stderr.decode()


run_digits = partial(run, "--model", MODEL)
"""The same, with the example's model."""


def rows(output: object, by: str = "file_name") -> dict[str, dict]:
    """All rows of an output, a directory or in a bucket; no image has two."""
    found = [
        row
        for path in open_tree(str(output)).files()
        for row in pq.ParquetFile(opened(path)).read().to_pylist()
    ]
    assert len({row["uri"] for row in found}) == len(found)
    return {row[by]: row for row in found}
