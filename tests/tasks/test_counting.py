"""What is counted at the end, from the files of the table."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace

import pyarrow.parquet as pq
import pytest

from shards import upkeep
from shards.local_tree import LocalTree
from tasks import finish as finish_module
from tasks.counting import count
from tasks.errors import SettingsError
from tasks.finish import finish
from tasks.job import Outcome, Plan
from tasks.record import failures_recorded, refuse_used_run_id
from tests.shards import nights
from tests.shards.nights import Night

WORLD = {b"/data/%d.jpg" % number: 1 for number in range(7)} | {b"/data/5.jpg": -1}


@pytest.fixture
def tree(tmp_path):
    return LocalTree.create(tmp_path / "out")


def job(tree, night, update):
    return SimpleNamespace(
        run_id=night.run_id,
        tree=tree,
        started_at=datetime.now(UTC),
        upkeep=lambda partly: nights.upkeep(tree, night, update),
        settings=SimpleNamespace(
            max_error_rate=0.5, output=str(tree.root), model_dump=lambda mode: {"top_k": 3}
        ),
        model=SimpleNamespace(
            model_id=night.model_id,
            digest="d",
            labels_digest="l",
            labels=("a",),
            activation="softmax",
            spec=SimpleNamespace(to_json=lambda: "{}"),
            sources={},
        ),
    )


def plan(update):
    return Plan(
        todo={shard: shard.rows for shard in update.shards},
        done={},
        partly=update.partly,
        ignored={"suffix": 2},
        changed=update.changed,
        pruned=update.pruned,
        seconds=1.0,
    )


def test_all_that_is_listed_is_counted(tree):
    night = Night(run_id="first")
    nights.run(tree, night, WORLD)
    update = nights.extend(tree, night, WORLD, WORLD)
    counts = count(job(tree, night, update), plan(update))
    assert (counts.images, counts.errors, counts.written) == (7, 1, 7)
    assert counts.errors_by_kind == {"corrupt": 1}
    assert counts.missing == {}


def test_images_that_are_not_listed_are_not_counted(tree):
    nights.run(tree, Night(run_id="first"), WORLD)
    listed = {key: state for key, state in WORLD.items() if key[6:7] in b"1256"}
    night = Night(run_id="second", overwrite=True)
    nights.run(tree, night, listed)
    update = nights.extend(tree, night, listed, WORLD)
    assert update.partly.keys() == {"p000001-00000", "p000001-00001"}
    counts = count(job(tree, night, update), plan(update))
    assert (counts.images, counts.errors, counts.written) == (4, 1, 4)
    assert (counts.unlisted_written, counts.retried) == (0, 1)


def test_a_file_that_is_replaced_while_it_is_counted_is_counted_as_it_is_then(tree, monkeypatch):
    """What the footer and what the rows say would not add up if they were of two files."""
    night = Night(run_id="first", shard_size=7)
    nights.run(tree, night, WORLD)
    listed = dict(list(WORLD.items())[:4])
    update = nights.extend(tree, night, listed, WORLD)
    look = upkeep.read_footer

    def replaced_after(path):
        monkeypatch.setattr(upkeep, "read_footer", look)
        found = look(path)
        other = Night(run_id="other", shard_size=7)
        nights.run(tree, other, {key: state + 9 for key, state in WORLD.items()})
        return found

    monkeypatch.setattr(upkeep, "read_footer", replaced_after)
    counts = count(job(tree, night, update), plan(update))
    assert (counts.images, counts.written, counts.unlisted_written) == (4, 0, 0)
    assert counts.made_by.run_id == "other"


def test_what_happened_to_rows_is_counted(tree):
    nights.run(tree, Night(run_id="first"), WORLD)
    night = Night(run_id="second", prune=0.5)
    world = {b"/data/%d.jpg" % number: 1 for number in range(6)} | {b"/data/0.jpg": 2}
    update = nights.extend(tree, night, world, world)
    nights.run(tree, night, world)
    counts = count(job(tree, night, update), plan(update))
    # Image 5 is mended, which only its time tells: it has kept it, and so its error.
    assert (counts.images, counts.written, counts.changed) == (6, 1, 1)
    assert counts.pruned == 1


def test_a_run_that_only_prunes_does_not_say_that_there_was_nothing_to_do(tree):
    nights.run(tree, Night(run_id="first"), WORLD)
    night = Night(run_id="second", prune=0.5)
    left = dict(list(WORLD.items())[1:])
    update = nights.extend(tree, night, left, left)
    nights.run(tree, night, left)
    summary = finish(
        job(tree, night, update), plan(update), Outcome(ready=None, seconds=1.0, reached={})
    )
    assert (summary.images, summary.pruned) == (6, 1)
    assert summary.lines()[0] == "Nothing to classify: all 6 images have their rows already."
    assert "Rows: 1 removed because the images are gone." in summary.lines()


def test_shards_that_failed_are_named_and_their_images_missing(tree):
    night = Night(run_id="first")
    update = nights.extend(tree, night, WORLD, WORLD)
    one = dict(list(WORLD.items())[:3])
    nights.run(tree, night, one)
    failed = {shard.id: "was killed by signal 11" for shard in update.shards[1:]}
    outcome = Outcome(ready=None, seconds=1.0, reached={}, failed=failed)
    summary = finish(job(tree, night, update), plan(update), outcome)
    assert (summary.status, summary.exit_code) == ("failed", 1)
    assert (summary.images, summary.missing, summary.rows_written) == (3, 4, 3)
    assert "shard p000001-00002: was killed by signal 11" in "\n".join(summary.lines())
    record = json.loads((tree.root / "runs/first/run.json").read_text())
    assert record["failed_shards"] == failed
    assert record["status"] == "failed"


def test_damaged_files_are_named_and_their_images_missing_whoever_finds_them(tree):
    night = Night(run_id="first")
    nights.run(tree, night, WORLD)
    update = nights.extend(tree, night, WORLD, WORLD)
    one, two, three = update.shards
    paths = {shard: tree.shard_path("m@1", shard.id) for shard in update.shards}
    paths[one].write_bytes(b"known since the planning")
    paths[two].write_bytes(paths[two].read_bytes()[:-9])
    known = replace(plan(update), todo={two: 3, three: 1}, unreadable={one: "is damaged"})
    outcome = Outcome(ready=None, seconds=1.0, reached={}, failed={one.id: "is damaged"})
    summary = finish(job(tree, night, update), known, outcome)
    assert (summary.status, summary.exit_code) == ("failed", 1)
    assert (summary.images, summary.missing) == (1, 6)
    assert summary.failed_shards.keys() == {one.id, two.id}
    assert f"{paths[two]} is damaged" in summary.failed_shards[two.id]
    assert paths[one].read_bytes() == b"known since the planning"


def test_rot_that_only_the_list_of_errors_meets_is_reported(tree):
    night = Night(run_id="first", shard_size=7)
    nights.run(tree, night, WORLD)
    update = nights.extend(tree, night, WORLD, WORLD)
    [shard] = update.shards
    path = tree.shard_path("m@1", shard.id)
    column = pq.read_metadata(path).row_group(0).column(0)
    content = bytearray(path.read_bytes())
    content[column.data_page_offset + column.total_compressed_size // 2] ^= 1
    path.write_bytes(content)
    outcome = Outcome(ready=None, seconds=1.0, reached={})
    summary = finish(job(tree, night, update), plan(update), outcome)
    assert (summary.status, summary.failed_shards.keys()) == ("failed", {shard.id})
    assert summary.images == 7


def test_a_summary_does_not_tell_of_a_thousand_failed_shards(tree):
    night = Night(run_id="first")
    update = nights.extend(tree, night, WORLD, WORLD)
    failed = {f"p000002-{number:05}": "no" for number in range(1000)}
    failed |= {shard.id: "no" for shard in update.shards}
    outcome = Outcome(ready=None, seconds=1.0, reached={}, failed=failed)
    lines = finish(job(tree, night, update), plan(update), outcome).lines()
    assert len(lines) < 30
    assert lines[-1].startswith("Failed as well: 983 other shards")


def test_a_file_that_vanished_is_an_error(tree):
    night = Night(run_id="first")
    update = nights.extend(tree, night, WORLD, WORLD)
    outcome = Outcome(ready=None, seconds=1.0, reached={})
    with pytest.raises(finish_module.OutputError, match="was published by this run and is gone"):
        finish(job(tree, night, update), plan(update), outcome)


class Stopped(BaseException):
    exit_code = 130


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (SettingsError("no"), "failed", 2),
        (ZeroDivisionError("x"), "failed", 1),
        (Stopped("by SIGINT"), "interrupted", 130),
    ],
)
def test_runs_that_end_early_are_on_record(tree, error, status, code):
    night = Night(run_id="first")
    nights.run(tree, night, dict(list(WORLD.items())[:3]))
    update = nights.extend(tree, night, WORLD, WORLD)

    def fail():
        with failures_recorded(job(tree, night, update)) as known:
            known.plan = plan(update)
            raise error

    with pytest.raises(type(error)):
        fail()
    record = json.loads((tree.root / "runs/first/run.json").read_text())
    assert (record["status"], record["exit_code"]) == (status, code)
    assert str(error) in record["error"]
    assert (record["images"], record["missing"], record["rows_written"]) == (3, 4, 3)
    refuse_used_run_id(tree, "first")


@pytest.mark.parametrize("text", ['{"status": "done"}', "[]", "{"])
def test_the_name_of_a_finished_run_is_refused(tree, text):
    refuse_used_run_id(tree, "one")
    path = tree.run_path("one") / "run.json"
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(SettingsError, match="--run-id one"):
        refuse_used_run_id(tree, "one")
