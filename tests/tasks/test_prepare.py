from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from engines.embedding import Embedding
from shards.columns import OptionalColumns, settle_columns
from shards.errors import ColumnsError
from tasks.errors import SettingsError
from tasks.prepare import prepare
from tasks.settings import Settings
from tests.models.tiny import Tiny, loaded


@pytest.fixture
def asked(tmp_path):
    return {"images": str(tmp_path), "model": "model", "output": str(tmp_path / "out")}


def many_classes(count):
    return replace(loaded(Tiny()), labels=tuple(map(str, range(count))))


def with_embedding(width):
    return replace(loaded(Tiny()), embedding=Embedding(tensor="t", width=width))


@pytest.mark.parametrize(
    ("model", "options", "text"),
    [
        (
            many_classes(3000),
            {"save_logits": True},
            "--save-logits with --shard-size 1000000: 3000 values for each image are 3000000000 in"
            " one file, which holds at most 2147483647. Choose --shard-size 715827 or less",
        ),
        (
            with_embedding(2148),
            {"save_embedding": True},
            "--save-embedding with --shard-size 1000000: 2148 values.* --shard-size 999759 or less",
        ),
    ],
)
def test_lists_that_a_file_cannot_hold_are_refused_before_anything_is_written(
    asked, model, options, text
):
    with pytest.raises(SettingsError, match=text):
        prepare(Settings(**asked, **options, shard_size=1_000_000), model=model)
    assert not Path(asked["output"]).exists()
    prepare(Settings(**asked, shard_size=1_000_000), model=many_classes(3000))


def test_a_run_that_asks_for_other_columns_is_refused(asked):
    job = prepare(Settings(**asked, save_logits=True), model=loaded(Tiny()))
    assert job.columns == OptionalColumns(logits=True)
    settle_columns(job.tree, job.columns)
    for other in ({}, {"save_logits": True, "topk_format": "wide"}):
        with pytest.raises(ColumnsError, match="begun with --save-logits, and this run asks for"):
            prepare(Settings(**asked, **other), model=loaded(Tiny()))
    prepare(Settings(**asked, save_logits=True, topk_format="none"), model=loaded(Tiny()))


def test_nothing_is_on_record_before_rows_are_about_to_be_written(asked):
    prepare(Settings(**asked, save_logits=True), model=loaded(Tiny()))
    prepare(Settings(**asked), model=loaded(Tiny()))
