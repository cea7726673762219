from __future__ import annotations

import errno
import logging
from dataclasses import replace

import pytest

from shards.errors import OutputError
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
