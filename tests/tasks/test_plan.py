from __future__ import annotations

import errno
import logging
from dataclasses import replace

import pytest

from benchmarks.reliability.synthetic import write_shards
from shards import listing
from shards.errors import OutputError, SourceError
from shards.plan import PlanLog
from tasks.plan import plan
from tasks.prepare import prepare
from tasks.settings import Settings
from tests.models.tiny import Tiny, loaded


def folder(path, images):
    path.mkdir()
    for number in range(images):
        (path / f"{number}.jpg").write_bytes(b"not looked at")


def planned(caplog, labels=tuple("abcdefg"), level=logging.WARNING, **settings):
    """Plan, and return what was said at a level."""
    with caplog.at_level(logging.INFO):
        plan(prepared(labels, **settings))
    return [record.getMessage() for record in caplog.records if record.levelno == level]


def prepared(labels=tuple("abcdefg"), **settings):
    fields = ("input_size", "resize", "interpolation", "crop", "pixel_range", "mean", "std")
    fields += ("channel_order", "alpha", "labels", "output", "activation", "batch")
    model = replace(loaded(Tiny()), labels=labels, sources=dict.fromkeys(fields, "here"))
    return prepare(Settings(model="model", **settings), model=model)


@pytest.mark.parametrize(
    ("labels", "warned"),
    [(tuple(f"LABEL_{index}" for index in range(7)), True), (tuple("abcdefg"), False)],
)
def test_classes_without_names_are_warned_of_before_hours_of_work(tmp_path, caplog, labels, warned):
    folder(tmp_path / "photos", images=1)
    told = planned(caplog, labels, images=str(tmp_path / "photos"), output=str(tmp_path / "out"))
    assert [
        text.startswith("the classes have no names but LABEL_0, LABEL_1, ...") for text in told
    ] == ([True] * warned)


def test_of_several_sources_one_without_an_image_is_not_passed_over_in_silence(tmp_path, caplog):
    folder(tmp_path / "photos", images=3)
    folder(tmp_path / "unmounted", images=0)
    sources = [str(tmp_path / name) for name in ("photos", "unmounted")]
    [told] = planned(caplog, images=sources, output=str(tmp_path / "out"))
    assert told.startswith(f"no image in {tmp_path / 'unmounted'}: ")


def test_a_damaged_file_is_set_aside_and_the_other_shards_are_planned(tmp_path, caplog):
    folder(tmp_path / "photos", images=3)
    job = prepared(images=str(tmp_path / "photos"), output=str(tmp_path / "out"), shard_size=1)
    one, two, three = plan(job).todo
    path = job.tree.shard_path(job.model.model_id, two.id)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"PAR1 and no footer PAR1")
    found = plan(job)
    assert list(found.todo) == [one, three]
    assert found.images_todo == 2
    assert found.unreadable.keys() == {two}
    assert found.shards == [one, two, three]
    assert f"{path} is damaged" in found.unreadable[two]
    assert f"shard {two.id} is set aside, the others are done: {path}" in caplog.text


def test_a_file_that_cannot_be_read_may_be_whole_and_ends_the_run(tmp_path, monkeypatch):
    folder(tmp_path / "photos", images=1)
    job = prepared(images=str(tmp_path / "photos"), output=str(tmp_path / "out"))

    def fail(path):
        raise OSError(errno.EREMOTEIO, "the bucket does not answer")

    monkeypatch.setattr("shards.footer.footer_source", fail)
    with pytest.raises(OutputError, match="the bucket does not answer"):
        plan(job)


def test_what_is_to_do_is_told_beside_all_that_was_listed(tmp_path, caplog):
    folder(tmp_path / "photos", images=3)
    settings = {"images": str(tmp_path / "photos"), "output": str(tmp_path / "out")}
    told = planned(caplog, level=logging.INFO, shard_size=2, **settings)[-1]
    assert told.startswith("3 images listed, 3 to do (")
    assert told.endswith("shards: 2 to do, 0 finished)")


def found_while(monkeypatch, job):
    """Plan; returns how many images had been listed whenever work was found."""
    monkeypatch.setattr(listing, "BATCH_ROWS", 2)
    listed, found = [0], []
    batch = listing.Listing._batch

    def counted(self, *columns):
        made = batch(self, *columns)
        listed[0] += len(made)
        return made

    monkeypatch.setattr(listing.Listing, "_batch", counted)
    plan(job, lambda: found.append(listed[0]))
    return found


def finished(tmp_path, **settings):
    """A job of six images that have their rows."""
    folder(tmp_path / "photos", images=6)
    job = prepared(
        images=str(tmp_path / "photos"), output=str(tmp_path / "out"), shard_size=2, **settings
    )
    log = PlanLog(job.tree, tool_version="0.1.0")
    write_shards(job.tree, log, list(plan(job).todo), model_id=job.model.model_id)
    assert plan(job).todo == {}
    return job


def test_work_is_found_in_a_new_output_before_anything_is_listed(tmp_path, monkeypatch):
    folder(tmp_path / "photos", images=6)
    job = prepared(images=str(tmp_path / "photos"), output=str(tmp_path / "out"))
    assert found_while(monkeypatch, job)[0] == 0


def test_no_work_is_found_where_all_is_finished(tmp_path, monkeypatch):
    assert found_while(monkeypatch, finished(tmp_path)) == []


def test_work_that_was_left_is_found_before_anything_is_listed(tmp_path, monkeypatch):
    job = finished(tmp_path)
    next(iter(job.tree.files())).unlink()
    assert found_while(monkeypatch, job)[0] == 0


@pytest.mark.parametrize("option", ["overwrite", "retry_errors"])
def test_finished_rows_that_are_asked_for_again_are_work_at_once(tmp_path, monkeypatch, option):
    job = finished(tmp_path)
    job = replace(job, settings=job.settings.model_copy(update={option: True}))
    assert found_while(monkeypatch, job)[0] == 0


def test_an_image_that_changed_is_work_as_soon_as_it_is_listed(tmp_path, monkeypatch):
    job = finished(tmp_path)
    (tmp_path / "photos/3.jpg").write_bytes(b"another")
    assert found_while(monkeypatch, job)[0] == 4


def test_a_new_image_is_work_as_soon_as_it_is_listed(tmp_path, monkeypatch):
    job = finished(tmp_path)
    (tmp_path / "photos/35.jpg").write_bytes(b"new")
    assert found_while(monkeypatch, job)[0] == 6


def test_an_image_that_is_gone_is_no_work_for_a_device(tmp_path, monkeypatch):
    job = finished(tmp_path, prune=True)
    (tmp_path / "photos/5.jpg").unlink()
    assert found_while(monkeypatch, job) == []
    assert plan(job).images_todo == 0


def test_nothing_is_pruned_where_one_of_several_sources_has_lost_too_much(tmp_path):
    for name in ("one", "two"):
        folder(tmp_path / name, images=4)
    settings = {
        "images": [str(tmp_path / name) for name in ("one", "two")],
        "output": str(tmp_path / "out"),
        "prune": True,
        "prune_limit": 0.5,
    }
    plan(prepared(**settings))
    (tmp_path / "one/0.jpg").unlink()
    for number in range(3):
        (tmp_path / f"two/{number}.jpg").unlink()
    job = prepared(**settings)
    plans = list(job.tree.plans.iterdir())
    with pytest.raises(SourceError, match=r"3 of the 4 images known below .*/two are gone"):
        plan(job)
    assert list(job.tree.plans.iterdir()) == plans
    assert plan(prepared(**settings | {"prune_limit": 1.0})).pruned == 4


@pytest.mark.parametrize("order", [1, -1], ids=["list last", "list first"])
def test_what_a_list_names_keeps_its_row_although_it_is_gone(tmp_path, order):
    folder(tmp_path / "photos", images=4)
    names = tmp_path / "list.txt"
    names.write_text("photos/1.jpg\nphotos/never.jpg\n")
    settings = {
        "images": [str(tmp_path / "photos"), str(names)][::order],
        "output": str(tmp_path / "out"),
        "prune": True,
    }
    assert plan(prepared(**settings)).images_todo == 5
    (tmp_path / "photos/1.jpg").unlink()
    (tmp_path / "photos/2.jpg").unlink()
    for pruned in (1, 0):
        second = plan(prepared(**settings))
        assert (second.pruned, second.images_todo) == (pruned, 4)
    names.write_text("photos/3.jpg\n")
    last = plan(prepared(**settings))
    assert (last.pruned, last.images_todo) == (2, 2)
