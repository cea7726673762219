"""What every output tree does, in a directory, in a bucket of S3's kind and of Google's."""

from __future__ import annotations

import pickle
import random
import time

import numpy as np
import pyarrow as pa
import pytest

from shards.commit import write_run_record
from shards.compact import compact, parts_of
from shards.errors import OutputError
from shards.footer import read_footer
from shards.inputs import InputBatch
from shards.output import OutputTree
from shards.place import Place, footer_source, opened, opened_in_parts
from shards.plan import PlanLog
from shards.predictions import encode
from shards.trees import create_tree, open_tree
from shards.verify_table import check_table
from shards.verify_tree import check_runs, leftovers
from tests.shards.factories import footer, shard_inputs, table
from tests.shards.nights import Night, run, states
from tests.shards.places import write
from tests.shards.races import race

pytestmark = pytest.mark.parametrize(
    "output", ["directory", "bucket", "google", "moto"], indirect=True
)


def publish(tree: OutputTree, final: Place, content: bytes) -> bool:
    with tree.stage("test") as staged:
        staged.file.write(content)
        return tree.publish(staged, final)


def swap(tree: OutputTree, final: Place, content: bytes, expected) -> bool:
    with tree.stage("test") as staged:
        staged.file.write(content)
        return tree.swap(staged, final, expected)


def test_an_output_is_there_once_it_has_plans(tree, output):
    nobodys = open_tree(output)
    assert nobodys.root == tree.root
    assert list(nobodys.files()) == []
    assert nobodys.shard_ids("m@1") == set()
    run(tree, Night(run_id="first"), {b"/data/a": 1})
    assert nobodys.is_there()
    assert create_tree(output + "/").root == tree.root
    assert not open_tree(output + "-other").is_there()
    assert pickle.loads(pickle.dumps(tree)) == tree


def test_a_name_is_taken_once(tree):
    final = tree.runs / "x"
    assert tree.identity(final) is None
    assert publish(tree, final, b"first")
    assert not publish(tree, final, b"second")
    assert final.read_bytes() == b"first"
    assert tree.identity(final) == tree.identity(final)
    assert list(tree.staging.iterdir()) == []


def test_only_the_version_that_was_looked_at_is_replaced(tree):
    final = tree.shard_path("m@1", "p000001-00000")
    publish(tree, final, b"first")
    first = tree.identity(final)
    assert swap(tree, final, b"second", first)
    second = tree.identity(final)
    assert second != first
    assert not swap(tree, final, b"third", first)
    assert final.read_bytes() == b"second"
    final.unlink()
    assert not swap(tree, final, b"third", second)
    assert tree.identity(final) is None
    assert list(tree.staging.iterdir()) == []


def test_replacing_asks_nothing(tree):
    final = tree.runs / "x"
    for content in (b"first", b"", b"second"):
        with tree.stage("test") as staged:
            staged.file.write(content)
            tree.replace(staged, final)
        assert final.read_bytes() == content


def test_an_empty_file_is_a_file(tree):
    final = tree.runs / "x"
    assert publish(tree, final, b"")
    assert not publish(tree, final, b"second")
    assert (final.read_bytes(), final.is_file(), final.exists()) == (b"", True, True)


def test_a_staged_file_goes_with_its_block_whatever_ends_it(tree):
    with pytest.raises(KeyboardInterrupt), tree.stage("test") as staged:  # noqa: PT012
        staged.file.write(b"half")
        assert staged.path.exists()
        raise KeyboardInterrupt
    assert list(tree.staging.iterdir()) == []
    assert list(tree.files()) == []


def test_places_answer_as_paths_do(tree):
    model = tree.shard_path("a=b/c% ü@1", "p000001-00000").parent
    for name in ("p000001-00000.parquet", "p000001-00001.parquet"):
        publish(tree, model / name, b"x")
    assert (model.name, model.is_dir(), model.is_file()) == ("model=a%3Db%2Fc%25 ü@1", True, False)
    assert sorted(path.stem for path in model.iterdir()) == ["p000001-00000", "p000001-00001"]
    assert all(path.is_file() and not path.is_dir() for path in model.iterdir())
    assert [path.is_dir() for path in tree.predictions.iterdir()] == [True]
    assert sorted(tree.files()) == sorted(model.iterdir())
    assert tree.shard_ids("a=b/c% ü@1") == {"p000001-00000", "p000001-00001"}
    path = model / "p000001-00000.parquet"
    path.unlink()
    path.unlink(missing_ok=True)
    with pytest.raises(FileNotFoundError):
        path.unlink()
    with pytest.raises(FileNotFoundError):
        path.read_bytes()
    assert (path.exists(), path.is_file(), path.is_dir()) == (False, False, False)


def test_a_footer_is_read_however_long_it_is(tree):
    rows = table(shard_inputs([b"/data/a.jpg"]))
    final = tree.shard_path("m@1", "p000001-00000")
    assert read_footer(final) is None
    long = footer(rows, key="w" * 200_000)
    write(final, encode(rows, long))
    assert read_footer(final) == long
    with footer_source(final) as source, opened(final) as whole:
        assert whole.read().endswith(source.read())
    write(final, b"no parquet" * 10_000)
    with pytest.raises(OutputError, match="is damaged"):
        read_footer(final)


def test_parts_are_of_the_version_that_was_opened(tree):
    final = tree.runs / "x"
    write(final, b"first" * 1_000_000)
    with opened_in_parts(final) as source:
        assert source.read(5) == b"first"
        source.seek(4_999_995)
        assert source.read(10) == b"first"
        assert source.size() == 5_000_000


def listing(*names: bytes, time: int = 1) -> list[InputBatch]:
    ones = np.ones(len(names), np.int64)
    return [InputBatch(sorted(names), ones, ones * time, ones * 0)]


def test_two_logs_that_extend_and_revise_in_turn_share_the_images(tree):
    logs = [PlanLog(tree, tool_version="0") for _ in range(2)]
    for turn in range(6):
        names = [b"/data/%d" % number for number in range(turn + 2)]
        update = logs[turn % 2].extend(
            listing(*names, time=turn // 2), root=b"/data", shard_size=2, run_id="r"
        )
        assert update.inputs == len(names)
    found = [key for shard in logs[0].shards() for key in logs[0].read(shard).keys]
    assert sorted(found) == [b"/data/%d" % number for number in range(7)]
    assert [shard.digest for shard in logs[0].shards()] == [
        shard.digest for shard in PlanLog(tree, tool_version="0").shards()
    ]


def test_a_plan_that_is_missing_is_named(tree):
    log = PlanLog(tree, tool_version="0")
    for name in (b"/data/a", b"/data/b", b"/data/c"):
        log.extend(listing(name), root=b"/data", shard_size=2, run_id="r")
    assert tree.plans_after(1) == [2, 3]
    tree.plan_path(2).unlink()
    with pytest.raises(OutputError, match=r"000002\.parquet is missing, and 000003 is there"):
        list(PlanLog(tree, tool_version="0").shards())


def test_nights_end_in_a_table_that_verifies_and_can_be_compacted(tree, tmp_path):
    nights = [
        (Night(run_id="first"), {b"/data/a": 1, b"/data/b": -1, b"/data/c": 1, b"/data/d": 1}),
        (Night(run_id="second"), {b"/data/a": 2, b"/data/b": -1, b"/data/d": 1, b"/data/e": 1}),
        (Night(run_id="third", prune=0.5), {b"/data/a": 2, b"/data/b": -1, b"/data/e": 1}),
        (Night(run_id="fourth", retry_errors=True), {b"/data/a": 2, b"/data/b": 1, b"/data/e": 1}),
        (Night(run_id="fifth", overwrite=True), {b"/data/a": 2, b"/data/b": 1, b"/data/e": 1}),
    ]
    assert [run(tree, night, world) for night, world in nights] == [4, 2, 0, 1, 3]
    world = nights[-1][1]
    assert states(tree) == world
    counts = {"images": 3, "ok": 3, "errors": 0, "skipped": 0, "rows_written": 3}
    write_run_record(tree, "r", {**counts, "errors_by_kind": {}, "run_id": "r"})
    for quick in (False, True):
        report = check_table(tree, quick=quick, workers=2)
        assert report.findings == ()
    assert check_runs(tree) == (1, [])
    assert leftovers(tree).files == 0
    parts = parts_of(tree, model_id=None, rows_per_file=2)
    files = compact(tree, parts, tmp_path / "few", workers=2, tool_version="0")
    assert sum(file.rows for file in files) == 3


def test_what_is_read_ahead_comes_in_order_and_errors_at_their_turn(tree):
    def read(number: int) -> int:
        if number == 70:
            raise ValueError(number)
        return number

    found = tree.ahead(read, iter(range(100)))
    assert [next(found) for _ in range(70)] == list(range(70))
    with pytest.raises(ValueError, match="70"):
        next(found)
    assert list(tree.ahead(read, [])) == []
    assert list(tree.ahead(read, [7])) == [7]


def test_of_all_writers_one_wins_each_version(tree):
    """Each version says which one it took the place of: together they are one chain."""
    final = tree.runs / "x"
    chance = random.Random(1)

    def pause() -> None:
        time.sleep(chance.random() / 200)

    won, chain = race(tree, final, writers=4, turns=6, pause=pause)
    assert set(chain[:-1]) == won
    assert len(chain[:-1]) == len(won) >= 6


def test_tables_of_arrow_are_read_from_places(tree):
    final = tree.runs / "x"
    write(final, b"0123456789")
    with opened(final) as source:
        assert isinstance(source, pa.NativeFile)
        assert (source.size(), source.read()) == (10, b"0123456789")
