"""The list of errors: complete, streamed, and harmless in a spreadsheet."""

from __future__ import annotations

import csv
import io
import tracemalloc

import pyarrow as pa
import pytest

from shards.commit import publish
from shards.errors import ErrorKind, OutputError
from shards.quarantine import COLUMNS, error_rows, write_errors
from tests.shards.factories import footer, results, shard_inputs, table
from tests.shards.places import write

PATHS = [b"/data/=cmd.jpg", b"/data/caf\xe9.jpg", "/data/ü\n=1.jpg".encode(), b'/data/a"b,c.jpg']
ERRORS = {row: (ErrorKind.TRUNCATED, f"-{row} ends early") for row in range(4)}


def shard(tree, errors, number=0):
    rows = table(shard_inputs(PATHS), results(4, errors=errors))
    publish(rows, footer(rows), tree=tree, model_id="m@0", shard_id=f"p000001-{number:05d}")
    return tree.shard_path("m@0", f"p000001-{number:05d}")


def read(tree):
    text = (tree.run_path("run") / "errors.csv").read_bytes().decode()
    return list(csv.DictReader(io.StringIO(text, newline="")))


def test_every_error_is_listed_once_in_the_order_of_the_table(tree):
    paths = [shard(tree, {1: ERRORS[1]}), shard(tree, {}, 1), shard(tree, {0: ERRORS[0]}, 2)]
    rows = [batch for path in paths for batch in error_rows(path)]
    assert write_errors(tree, "run", rows) == 2
    assert [(row["uri"], row["error_kind"]) for row in read(tree)] == [
        ("file:///data/caf%E9.jpg", "truncated"),
        ("file:///data/%3Dcmd.jpg", "truncated"),
    ]


def test_no_cell_is_a_formula_and_no_row_more_than_a_line(tree):
    write_errors(tree, "run", error_rows(shard(tree, ERRORS)))
    lines = (tree.run_path("run") / "errors.csv").read_bytes().decode().splitlines()
    assert len(lines) == 5
    assert lines[1] == ('"file:///data/%3Dcmd.jpg","\'=cmd.jpg","truncated","\'-0 ends early"')
    names = [row["file_name"] for row in read(tree)]
    assert names == ["'=cmd.jpg", r"caf\xe9.jpg", r"ü\n=1.jpg", 'a"b,c.jpg']


@pytest.mark.parametrize("text", ["=1", "+1", "-1", "@x", "\t=1", "\r\n=1", " =1", "＝1"])
def test_whatever_begins_a_formula_gets_an_apostrophe(tree, text):
    row = {"uri": ["s3://a/b"], "file_name": [text], "error_kind": ["empty"], "error": ["a=b"]}
    write_errors(tree, "run", [pa.table(row)])
    [found] = read(tree)
    assert found["file_name"].startswith("'")
    assert found["error"] == "a=b"


def test_without_errors_there_is_no_file_and_an_earlier_one_goes(tree):
    write_errors(tree, "run", error_rows(shard(tree, ERRORS)))
    assert write_errors(tree, "run", []) == 0
    assert not (tree.run_path("run") / "errors.csv").exists()
    assert list(tree.staging.iterdir()) == []


@pytest.mark.parametrize("output", ["directory"], indirect=True)  # the server would count too
def test_a_million_errors_do_not_sit_in_memory(tree):
    batch = pa.table({name: ["file:///" + "x" * 50] * 1000 for name in COLUMNS})
    tracemalloc.start()
    try:
        assert write_errors(tree, "run", (batch for _ in range(20))) == 20_000
        assert tracemalloc.get_traced_memory()[1] < 3 << 20
    finally:
        tracemalloc.stop()


def test_a_damaged_file_is_an_error_and_leaves_no_list(tree):
    path = shard(tree, ERRORS)
    write(path, path.read_bytes()[:100])
    with pytest.raises(OutputError, match=path.name):
        write_errors(tree, "run", error_rows(path))
    assert not (tree.run_path("run") / "errors.csv").exists()
    assert list(tree.staging.iterdir()) == []
