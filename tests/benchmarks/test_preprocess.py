from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest

from benchmarks.preprocess.detect import EXAMPLE, Subject, study, table
from tests.models import digits

ROOT = Path(__file__).parents[2]
RESULT = json.loads((ROOT / "benchmarks/results/preprocess-cpu.json").read_text())


@pytest.fixture(scope="module")
def example():
    """Rows and counts of the study on the example alone."""
    images, labels = digits.images()
    noise = np.random.default_rng(0).integers(0, 256, (80, 4, 4, 3), np.uint8)
    foreign = noise.repeat(8, axis=1).repeat(8, axis=2)
    path = EXAMPLE / "model/model.onnx"
    model = digits.right_model()
    subject = Subject("example", model, path, images, np.array(labels), foreign)
    counts = defaultdict(Counter)
    return list(study(subject, counts)), counts


def test_the_right_preprocessing_is_never_blamed(example):
    _, counts = example
    right = {what: found for what, found in counts.items() if what.startswith("right")}
    assert len(right) == 6
    assert {status for found in right.values() for status in found} <= {"passed"}


def test_harmful_ranges_are_told(example):
    rows, counts = example
    assert counts["range harmful: all classes"] == {"warning": 12}
    assert counts["range harmful: all classes, labelled"] == {"warning": 12}
    [own] = [row for row in rows if row["fed"] == "its own"]
    assert own["accuracy"] == pytest.approx(0.984, abs=1e-3)


def test_the_table_shows_every_row_and_count(example):
    rows, counts = example
    lines = table(rows, counts).splitlines()
    assert len(lines) == 2 + len(rows) + 3 + len(counts)
    assert "| right: all classes | 0 | 6 |" in lines


@pytest.mark.parametrize(
    ("line", "what"),
    [
        (r"right preprocessing, images of all classes \| (\d+) \| (\d+)", "right: all classes"),
        (r"right preprocessing, images of another task \| (\d+) \| (\d+)", "right: another task"),
        (r"right preprocessing, self-test before a run \| (\d+) \| (\d+)", "right: self-test"),
        (
            r"harmful pixel range or mean, unlabelled images\*\* \| \*\*(\d+)\*\* \| \*\*(\d+)",
            "range harmful: all classes",
        ),
        (
            r"harmful pixel range or mean, labelled images \| (\d+) \| (\d+)",
            "range harmful: all classes, labelled",
        ),
        (
            r"harmful pixel range or mean, self-test before a run \| (\d+) .*?\| (\d+)",
            "range harmful: self-test",
        ),
        (
            r"where colour matters, unlabelled images\*\* \| \*\*(\d+)\*\* \| \*\*(\d+)",
            "swapped harmful: all classes",
        ),
        (
            r"where colour matters, labelled images \| (\d+) \| (\d+)",
            "swapped harmful: all classes, labelled",
        ),
    ],
)
def test_the_page_quotes_what_was_measured(line, what):
    page = (ROOT / "docs/doctor.md").read_text()
    match = re.search(line, page)
    assert match is not None
    found = Counter(RESULT["counts"][what])
    told = found["failed"] + found["warning"]
    assert (int(match[1]), int(match[2])) == (told, found.total() - told)
