"""What verify names is what the next run mends: a real table, damaged, checked and completed."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq

ROOT = Path(__file__).parent.parent.parent
DIGITS = ROOT / "examples" / "digits"


def run(command, *arguments):
    done = subprocess.run(
        [sys.executable, "-m", f"flows.{command}", *map(str, arguments), "--json", "--quiet"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, json.loads(done.stdout)


def test_what_is_damaged_is_named_moved_away_computed_again_and_compacted(tmp_path):
    out = tmp_path / "out"
    classify = (
        *("classify_dir", DIGITS / "images", "-m", DIGITS / "model", "-o", out),
        *("--direct", "--shard-size", 20),
    )
    code, summary = run(*classify)
    assert code == 0
    code, found = run("verify", out)
    assert (code, found["status"], found["images"]) == (0, "fine", summary["images"])
    [model] = found["models"].values()
    assert (model["rows"], model["ok"], model["missing"]) == (summary["images"], summary["ok"], 0)
    assert found["runs"] == 1

    files = sorted((out / "predictions").rglob("*.parquet"))
    assert len(files) > 2
    content = bytearray(files[0].read_bytes())
    content[len(content) // 3] ^= 16
    files[0].write_bytes(content)
    shutil.copyfile(files[1], files[2])
    code, found = run("verify", out)
    assert code == 1
    named = {finding["path"]: finding["problem"] for finding in found["findings"]}
    assert named == {str(files[0]): "damaged_file", str(files[2]): "wrong_work"}

    for path in named:
        Path(path).unlink()
    code, again = run(*classify)
    assert (code, again["images"]) == (0, summary["images"])
    assert 0 < again["rows_written"] < summary["images"]
    assert run("verify", out)[0] == 0

    code, written = run("compact", out, tmp_path / "large")
    assert (code, written["rows"]) == (0, summary["images"])
    large = pq.read_table(tmp_path / "large").sort_by("uri")
    small = pq.read_table(out / "predictions").sort_by("uri")
    assert large.select(small.column_names).equals(small)
