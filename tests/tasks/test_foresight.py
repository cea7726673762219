from __future__ import annotations

import json
import os

import pytest

from tasks.foresight import expects_work

NIGHT = 1_000_000_000_000_000_000
"""When the last run ended, in nanoseconds since the epoch."""


@pytest.fixture
def finished(tmp_path, monkeypatch):
    """An output whose last run was done, and the command that made it."""
    monkeypatch.chdir(tmp_path)
    for folder in ("photos", "model", "out/runs/one", "out/runs/two", "out/state/plans"):
        (tmp_path / folder).mkdir(parents=True)
    write_record(tmp_path, status="done")
    for path in ("photos", "model", "out/state/plans", "out/runs/one"):
        os.utime(path, ns=(NIGHT - 1, NIGHT - 1))
    return ["photos", "--model", "model", "--output", "out", "--direct"]


def write_record(folder, *, model="model", **fields):
    run = folder / "out/runs/two"
    record = run / "run.json"
    record.write_text(json.dumps({"parameters": {"model": model}, **fields}))
    for path in (record, run):
        os.utime(path, ns=(NIGHT, NIGHT))


@pytest.mark.parametrize("status", ["done", "too_many_errors"])
def test_a_finished_job_that_nobody_touched_has_no_work(finished, tmp_path, status):
    write_record(tmp_path, status=status)
    assert not expects_work(finished)
    assert not expects_work(["photos", "-m", "model", "-o", "out"])
    assert not expects_work(["photos", "-m", "model", "--output=out"])


@pytest.mark.parametrize("path", ["photos", "model", "out/state/plans"])
def test_what_changed_since_may_be_work(finished, path):
    assert not expects_work(finished)
    os.utime(path, ns=(NIGHT + 1, NIGHT + 1))
    assert expects_work(finished)


@pytest.mark.parametrize(
    "record",
    [
        {"status": "failed"},
        {"status": "interrupted"},
        {"status": "damaged_archives"},
        {"status": "done", "model": "another"},
        {},
        {"status": "done", "parameters": None},
    ],
)
def test_a_run_that_was_not_done_with_this_model_leaves_work(finished, tmp_path, record):
    assert not expects_work(finished)
    write_record(tmp_path, **record)
    assert expects_work(finished)


@pytest.mark.parametrize("text", ["", "[]", '"done"', "{"])
def test_a_record_that_is_not_understood_says_nothing(finished, tmp_path, text):
    (tmp_path / "out/runs/two/run.json").write_text(text)
    assert expects_work(finished)


def test_a_run_that_was_killed_before_it_left_a_record_leaves_work(finished, tmp_path):
    (tmp_path / "out/runs/two/run.json").unlink()
    assert expects_work(finished)


@pytest.mark.parametrize("option", ["--overwrite", "--retry-errors", "--overwrite=true"])
def test_finished_rows_may_be_asked_for_again(finished, option):
    assert expects_work([*finished, option])


@pytest.mark.parametrize(
    "words",
    [
        ["photos", "-m", "model"],
        ["photos", "-m", "model", "-o"],
        ["photos", "-m", "model", "-o", "new"],
        ["photos", "-m", "model", "-o", "s3://bucket/out"],
        ["photos", "-m", "model", "-o", "out\0"],
    ],
)
def test_an_output_that_nothing_is_known_of_gets_work(finished, words):
    assert expects_work(words)
