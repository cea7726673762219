import json
import os
import threading
from pathlib import Path

import pyarrow as pa
import pytest

from shards import commit
from shards.commit import Outcome, is_done, publish, write_run_record
from shards.errors import OutputError
from shards.footer import read_footer
from tests.shards.factories import MODEL_ID, footer, shard_inputs, table
from tests.shards.places import parquet_file, write, write_table

SHARD = "p000001-00000"
KEY = "1" * 64


@pytest.fixture
def rows():
    return table(shard_inputs([b"/data/%d.jpg" % number for number in range(4)]))


def put(tree, rows, key=KEY):
    return publish(rows, footer(rows, key), tree=tree, model_id=MODEL_ID, shard_id=SHARD)


def done(tree, key=KEY):
    return is_done(tree, model_id=MODEL_ID, shard_id=SHARD, work_key=key)


def test_a_published_shard_is_done(tree, rows):
    assert done(tree) is None
    assert put(tree, rows) is Outcome.PUBLISHED
    assert done(tree) == footer(rows, KEY)
    assert parquet_file(tree.shard_path(MODEL_ID, SHARD)).read().equals(rows)
    assert list(tree.staging.iterdir()) == []


def test_a_shard_of_other_work_is_not_done(tree, rows):
    put(tree, rows)
    assert done(tree, "2" * 64) is None
    assert is_done(tree, model_id="other@1", shard_id=SHARD, work_key=KEY) is None


def test_the_second_of_two_runs_finds_the_rows_there(tree, rows):
    put(tree, rows)
    before = tree.identity(tree.shard_path(MODEL_ID, SHARD))
    assert put(tree, rows) is Outcome.ALREADY_THERE
    assert tree.identity(tree.shard_path(MODEL_ID, SHARD)) == before


def test_many_writers_publish_once(tree, rows):
    barrier = threading.Barrier(8)
    outcomes = []

    def work():
        barrier.wait()
        outcomes.append(put(tree, rows))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes, key=lambda outcome: outcome.value) == [
        Outcome.PUBLISHED,
        *[Outcome.ALREADY_THERE] * 7,
    ]


def test_rows_of_other_images_are_never_overwritten(tree, rows):
    put(tree, rows, "2" * 64)
    with pytest.raises(OutputError, match=r"p000001-00000\.parquet holds the rows of other images"):
        put(tree, rows)
    assert done(tree, "2" * 64) is not None
    assert list(tree.staging.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"not parquet", "foreign", "cut"])
def test_files_that_nightshift_did_not_write_whole_are_reported(tree, rows, content):
    path = tree.shard_path(MODEL_ID, SHARD)
    if content == "foreign":
        write_table(path, pa.table({"x": [1]}))
    elif content == "cut":
        put(tree, rows)
        write(path, path.read_bytes()[:-9])
    else:
        write(path, content)
    with pytest.raises(OutputError, match=r"p000001-00000\.parquet is damaged, or not a file"):
        done(tree)
    with pytest.raises(OutputError, match=r"p000001-00000\.parquet is damaged, or not a file"):
        put(tree, rows)


def test_a_footer_that_counts_other_rows_is_reported(tree, rows):
    path = tree.shard_path(MODEL_ID, SHARD)
    metadata = {b"nightshift": footer(rows, KEY).to_json()}
    write_table(path, rows.slice(1).replace_schema_metadata(metadata))
    with pytest.raises(OutputError, match="3 rows instead of 4"):
        read_footer(path)


def test_a_file_that_does_not_read_back_is_not_published(tree, rows, monkeypatch):
    encode = commit.encode
    other = rows.slice(1)
    monkeypatch.setattr(commit, "encode", lambda table, foot: encode(other, footer(other, KEY)))
    with pytest.raises(OutputError, match="does not read back as written"):
        put(tree, rows)
    assert list(tree.files()) == []
    assert list(tree.staging.iterdir()) == []


def test_an_error_while_encoding_leaves_nothing(tree, rows, monkeypatch):
    def fail(table, foot):
        raise MemoryError

    monkeypatch.setattr(commit, "encode", fail)
    with pytest.raises(MemoryError):
        put(tree, rows)
    assert [*tree.files(), *tree.staging.iterdir()] == []


def test_a_run_record_is_complete_and_may_be_written_again(tree):
    for status in ("failed", "done"):
        path = write_run_record(tree, "run-1", {"status": status, "images": 3})
    assert path == tree.root / "runs" / "run-1" / "run.json"
    assert json.loads(path.read_bytes()) == {"status": "done", "images": 3}
    if isinstance(path, Path):
        assert path.stat().st_mode & 0o777 == 0o666 & ~current_umask()
    assert list(tree.staging.iterdir()) == []


def current_umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_a_record_that_is_no_json_leaves_the_old_one(tree):
    write_run_record(tree, "run-1", {"images": 3})
    with pytest.raises(ValueError, match="JSON"):
        write_run_record(tree, "run-1", {"seconds": float("nan")})
    assert json.loads((tree.run_path("run-1") / "run.json").read_bytes()) == {"images": 3}
