"""The optional columns through the real command: computed, written, read; one kind for a table."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import duckdb
import numpy as np
import polars as pl
import pyarrow.dataset as ds
import pytest
from PIL import Image

from engines.model import ModelRequest, load_model
from shards.decode import Limits, decode_file
from tests.engines.test_model import write
from tests.models.tiny import Tiny, normalise, position_weights

ROOT = Path(__file__).parent.parent.parent
DIGITS = ROOT / "examples/digits/model"
EVERYTHING = ("--save-logits", "--save-embedding", "--topk-format", "wide", "--top-k", "4")


def start(*arguments: object) -> subprocess.Popen:
    command = [sys.executable, "-m", "flows.classify_dir", *map(str, arguments)]
    return subprocess.Popen(
        [*command, "--direct", "--json"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        stdin=subprocess.DEVNULL,
    )


def ended(process: subprocess.Popen) -> tuple[int, dict]:
    out, errors = process.communicate(timeout=100)
    assert "Traceback" not in errors, errors
    return process.returncode, json.loads(out)


def run(*arguments: object) -> tuple[int, dict]:
    return ended(start(*arguments))


def by_duckdb(out: Path) -> list[dict]:
    with duckdb.connect() as connection:
        found = connection.execute(
            "SELECT * FROM read_parquet(?, hive_partitioning = true)",
            [f"{out}/predictions/**/*.parquet"],
        )
        names = [column[0] for column in found.description]
        return [dict(zip(names, row, strict=True)) for row in found.fetchall()]


READERS = {
    "duckdb": by_duckdb,
    "polars": lambda out: pl.read_parquet(
        f"{out}/predictions/**/*.parquet", hive_partitioning=True
    ).to_dicts(),
    "pyarrow": lambda out: (
        ds.dataset(out / "predictions", partitioning="hive").to_table().to_pylist()
    ),
}


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """Eight images, and one that is none."""
    folder = tmp_path_factory.mktemp("photos")
    noise = np.random.default_rng(0)
    for number in range(8):
        pixels = noise.integers(0, 256, (4, 6, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    (folder / "page.png").write_text("<!doctype html>")
    return folder


@pytest.fixture(scope="module")
def three_classes(tmp_path_factory) -> Path:
    """A model of other classes and another embedding than the digits."""
    names = {"id2label": {"0": "a", "1": "b", "2": "c"}}
    return write(tmp_path_factory.mktemp("models") / "three", Tiny(classes=3), config=names)


def logits_of(model: Path, tiny: Tiny, photos: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """By NumPy: embedding and logits of each image."""
    loaded = load_model(ModelRequest(path=model))
    found = {}
    for path in photos.glob("[0-9].png"):
        pixels = np.zeros((1, *tiny.size, 3), np.uint8)
        decode_file(bytes(path), pixels[0], loaded.spec.host, Limits())
        inputs = normalise(pixels, loaded.spec)
        embedding = (inputs * position_weights(tiny.size)).sum(axis=(2, 3))
        found[path.name] = embedding[0], tiny.logits(inputs)[0]
    return found


def test_select_star_works_at_any_moment_over_models_of_any_size(tmp_path, photos, three_classes):
    out = tmp_path / "out"
    for model in (DIGITS, three_classes):
        process = start(
            photos, "--model", model, "--output", out, *EVERYTHING, "--shard-size", 2,
            "--max-error-rate", 1,
        )  # fmt: skip
        while process.poll() is None:
            if any(out.glob("predictions/*/*.parquet")):
                assert [len(read(out)) > 0 for read in READERS.values()] == [True] * 3
        code, summary = ended(process)
        assert (code, summary["errors"]) == (0, 1)
    for read in READERS.values():
        rows = read(out)
        assert len(rows) == 18
        assert {len(row["logits"]) for row in rows if row["logits"] is not None} == {10, 3}
        assert sum(row["logits"] is None for row in rows) == 2
        assert all((row["label_4"] is None) == row["model"].startswith("three@")
                   for row in rows if row["status"] == "ok")  # fmt: skip
    expected = logits_of(three_classes, Tiny(classes=3), photos)
    for row in by_duckdb(out):
        if row["model"].startswith("three@") and row["status"] == "ok":
            embedding, logits = expected[row["file_name"]]
            np.testing.assert_allclose(row["embedding"], embedding, atol=1e-4)
            np.testing.assert_allclose(row["logits"], logits, atol=1e-4)
            assert [row["label_id"], row["label_id_2"]] == np.argsort(-logits)[:2].tolist()


def test_another_choice_of_columns_is_refused_and_changes_nothing(tmp_path, photos):
    out = tmp_path / "out"
    common = (photos, "--model", DIGITS, "--output", out, "--max-error-rate", 1)
    assert run(*common)[0] == 0
    before = {path: path.read_bytes() for path in out.glob("predictions/*/*.parquet")}
    code, summary = run(*common, "--save-logits")
    assert code == 2
    assert "begun with no optional columns, and this run asks for --save-logits" in summary["error"]
    (out / "state/columns.json").unlink()  # as a release without optional columns leaves it
    assert run(*common, "--topk-format", "wide", "--overwrite")[0] == 2
    assert run(*common)[1]["skipped"] == 9
    assert {path: path.read_bytes() for path in out.glob("predictions/*/*.parquet")} == before


def test_of_two_runs_that_begin_a_table_at_once_the_table_is_of_one(tmp_path, photos):
    out = tmp_path / "out"
    common = (photos, "--model", DIGITS, "--output", out, "--max-error-rate", 1)
    runs = [start(*common, "--save-logits"), start(*common)]
    ends = [ended(process) for process in runs]
    assert sorted(code for code, _ in ends) == [0, 2]
    assert [len(read(out)) for read in READERS.values()] == [9] * 3
    assert ("logits" in by_duckdb(out)[0]) == (ends[0][0] == 0)


def test_several_labels_an_image_are_those_above_the_threshold(tmp_path, photos):
    tiny = Tiny(bias=(-9.0, 1.0, 0.0, -1.0, 3.0, 0.5, -0.5))
    labels = {"id2label": {str(index): f"label {index}" for index in range(7)}}
    problem = {"problem_type": "multi_label_classification"}
    model = write(tmp_path / "tags", tiny, config=labels | problem)
    for threshold, listed in ((0.5, [4, 1, 5, 2]), (0.99, [])):
        out = tmp_path / str(threshold)
        # A model that gives all images the same answer is what the self-test refuses.
        arguments = ("--threshold", threshold, "--top-k", 7, "--max-error-rate", 1)
        arguments += ("--no-self-test",)
        assert run(photos, "--model", model, "--output", out, *arguments)[0] == 0
        for row in by_duckdb(out):
            if row["status"] == "ok":
                assert [entry["label_id"] for entry in row["topk"]] == listed
                assert (row["label"], row["label_id"]) == ("label 4", 4)
                assert row["score"] == pytest.approx(1 / (1 + np.exp(-3.0)))


def test_logits_that_are_no_numbers_make_error_rows(tmp_path, photos):
    bias = (0.0, np.nan, 0.0, 0.0, 0.0, 0.0, 0.0)
    for activation in ("softmax", "sigmoid"):
        out = tmp_path / activation
        model = write(tmp_path / f"broken-{activation}", Tiny(bias=bias))
        arguments = ("--activation", activation, "--save-logits", "--max-error-rate", 1)
        arguments += ("--no-self-test",)  # which refuses NaN
        assert run(photos, "--model", model, "--output", out, *arguments)[0] == 0
        rows = by_duckdb(out)
        kinds = sorted(row["error_kind"] for row in rows)
        assert kinds == ["invalid_scores"] * 8 + ["not_an_image"]
        assert all(row["logits"] is None for row in rows)
