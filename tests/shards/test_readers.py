"""What analysts run, against whatever names the world has."""

import os

import duckdb
import numpy as np
import polars as pl
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from shards.columns import OptionalColumns, settle_columns
from shards.commit import publish, write_run_record
from shards.errors import ErrorKind
from shards.local_tree import LocalTree
from tests.shards.factories import LABELS, WHEN, footer, results, shard_inputs, table

MODELS = ("digits@0123456789ab", "my model=2 (50%41/ü)@00ff", "v1.5+x~y@ab")
PATHS = [b"/data/=cmd.jpg", b"/data/caf\xe9.jpg", "/data/ü\n.jpg".encode(), b"/data/a'b\\c.jpg"]


ERRORS = {1: (ErrorKind.TRUNCATED, "ends early"), 3: (ErrorKind.EMPTY, "no bytes")}


def written(tree, *, full):
    """Two shards of each model; every model has other numbers of classes and ranks."""
    settle_columns(tree, OptionalColumns(logits=full, embedding=full, wide=3 if full else 1))
    for number, model in enumerate(MODELS):
        vectors = np.arange(4 * (3 + number), dtype=np.float32).reshape(4, -1)
        optional = {"logits": vectors, "embedding": vectors[:, :2]} if full else {}
        for shard in range(2):
            found = results(4, k=2 + number, errors=ERRORS if shard else {}, **optional)
            rows = table(shard_inputs(PATHS), found, form="wide" if full else "struct")
            publish(rows, footer(rows), tree=tree, model_id=model, shard_id=f"p000001-{shard:05d}")
    write_run_record(tree, "run-1", {})
    return tree


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    return written(LocalTree.create(tmp_path_factory.mktemp("out")), full=False)


@pytest.fixture(scope="module")
def full_tree(tmp_path_factory):
    return written(LocalTree.create(tmp_path_factory.mktemp("full")), full=True)


def by_duckdb(tree):
    with duckdb.connect() as connection:
        found = connection.execute(
            "SELECT * FROM read_parquet(?, hive_partitioning = true)",
            [f"{tree.predictions}/**/*.parquet"],
        )
        names = [column[0] for column in found.description]
        return [dict(zip(names, row, strict=True)) for row in found.fetchall()]


READERS = {
    "duckdb": by_duckdb,
    "polars glob": lambda tree: pl.read_parquet(
        f"{tree.predictions}/**/*.parquet", hive_partitioning=True
    ).to_dicts(),
    "polars directory": lambda tree: pl.read_parquet(
        tree.predictions, hive_partitioning=True
    ).to_dicts(),
    "pyarrow table": lambda tree: pq.read_table(
        tree.predictions, page_checksum_verification=True
    ).to_pylist(),
    "pyarrow dataset": lambda tree: (
        ds.dataset(tree.predictions, partitioning="hive").to_table().to_pylist()
    ),
}


@pytest.mark.parametrize("reader", READERS)
def test_every_reader_sees_the_same_rows(tree, reader):
    rows = READERS[reader](tree)
    assert sorted({row["model"] for row in rows}) == sorted(MODELS)
    for model in MODELS:
        found = [row for row in rows if row["model"] == model]
        assert len(found) == 8
        assert {row["file_name"] for row in found} == {
            "=cmd.jpg",
            "caf\\xe9.jpg",
            "ü\n.jpg",
            "a'b\\\\c.jpg",
        }
        assert [row["error_kind"] for row in found].count("truncated") == 1
        assert sum(row["label"] is None for row in found) == 2
        [best] = {tuple(row["topk"][0].items()) for row in found if row["uri"].endswith("cmd.jpg")}
        assert best[:2] == (("label", "zero"), ("label_id", 0))
        assert {row["predicted_at"] for row in found} == {WHEN}


@pytest.mark.parametrize("reader", READERS)
def test_every_reader_sees_the_optional_columns_of_models_of_any_size(full_tree, reader):
    rows = READERS[reader](full_tree)
    assert len(rows) == 8 * len(MODELS)
    for number, model in enumerate(MODELS):
        for row in rows:
            if row["model"] != model:
                continue
            assert row["topk"] is None
            if row["status"] == "error":
                optional = ("logits", "embedding", "label_2", "label_id_2", "score_2", "label_3")
                assert [row[name] for name in optional] == [None] * 6
                continue
            assert [len(row[name]) for name in ("logits", "embedding")] == [3 + number, 2]
            assert row["label_2"] in LABELS
            assert row["score_2"] == pytest.approx(row["score"] - row["score_margin"])
            assert (row["label_3"] is None) == (row["score_3"] is None) == (number == 0)


def test_columns_come_in_the_promised_order(tree):
    row = by_duckdb(tree)[0]
    assert list(row)[:3] == ["uri", "file_name", "status"]
    assert list(row)[-2:] == ["predicted_at", "model"]


def test_the_queries_of_the_docs_run(tree, full_tree):
    docs = (os.path.dirname(__file__), "..", "..", "docs", "schema.md")
    with open(os.path.join(*docs)) as file:
        text = file.read()
    blocks = [part.split("```")[0] for part in text.split("```sql\n")[1:]]
    with duckdb.connect() as connection:
        counts = [
            len(
                connection.execute(
                    query.replace("OUT", str(root)).replace("a.jpg", "=cmd.jpg")
                ).fetchall()
            )
            for block in blocks
            for root in [(full_tree if "embedding" in block else tree).root]
            for query in block.split(";")
            if query.strip()
        ]
    assert counts == [24, 1, 2, 48, 10]
