"""Whole runs agree with timm, torchvision and transformers: same best five, same scores."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.parity.sources import write_images

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
MODELS = json.loads((HERE / "expected.json").read_text("utf-8"))["models"]
TOLERANCE = 1e-4
"""Of a score; neighbours differ by ten times as much, so that the order is certain."""


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    assert len(write_images(folder)) == 8
    return folder


def classified(images: Path, model: Path, out: Path, options: list[str]) -> dict[str, list[dict]]:
    """The best five of each image, as the table has them."""
    command = [sys.executable, "-m", "flows.classify_dir", images, "--model", model]
    done = subprocess.run(
        [*command, "--output", out, "--direct", "--json", *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["ok"] == 8
    files = list((out / "predictions").rglob("*.parquet"))
    rows = [row for file in files for row in pq.ParquetFile(file).read().to_pylist()]
    return {row["file_name"]: row["topk"] for row in rows}


@pytest.mark.parametrize("name", MODELS)
def test_the_best_five_are_those_of_the_library_that_has_the_model(name, images, tmp_path):
    expected = MODELS[name]
    found = classified(images, HERE / "models" / name, tmp_path, expected["options"])
    assert found.keys() == expected["top5"].keys()
    for image, top5 in expected["top5"].items():
        best = found[image]
        assert [(one["label_id"], one["label"]) for one in best] == [
            (index, label) for index, label, _ in top5
        ], image
        assert [one["score"] for one in best] == pytest.approx(
            [score for _, _, score in top5], abs=TOLERANCE
        ), image


def test_the_recorded_scores_can_tell_models_and_images_apart():
    """Else the test above would show nothing."""
    for name, expected in MODELS.items():
        rankings = {tuple(index for index, _, _ in top5) for top5 in expected["top5"].values()}
        assert len(rankings) >= 6, name
        for top5 in expected["top5"].values():
            scores = [score for _, _, score in top5]
            gaps = [first - second for first, second in pairwise(scores)]
            assert min(gaps) > 5 * TOLERANCE
    assert len(MODELS) >= 8
