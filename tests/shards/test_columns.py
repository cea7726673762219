from __future__ import annotations

import multiprocessing
import time
from pathlib import Path

import pytest

from shards.columns import OptionalColumns, check_columns, recorded_columns, settle_columns
from shards.commit import publish
from shards.errors import ColumnsError, OutputError
from shards.local_tree import LocalTree
from tests.shards.factories import MODEL_ID, footer, shard_inputs, table
from tests.shards.places import write

NONE = OptionalColumns()
LOGITS = OptionalColumns(logits=True)
ALL = OptionalColumns(logits=True, embedding=True, wide=3)


def write_rows(tree):
    rows = table(shard_inputs([b"/data/a.jpg"]))
    publish(rows, footer(rows), tree=tree, model_id=MODEL_ID, shard_id="p000001-00000")


def test_names_come_in_the_tables_order():
    assert NONE.names == ()
    assert ALL.names == (
        *("logits", "embedding"),
        *("label_2", "label_id_2", "score_2", "label_3", "label_id_3", "score_3"),
    )


@pytest.mark.parametrize("columns", [NONE, LOGITS, ALL])
def test_the_first_choice_stays(tree, columns):
    check_columns(tree, columns)
    assert not tree.columns.exists()
    settle_columns(tree, columns)
    before = tree.columns.read_bytes()
    settle_columns(tree, columns)
    check_columns(tree, columns)
    assert tree.columns.read_bytes() == before
    assert list(tree.staging.iterdir()) == []


@pytest.mark.parametrize("step", [check_columns, settle_columns])
@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        (NONE, LOGITS, "begun with no optional columns, and this run asks for --save-logits:"),
        (LOGITS, NONE, "begun with --save-logits, and this run asks for no optional columns:"),
        (
            ALL,
            OptionalColumns(wide=2),
            "begun with --save-logits --save-embedding --topk-format wide --top-k 3, and this run"
            " asks for --topk-format wide --top-k 2:",
        ),
    ],
)
def test_another_choice_is_refused_in_words(tree, step, first, second, words):
    settle_columns(tree, first)
    with pytest.raises(ColumnsError) as held:
        step(tree, second)
    assert held.value.exit_code == 2
    assert words in str(held.value)
    assert "choose another --output" in str(held.value)


@pytest.mark.parametrize("step", [check_columns, settle_columns])
def test_rows_without_a_record_have_no_optional_columns(tree, step):
    write_rows(tree)
    with pytest.raises(ColumnsError, match="begun with no optional columns"):
        step(tree, LOGITS)
    step(tree, NONE)


def test_columns_of_a_later_version_are_refused_by_name(tree):
    write(tree.columns, b'{"optional_columns": ["logits", "target"], "more": 1}')
    with pytest.raises(ColumnsError, match=r"does not write: logits, target\. Use the version"):
        check_columns(tree, LOGITS)


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", '{"optional_columns": "logits"}', '{"optional_columns": [1]}', "\xff"]
)
def test_a_damaged_record_is_said_to_be_damaged(tree, text):
    write(tree.columns, text.encode("latin-1"))
    with pytest.raises(OutputError, match=r"columns.json is damaged: .*choose another --output"):
        check_columns(tree, NONE)


KEPT = OptionalColumns(logits=True, kept=(("target", "string"), ("width_m", "double")))


def test_columns_that_came_with_images_are_on_record_and_what_a_run_lacks_is_no_matter(tree):
    assert settle_columns(tree, KEPT, ["width_m"]) == KEPT
    assert settle_columns(tree, LOGITS) == KEPT
    other = OptionalColumns(logits=True, kept=(("target", "int64"), ("more", "bool")))
    assert settle_columns(tree, other) == recorded_columns(tree) == KEPT
    assert KEPT.names == ("logits", "target", "width_m")
    with pytest.raises(ColumnsError, match="begun with --save-logits, and this run asks for no"):
        settle_columns(tree, NONE)


@pytest.mark.parametrize("step", [check_columns, settle_columns])
def test_columns_that_are_to_be_kept_must_be_on_record(tree, step):
    settle_columns(tree, KEPT)
    with pytest.raises(ColumnsError, match="without the columns more that --keep-columns asks"):
        step(tree, LOGITS, ["target", "more"])


def settle(root: str, logits: bool, start: float) -> str:
    tree = LocalTree(Path(root))
    time.sleep(max(0.0, start - time.time()))
    try:
        settle_columns(tree, OptionalColumns(logits=logits))
    except ColumnsError:
        return "refused"
    return "settled"


def test_of_runs_that_begin_a_table_at_once_one_kind_goes_on(tmp_path):
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        for number in range(10):
            tree = LocalTree.create(tmp_path / str(number))
            start = time.time() + 0.05
            work = [(str(tree.root), bool(run % 2), start) for run in range(4)]
            ends = pool.starmap(settle, work, chunksize=1)
            assert sorted(ends) == ["refused"] * 2 + ["settled"] * 2
            assert ends[0] == ends[2]
