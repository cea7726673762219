from __future__ import annotations

import logging
from dataclasses import replace

import pytest

from tasks.plan import plan
from tasks.prepare import prepare
from tasks.settings import Settings
from tests.models.tiny import Tiny, loaded


@pytest.mark.parametrize(
    ("labels", "warned"),
    [(tuple(f"LABEL_{index}" for index in range(7)), True), (tuple("abcdefg"), False)],
)
def test_classes_without_names_are_warned_of_before_hours_of_work(tmp_path, caplog, labels, warned):
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "a.jpg").write_bytes(b"not looked at")
    asked = Settings(images=str(photos), model="model", output=str(tmp_path / "out"))
    model = loaded(Tiny())
    fields = ("input_size", "resize", "interpolation", "crop", "pixel_range", "mean", "std")
    fields += ("channel_order", "alpha", "labels", "output", "activation", "batch")
    model = replace(model, labels=labels, sources=dict.fromkeys(fields, "here"))
    with caplog.at_level(logging.INFO):
        plan(prepare(asked, model=model))
    told = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert [
        text.startswith("the classes have no names but LABEL_0, LABEL_1, ...") for text in told
    ] == ([True] * warned)
