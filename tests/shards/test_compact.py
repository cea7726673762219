"""The table in few large files: the same rows, from a moment of each shard, all or nothing."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import duckdb
import polars as pl
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from shards import compact as module
from shards.compact import COMPACT_KEY, compact, parts_of
from shards.errors import OutputError
from shards.footer import FOOTER_KEY
from shards.plan import PlanLog
from shards.seal import is_intact
from tests.shards.factories import MODEL_ID
from tests.shards.outputs import OTHER_MODEL, make_output, names, put_shard

READERS = {
    "duckdb": lambda glob: duckdb.sql(
        f"SELECT uri, label, score, topk, model FROM read_parquet('{glob}', hive_partitioning=true)"
    ).fetchall(),
    "polars": lambda glob: (
        pl.scan_parquet(glob, hive_partitioning=True)
        .select("uri", "label", "score", "topk", "model")
        .collect()
        .rows()
    ),
    "pyarrow": lambda glob: [
        tuple(row.values())
        for row in ds.dataset(glob.removesuffix("/**/*.parquet"), partitioning="hive")
        .to_table(["uri", "label", "score", "topk", "model"])
        .to_pylist()
    ],
}


@pytest.fixture
def tree(tmp_path):
    nights = [names(*range(0, 20, 2)), names(*range(20))]
    return make_output(tmp_path / "out", nights, models=(MODEL_ID, OTHER_MODEL))


def run(tree, target, *, model_id=None, rows_per_file=9, workers=2):
    parts = parts_of(tree, model_id=model_id, rows_per_file=rows_per_file)
    return compact(tree, parts, target, workers=workers, tool_version="0.1.0")


def files_in(target: Path) -> list[str]:
    return sorted(str(path.relative_to(target)) for path in target.rglob("*") if path.is_file())


@pytest.mark.parametrize("reader", READERS)
def test_every_reader_finds_the_same_rows(tree, tmp_path, reader):
    run(tree, tmp_path / "large")
    read = READERS[reader]
    key = lambda row: (row[4], row[0])  # noqa: E731
    before = sorted(read(f"{tree.predictions}/**/*.parquet"), key=key)
    assert len(before) == 40
    assert sorted(read(f"{tmp_path}/large/**/*.parquet"), key=key) == before


def test_files_hold_whole_shards_up_to_the_limit(tree, tmp_path):
    written = run(tree, tmp_path / "large", rows_per_file=9)
    assert files_in(tmp_path / "large") == [
        f"model={model}/part-0000{number}.parquet"
        for model in (MODEL_ID, OTHER_MODEL)
        for number in range(3)
    ]
    assert [file.rows for file in written if file.model_id == MODEL_ID] == [8, 6, 6]
    assert [file.shards for file in written] == [2, 2, 2] * 2


def test_a_shard_larger_than_the_limit_is_a_file(tree, tmp_path):
    written = run(tree, tmp_path / "large", rows_per_file=1, model_id=MODEL_ID)
    assert [file.rows for file in written] == [4, 4, 2, 4, 4, 2]


def test_footers_say_what_the_rows_are_of_and_files_are_sealed(tree, tmp_path):
    run(tree, tmp_path / "large", rows_per_file=100, model_id=MODEL_ID)
    [path] = (tmp_path / "large").rglob("*.parquet")
    with path.open("rb") as file:
        assert is_intact(file)
    entry = json.loads(pq.read_metadata(path).metadata[COMPACT_KEY])
    assert (entry["rows"], entry["ok"], entry["errors_by_kind"]) == (20, 14, {"empty": 6})
    assert [(file["shard"], file["rows"]) for file in entry["files"]] == [
        ("p000001-00000", 4),
        ("p000001-00001", 4),
        ("p000001-00002", 2),
        ("p000002-00000", 4),
        ("p000002-00001", 4),
        ("p000002-00002", 2),
    ]
    footer = json.loads(
        pq.read_metadata(tree.shard_path(MODEL_ID, "p000001-00000")).metadata[FOOTER_KEY]
    )
    assert entry["files"][0]["work_key"] == footer["work_key"]
    [way] = entry["provenance"]
    assert way.items() <= footer.items()
    first = pq.ParquetFile(tree.shard_path(MODEL_ID, "p000001-00000")).schema_arrow
    assert pq.ParquetFile(path).schema_arrow.equals(first)


def test_row_groups_are_of_the_tables_size(tree, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "ROW_GROUP_ROWS", 8 + module.BATCH_ROWS - 1)
    run(tree, tmp_path / "large", rows_per_file=100, model_id=MODEL_ID)
    [path] = (tmp_path / "large").rglob("*.parquet")
    metadata = pq.read_metadata(path)
    assert [metadata.row_group(n).num_rows for n in range(metadata.num_row_groups)] == [8, 10, 2]


def test_an_empty_directory_is_taken_and_another_is_not(tree, tmp_path):
    target = tmp_path / "large"
    target.mkdir()
    run(tree, target)
    before = files_in(target)
    with pytest.raises(OutputError, match="large"):
        run(tree, target)
    assert files_in(target) == before
    assert os.listdir(tmp_path) == ["out", "large"] or sorted(os.listdir(tmp_path)) == [
        "large",
        "out",
    ]


def test_a_damaged_file_ends_it_and_leaves_nothing(tree, tmp_path):
    path = tree.shard_path(OTHER_MODEL, "p000002-00001")
    content = bytearray(path.read_bytes())
    content[200] ^= 4
    path.write_bytes(content)
    with pytest.raises(OutputError, match=r"p000002-00001.parquet: .*not those that were written"):
        run(tree, tmp_path / "large")
    assert os.listdir(tmp_path) == ["out"]


def test_a_foreign_file_in_the_table_ends_it(tree, tmp_path):
    (tree.predictions / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"notes.txt is no file of the table"):
        run(tree, tmp_path / "large")


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_a_full_disk_leaves_nothing(tree, tmp_path, monkeypatch, code):
    def fail(_descriptor):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OutputError, match=os.strerror(code)):
        run(tree, tmp_path / "large")
    monkeypatch.undo()
    assert os.listdir(tmp_path) == ["out"]


def test_a_file_that_lost_rows_on_the_way_is_not_published(tree, tmp_path, monkeypatch):
    kept = module._row_groups
    monkeypatch.setattr(module, "_row_groups", lambda rows: (t.slice(1) for t in kept(rows)))
    with pytest.raises(OutputError, match="does not read back as written, 7 of 8 rows"):
        run(tree, tmp_path / "large", model_id=MODEL_ID, workers=1)
    assert os.listdir(tmp_path) == ["out"]


def test_a_shard_replaced_meanwhile_is_of_one_moment(tree, tmp_path, monkeypatch):
    """Its file is opened once: what replaces it then is not read."""
    kept, replaced = pq.ParquetFile.iter_batches, []

    def iter_batches(file, *arguments, **options):
        if not replaced:
            replaced.append(True)
            log = PlanLog(tree, tool_version="0.1.0")
            path = tree.shard_path(MODEL_ID, "p000001-00000")
            path.rename(path.with_suffix(".gone"))
            path.with_suffix(".gone").unlink()
            put_shard(tree, log, next(log.shards()))
        return kept(file, *arguments, **options)

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", iter_batches)
    run(tree, tmp_path / "large", model_id=MODEL_ID, workers=1)
    found = pq.read_table(tmp_path / "large", partitioning=None)
    assert len(set(found.column("uri").to_pylist())) == len(found) == 20


def test_umask_decides_who_reads(tree, tmp_path):
    before = os.umask(0o022)
    try:
        run(tree, tmp_path / "large")
    finally:
        os.umask(before)
    modes = {path.stat().st_mode & 0o777 for path in (tmp_path / "large").rglob("*.parquet")}
    assert modes == {0o644}
    assert (tmp_path / "large").stat().st_mode & 0o777 == 0o755
