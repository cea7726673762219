"""Nights after the first: images come, change, break, are mended and go."""

import json
import os
from pathlib import Path

import pytest
from PIL import Image

from tests.end_to_end.commands import MODEL, rows, run


@pytest.fixture
def night(tmp_path):
    """Runs the command over a directory of five images; returns exit code and summary."""
    images = tmp_path / "images"
    images.mkdir()
    for name in "abcde":
        save(images / f"{name}.png")

    def classify(*options, model=MODEL):
        out = tmp_path / "out"
        arguments = ("--model", model, "--output", out, "--shard-size", "2", *options)
        code, answer, _ = run(images, *arguments)
        return code, answer

    classify.images = images
    classify.out = tmp_path / "out"
    return classify


def save(path: Path, colour: int = 0) -> None:
    Image.new("RGB", (32, 32), (colour, colour, colour)).save(path)


def counts(answer, *names):
    record = json.loads((Path(answer["output"]) / f"runs/{answer['run_id']}/run.json").read_text())
    assert {name: record[name] for name in answer} == json.loads(json.dumps(answer))
    assert answer["images"] == answer["ok"] + answer["errors"]
    assert answer["images"] == answer["skipped"] + answer["rows_written"]
    return tuple(answer[name] for name in names)


def test_changed_images_are_replaced_and_the_others_keep_their_rows(night):
    night("--run-id", "first")
    save(night.images / "c.png", 200)
    os.utime(night.images / "c.png", (1, 1))
    _, answer = night("--run-id", "second")
    assert counts(answer, "images", "rows_written", "changed", "skipped") == (5, 1, 1, 4)
    found = rows(night.out)
    assert {name for name, row in found.items() if row["run_id"] == "second"} == {"c.png"}
    _, answer = night()
    assert counts(answer, "rows_written", "changed") == (0, 0)


def test_pruning_removes_what_is_gone_and_needs_no_device(night):
    night()
    (night.images / "a.png").unlink()
    (night.images / "b.png").unlink()
    _, answer = night()
    assert counts(answer, "images", "pruned") == (3, 0)
    assert len(rows(night.out)) == 5
    _, answer = night("--prune")
    assert counts(answer, "images", "pruned", "rows_written") == (3, 2, 0)
    assert sorted(rows(night.out)) == ["c.png", "d.png", "e.png"]
    save(night.images / "a.png")
    _, answer = night("--prune")
    assert counts(answer, "images", "pruned", "rows_written") == (4, 0, 1)
    assert sorted(rows(night.out)) == ["a.png", "c.png", "d.png", "e.png"]


def test_a_directory_that_was_emptied_prunes_nothing(night):
    night()
    for path in night.images.iterdir():
        path.rename(path.with_suffix(".hidden"))
    code, _ = night("--prune")
    assert code == 4
    save(night.images / "e.png")
    code, answer = night("--prune", "--run-id", "careful")
    assert code == 2
    assert "4 of the 5 images known below" in answer["error"]
    assert len(rows(night.out)) == 5
    record = json.loads((night.out / "runs/careful/run.json").read_text())
    assert (record["status"], record["exit_code"], record["images"]) == ("failed", 2, 0)
    code, answer = night("--prune", "--prune-limit", "0.8", "--run-id", "careful")
    assert (code, answer["pruned"]) == (0, 4)
    assert list(rows(night.out)) == ["e.png"]


def test_pruning_asks_for_a_whole_listing(night):
    code, answer = night("--prune", "--limit", "2")
    assert code == 2
    assert "prune removes what is not listed any more" in answer["error"]


def test_errors_are_tried_again_on_demand(night):
    path = night.images / "b.png"
    path.write_bytes(b"not an image at all")
    os.utime(path, (1, 1))
    _, answer = night("--max-error-rate", "1", "--run-id", "first")
    assert counts(answer, "errors", "retried") == (1, 0)
    path.write_bytes(path.read_bytes())
    os.utime(path, (1, 1))
    _, answer = night("--max-error-rate", "1", "--retry-errors")
    assert counts(answer, "images", "errors", "retried", "rows_written") == (5, 1, 1, 1)
    assert {row["run_id"] for name, row in rows(night.out).items() if name != "b.png"} == {"first"}


def test_a_name_is_taken_once_a_run_is_done(night):
    night("--run-id", "one")
    code, answer = night("--run-id", "one")
    assert code == 2
    assert "is the record of a run of this name (status: done)" in answer["error"]


def test_a_part_of_the_images_is_counted_as_what_it_is(night):
    night()
    _, answer = night("--limit", "3")
    assert counts(answer, "images", "skipped", "unlisted_rows_written") == (3, 3, 0)
    _, answer = night("--limit", "3", "--overwrite", "--run-id", "three")
    assert counts(answer, "images", "rows_written", "skipped") == (3, 3, 0)
    assert sum(row["run_id"] == "three" for row in rows(night.out).values()) == 3
