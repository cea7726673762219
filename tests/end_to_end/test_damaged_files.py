"""A run that meets damaged files of its own table: it does all else, and computes over none."""

from __future__ import annotations

import os

import pyarrow.parquet as pq

from tests.end_to_end.commands import DIGITS, run_digits


def run(images, out):
    return run_digits(images, "--output", out, "--shard-size", "3", "--quiet", timeout=120)


def folder(path):
    path.mkdir()
    found = sorted((DIGITS / "images").rglob("*.png"))[:12]
    for number, image in enumerate(found):
        (path / f"{number:02}.png").write_bytes(image.read_bytes())
    return path


def test_all_other_shards_are_done_and_nothing_is_computed_over_a_damaged_one(tmp_path):
    images, out = folder(tmp_path / "images"), tmp_path / "out"
    code, summary, _ = run(images, out)
    assert (code, summary["images"]) == (0, 12)
    cut, rotten, gone, _ = sorted((out / "predictions").rglob("*.parquet"))
    os.truncate(cut, cut.stat().st_size - 9)
    # In its footer, where a reader notices nothing; and an image of it has changed.
    rotten.write_bytes(rotten.read_bytes().replace(b"parquet-cpp-arrow", b"parquet-cpp-arroz"))
    assert pq.read_table(rotten).num_rows == 3
    os.utime(images / "04.png", (1, 1))
    gone.unlink()
    damaged = {path: path.read_bytes() for path in (cut, rotten)}

    code, summary, log = run(images, out)
    assert (code, summary["status"]) == (1, "failed")
    assert summary["failed_shards"].keys() == {cut.stem, rotten.stem}
    for path, content in damaged.items():
        assert f"{path} is damaged" in summary["failed_shards"][path.stem]
        assert "Move it away and run the same command again" in log
        assert path.read_bytes() == content
    assert pq.read_table(gone).num_rows == 3
    assert (summary["rows_written"], summary["missing"]) == (3, 3)

    for path in damaged:
        path.rename(tmp_path / path.name)
    code, summary, _ = run(images, out)
    assert (code, summary["images"], summary["rows_written"]) == (0, 12, 6)
