"""What later plans say of shards: images that changed, are gone, or are back."""

import numpy as np
import pyarrow as pa
import pytest

from shards import revising
from shards.errors import OutputError, SourceError
from shards.inputs import InputBatch
from shards.plan import PlanLog, Prune
from tests.shards.factories import batches
from tests.shards.places import parquet_file, write_table

ROOT = b"/data"


@pytest.fixture
def log(tree):
    return new_log(tree)


def new_log(tree):
    return PlanLog(tree, tool_version="0.1.0")


def names(*numbers: int) -> list[bytes]:
    return [b"/data/%06d.jpg" % number for number in numbers]


def listing(states: dict[int, int]):
    """Images by number, each with its time."""
    keys = names(*sorted(states))
    times = np.array([states[number] for number in sorted(states)], np.int64)
    ones = np.ones(len(keys), np.int64)
    return [InputBatch(keys, ones, times, ones * 0)] if keys else []


def all_gone(keys):
    return [True] * len(keys)


def extend(log, states, *, prune=False, gone=all_gone, limit=1.0, root=ROOT):
    how = Prune(gone=gone, limit=limit) if prune else None
    return log.extend(listing(states), root=root, shard_size=3, run_id="run", prune=how)


def now(tree) -> dict[bytes, int]:
    """Every image of every shard, with its time; fails for one that is there twice."""
    log = new_log(tree)
    found: dict[bytes, int] = {}
    for shard in log.shards():
        inputs = log.read(shard)
        assert not found.keys() & set(inputs.keys)
        found |= dict(zip(inputs.keys, inputs.mtimes_ns.tolist(), strict=True))
    return found


def expected(states: dict[int, int]) -> dict[bytes, int]:
    return {names(number)[0]: time for number, time in states.items()}


def test_a_changed_image_revises_its_shard_alone(tree, log):
    first = extend(log, dict.fromkeys(range(7), 1))
    second = extend(log, dict.fromkeys(range(7), 1) | {4: 2})
    assert (second.new_plan, second.revision, second.changed) == (None, 2, 1)
    assert [shard.revision for shard in second.shards] == [0, 2, 0]
    assert second.shards[1].digest != first.shards[1].digest
    assert second.partly == {}
    assert now(tree) == expected(dict.fromkeys(range(7), 1) | {4: 2})
    assert list(log.history(first.shards[1])) == [second.shards[1], first.shards[1]]
    assert list(tree.staging.iterdir()) == []


def test_what_several_listings_found_changed_becomes_one_plan_at_the_end(tree, log):
    extend(log, dict.fromkeys(range(9), 1))
    with log.extending(shard_size=3, run_id="run") as extension:
        assert extension.add(listing({0: 2, 1: 1, 20: 1}), root=ROOT) == 3
        assert extension.add(listing({7: 2, 30: 1}), root=ROOT) == 2
        assert now(tree) == expected(dict.fromkeys([*range(9), 20, 30], 1))
        one, two = extension.publish()
    assert (one.new_plan, two.new_plan) == (2, 3)
    assert one.revision == two.revision == 4
    assert (one.changed, two.changed) == (1, 1)
    assert [shard.revision for shard in (*one.shards, *two.shards)] == [4, 0, 4, 0]
    states = dict.fromkeys([*range(9), 20, 30], 1) | {0: 2, 7: 2}
    assert now(tree) == expected(states)
    assert list(tree.staging.iterdir()) == []


def test_listings_that_change_the_same_shard_both_count(tree, log):
    extend(log, dict.fromkeys(range(3), 1))
    with log.extending(shard_size=3, run_id="run") as extension:
        extension.add(listing({0: 2, 1: 3}), root=ROOT)
        extension.add(listing({1: 3, 2: 4}), root=ROOT)
        one, two = extension.publish()
    assert one.shards == two.shards
    assert now(tree) == expected({0: 2, 1: 3, 2: 4})
    assert extend(log, {0: 2, 1: 3, 2: 4}).changed == 0


def test_listings_that_find_the_same_change_make_one_plan_of_it(tree, log):
    extend(log, {0: 1, 1: 1})
    with log.extending(shard_size=3, run_id="run") as extension:
        for _ in range(2):
            extension.add(listing({0: 2, 1: 1}), root=ROOT)
        one, two = extension.publish()
    assert one.revision == two.revision == 2
    assert one.shards == two.shards
    assert now(tree) == expected({0: 2, 1: 1})


def test_where_a_later_listing_has_lost_too_much_nothing_is_taken_out(tree, log):
    extend(log, dict.fromkeys(range(4), 1), root=b"/data")
    elsewhere = batches([b"/more/%d" % number for number in range(4)])
    log.extend(elsewhere, root=b"/more", shard_size=3, run_id="run")
    before = now(tree)
    few = Prune(gone=all_gone, limit=0.3)
    with log.extending(shard_size=3, run_id="run") as extension:
        extension.add(listing({0: 2, 1: 1, 2: 1, 5: 1}), root=ROOT, prune=few)
        with pytest.raises(SourceError, match="None was taken out"):
            extension.add(batches([b"/more/0"]), root=b"/more", prune=few)
    assert now(tree) == before | expected({5: 1})
    assert list(tree.staging.iterdir()) == []


def test_what_changes_back_is_the_shard_it_was(log):
    first = extend(log, {0: 1, 1: 1})
    extend(log, {0: 2, 1: 1})
    again = extend(log, {0: 1, 1: 1})
    assert again.shards[0].digest == first.shards[0].digest
    assert again.shards[0].revision == 3


def test_new_and_changed_images_come_in_two_plans(tree, log):
    extend(log, {0: 1, 2: 1})
    update = extend(log, {0: 1, 1: 1, 2: 2})
    assert (update.new_plan, update.revision) == (2, 3)
    assert [(shard.id, shard.rows, shard.revision) for shard in update.shards] == [
        ("p000001-00000", 2, 3),
        ("p000002-00000", 1, 0),
    ]
    assert now(tree) == expected({0: 1, 1: 1, 2: 2})


def test_pruned_images_leave_and_come_back_to_their_place(tree, log):
    everything = dict.fromkeys(range(6), 1)
    extend(log, everything)
    update = extend(log, {0: 1, 1: 1, 2: 1, 4: 1}, prune=True)
    assert (update.pruned, update.changed, update.revision) == (2, 0, 2)
    assert [(shard.rows, shard.revision) for shard in update.shards] == [(3, 0), (1, 2)]
    assert update.partly == {}
    assert now(tree) == expected({0: 1, 1: 1, 2: 1, 4: 1})
    back = extend(log, everything)
    assert (back.new_plan, back.revision, back.changed, back.covered) == (None, 3, 2, 6)
    assert now(tree) == expected(everything)
    assert back.shards[1].digest == next(iter(log.history(back.shards[1]))).digest


def test_without_prune_nothing_leaves(tree, log):
    extend(log, dict.fromkeys(range(6), 1))
    update = extend(log, {0: 1})
    assert (update.pruned, update.revision) == (0, None)
    assert update.partly == {"p000001-00000": np.packbits([1, 0, 0]).tobytes()}
    assert len(now(tree)) == 6


def test_only_what_lies_below_the_root_is_pruned(tree, log):
    paths = [
        b"/data/a/1.jpg",
        b"/data/a-b/2.jpg",
        b"/data/a/3.jpg",
        b"/data/a0.jpg",
        b"/data/z.jpg",
    ]
    log.extend(batches(paths), root=ROOT, shard_size=2, run_id="r")
    asked = []

    def gone(keys):
        asked.extend(keys)
        return all_gone(keys)

    log.extend(
        batches([b"/data/a/1.jpg"]),
        root=b"/data/a/",
        shard_size=2,
        run_id="r",
        prune=Prune(gone=gone, limit=0.5),
    )
    assert asked == [b"/data/a/3.jpg"]
    assert sorted(now(tree)) == sorted(set(paths) - {b"/data/a/3.jpg"})


def test_what_is_not_listed_and_not_gone_stays(tree, log):
    extend(log, dict.fromkeys(range(6), 1))
    update = extend(log, {0: 1}, prune=True, gone=lambda keys: [key in names(1, 5) for key in keys])
    assert update.pruned == 2
    assert now(tree) == expected(dict.fromkeys([0, 2, 3, 4], 1))


def test_more_than_the_limit_is_never_pruned(tree, log):
    extend(log, dict.fromkeys(range(6), 1))
    with pytest.raises(SourceError, match=r"4 of the 6 images known below /data .*0\.5.*None was"):
        extend(log, {0: 1, 1: 1, 9: 1}, prune=True, limit=0.5)
    assert len(list(tree.plans.iterdir())) == 1
    assert list(tree.staging.iterdir()) == []
    assert extend(log, {0: 1, 1: 1, 2: 1}, prune=True, limit=0.5).pruned == 3


def test_a_shard_that_lost_all_is_named_until_its_files_know(tree, log):
    extend(log, dict.fromkeys(range(6), 1))
    first = extend(log, {0: 1, 1: 1, 2: 1}, prune=True)
    again = extend(new_log(tree), {0: 1, 1: 1, 2: 1})
    for update in (first, again):
        assert [(shard.id, shard.rows) for shard in update.shards] == [
            ("p000001-00000", 3),
            ("p000001-00001", 0),
        ]
        assert update.partly.get("p000001-00001") in (None, b"\0")
    elsewhere = new_log(tree).extend(batches([b"/b/1"]), root=b"/b", shard_size=3, run_id="r")
    assert [shard.id for shard in elsewhere.shards] == ["p000003-00000"]


def test_a_rival_that_revises_the_same_shard_keeps_its_changes(tree, log, monkeypatch):
    extend(log, dict.fromkeys(range(6), 1))
    rival = dict.fromkeys(range(6), 1) | {0: 7, 1: 7, 5: 7}

    def publish(self, staged, final):
        monkeypatch.setattr(type(tree), "publish", real)
        extend(new_log(tree), rival)
        return real(self, staged, final)

    real = type(tree).publish
    monkeypatch.setattr(type(tree), "publish", publish)
    update = extend(log, dict.fromkeys(range(6), 1) | {1: 8, 2: 8})
    assert update.revision == 3
    # Of image 1, which both found changed, the word that came first stays.
    assert now(tree) == expected({0: 7, 1: 7, 2: 8, 3: 1, 4: 1, 5: 7})
    assert list(tree.staging.iterdir()) == []


def test_a_rival_that_found_the_same_leaves_nothing_to_say(tree, log, monkeypatch):
    extend(log, {0: 1, 1: 1})

    def publish(self, staged, final):
        monkeypatch.setattr(type(tree), "publish", real)
        extend(new_log(tree), {0: 2, 1: 1})
        return real(self, staged, final)

    real = type(tree).publish
    monkeypatch.setattr(type(tree), "publish", publish)
    update = extend(log, {0: 2, 1: 1})
    assert update.revision is None
    assert update.shards[0].revision == 2
    assert len(list(tree.plans.iterdir())) == 2


def test_rivals_for_the_number_alone_cost_one_more_try(tree, log, monkeypatch):
    extend(log, dict.fromkeys(range(6), 1))
    rivals = [{0: 1, 20: 1}, {0: 1, 21: 1}, dict.fromkeys(range(6), 1) | {5: 3}]

    def publish(self, staged, final):
        if rivals:
            states = rivals.pop()
            monkeypatch.setattr(type(tree), "publish", real)
            extend(new_log(tree), states)
            monkeypatch.setattr(type(tree), "publish", publish)
        return real(self, staged, final)

    real = type(tree).publish
    monkeypatch.setattr(type(tree), "publish", publish)
    assert extend(log, dict.fromkeys(range(6), 1) | {0: 2}).revision == 5
    found = {0: 2, 1: 1, 2: 1, 3: 1, 4: 1, 5: 3, 20: 1, 21: 1}
    assert now(tree) == expected(found)


def test_endless_rivals_end_in_an_error(tree, log, monkeypatch):
    extend(log, {0: 1})
    monkeypatch.setattr(revising, "MAX_ATTEMPTS", 2)

    def publish(self, staged, final):
        monkeypatch.setattr(type(tree), "publish", real)
        extend(new_log(tree), {int(final.stem) + 10: 1})
        monkeypatch.setattr(type(tree), "publish", publish)
        return real(self, staged, final)

    real = type(tree).publish
    monkeypatch.setattr(type(tree), "publish", publish)
    with pytest.raises(OutputError, match="2 other runs extended"):
        extend(log, {0: 2})
    assert list(tree.staging.iterdir()) == []


def test_extras_come_with_a_change(log):
    def one(extra, time):
        number = np.array([time], np.int64)
        texts = None if extra is None else pa.array([extra])
        return [InputBatch(names(0), number, number, number * 0, texts)]

    log.extend(one('{"target": "cat"}', 1), root=ROOT, shard_size=3, run_id="r")
    kept = log.extend(one(None, 2), root=ROOT, shard_size=3, run_id="r")
    assert log.read(kept.shards[0]).extras.to_pylist() == ['{"target": "cat"}']
    new = log.extend(one('{"target": "dog"}', 3), root=ROOT, shard_size=3, run_id="r")
    assert log.read(new.shards[0]).extras.to_pylist() == ['{"target": "dog"}']


def test_a_revision_of_a_later_format_is_refused(tree, log):
    extend(log, {0: 1})
    extend(log, {0: 2})
    path = tree.plan_path(2)
    file = parquet_file(path)
    metadata = file.metadata.metadata | {b"nightshift.plan": b'{"format_version": 4}'}
    write_table(path, file.read().replace_schema_metadata(metadata))
    with pytest.raises(OutputError, match="has format 4, this Nightshift reads 3"):
        extend(new_log(tree), {0: 2})


@pytest.mark.parametrize("damage", ["number", "shard", "rows", "json"])
def test_a_damaged_revision_stops_planning(tree, log, damage):
    extend(log, {0: 1})
    extend(log, {0: 2})
    path = tree.plan_path(2)
    file = parquet_file(path)
    header = file.metadata.metadata[b"nightshift.revisions"]
    new = {
        "number": header.replace(b'"plan": 2', b'"plan": 3'),
        "shard": header.replace(b'"ordinal": 0', b'"ordinal": 9'),
        "rows": header.replace(b'"rows": 1, "revisions"', b'"rows": 5, "revisions"'),
        "json": header[:-9],
    }[damage]
    assert new != header
    metadata = file.metadata.metadata | {b"nightshift.revisions": new}
    write_table(path, file.read().replace_schema_metadata(metadata))
    with pytest.raises(OutputError, match=r"cannot read the plan .*000002\.parquet"):
        extend(new_log(tree), {0: 2})
