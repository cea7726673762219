import json
import os
import threading
import tracemalloc
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shards import plan_file, plan_header, planning
from shards.errors import OutputError, SourceError
from shards.inputs import GONE, InputBatch
from shards.listing import list_directory
from shards.local_tree import LocalTree
from shards.plan import PlanLog, ShardRef, work_key
from tests.shards.factories import all_paths, batches

ROOT = b"/data"


@pytest.fixture
def tree(tmp_path):
    return LocalTree.create(tmp_path / "out")


@pytest.fixture
def log(tree):
    return PlanLog(tree, tool_version="0.1.0")


def names(*numbers: int) -> list[bytes]:
    return [b"/data/%06d.jpg" % number for number in numbers]


def extend(log, paths, *, shard_size=3, root=ROOT, rows=1000, **attributes):
    return log.extend(
        batches(paths, rows=rows, **attributes), root=root, shard_size=shard_size, run_id="run-1"
    )


def plan_files(tree) -> list[str]:
    return sorted(path.name for path in tree.plans.iterdir())


def in_log(tree) -> list[bytes]:
    """Every path of every plan, whatever run it came from."""
    log = PlanLog(tree, tool_version="0.1.0")
    found = []
    for ref in log.shards():
        shard = log.read(ref)
        assert len(shard) == ref.rows
        found += shard.keys
    return found


def test_the_first_listing_becomes_the_first_plan(tree, log):
    update = extend(log, names(*range(7)))
    assert (update.new_plan, update.new_inputs, update.covered, update.changed) == (1, 7, 0, 0)
    assert [(shard.id, shard.rows) for shard in update.shards] == [
        ("p000001-00000", 3),
        ("p000001-00001", 3),
        ("p000001-00002", 1),
    ]
    assert [log.read(shard).keys for shard in update.shards] == [
        names(0, 1, 2),
        names(3, 4, 5),
        names(6),
    ]
    assert log.read(update.shards[0]).root == ROOT
    assert list(tree.staging.iterdir()) == []


def test_the_same_listing_again_adds_nothing(tree, log):
    first = extend(log, names(*range(7)))
    again = extend(log, names(*range(7)))
    assert (again.new_plan, again.new_inputs, again.covered, again.changed) == (None, 0, 7, 0)
    assert again.shards == first.shards
    assert plan_files(tree) == ["000001.parquet"]


def test_new_images_alone_make_a_new_plan(tree, log):
    first = extend(log, names(1, 3, 5))
    second = extend(log, names(0, 1, 2, 3, 4, 5, 6))
    assert (second.new_plan, second.new_inputs, second.covered) == (2, 4, 3)
    assert [shard.id for shard in second.shards] == [
        "p000001-00000",
        "p000002-00000",
        "p000002-00001",
    ]
    assert second.shards[0] == first.shards[0]
    assert log.read(second.shards[1]).keys == names(0, 2, 4)


def test_an_update_names_only_the_shards_of_this_listing(log):
    extend(log, names(*range(12)))
    update = extend(log, names(4, 9, 10, 20))
    assert [shard.id for shard in update.shards] == [
        "p000001-00001",
        "p000001-00003",
        "p000002-00000",
    ]
    assert update.inputs == 4
    assert update.absent == 3


def test_overlapping_roots_share_their_images(log):
    extend(log, [b"/data/a/1.jpg", b"/data/a/2.jpg"], root=b"/data/a")
    outer = extend(log, [b"/data/0.jpg", b"/data/a/1.jpg", b"/data/a/2.jpg", b"/data/b/3.jpg"])
    assert (outer.new_inputs, outer.covered) == (2, 2)
    assert log.read(outer.shards[0]).root == b"/data/a"
    assert log.read(outer.shards[1]).root == b"/data"
    inner = extend(log, [b"/data/b/3.jpg", b"/data/b/4.jpg"], root=b"/data/b")
    assert (inner.new_inputs, inner.covered) == (1, 1)


def test_changed_images_are_counted_and_keep_their_shard(log):
    first = extend(log, names(*range(4)))
    assert extend(log, names(*range(4)), mtime_ns=2).changed == 4
    assert extend(log, names(1, 2), size=9).changed == 2
    update = extend(log, names(*range(4)), size=9)
    assert (update.new_plan, update.revision, update.changed) == (None, 4, 2)
    assert [shard.id for shard in update.shards] == [shard.id for shard in first.shards]
    assert {shard.revision for shard in update.shards} == {4}
    again = extend(log, names(*range(4)), size=9)
    assert (again.changed, again.revision, again.shards) == (0, None, update.shards)


def test_all_that_is_known_of_an_image_is_kept(log):
    sizes = np.array([3, 2**40, 0], np.int64)
    times = np.array([-5, 2**62, 1_700_000_000_123_456_789], np.int64)
    offsets = np.array([0, 2**41, 512], np.int64)
    extras = pa.array([None, '{"target": "cat"}', "{}"])
    batch = InputBatch(names(1, 2, 3), sizes, times, offsets, extras)
    update = log.extend([batch], root=ROOT, shard_size=2, run_id="r")
    shards = [log.read(shard) for shard in update.shards]
    assert np.concatenate([shard.sizes for shard in shards]).tolist() == sizes.tolist()
    assert np.concatenate([shard.mtimes_ns for shard in shards]).tolist() == times.tolist()
    assert np.concatenate([shard.offsets for shard in shards]).tolist() == offsets.tolist()
    assert [row for shard in shards for row in shard.extras.to_pylist()] == extras.to_pylist()


def test_names_that_are_no_text_survive(tmp_path, log):
    root = os.fsencode(tmp_path) + b"/caf\xe9"
    os.mkdir(root)
    for name in (b"\xff.jpg", b"a\\b.jpg", b"new\nline.jpg"):
        with open(root + b"/" + name, "wb"):
            pass
    listing = list_directory(root, extensions=[".jpg"])
    update = log.extend(listing, root=listing.root, shard_size=2, run_id="r")
    paths = all_paths([update], log)
    assert sorted(paths) == sorted(root + b"/" + name for name in os.listdir(root))
    assert log.read(update.shards[0]).root == root


def test_a_plan_says_where_it_comes_from(tree, log):
    extend(log, names(1, 2), shard_size=5)
    metadata = pq.read_metadata(tree.plan_path(1)).metadata
    header = json.loads(metadata[b"nightshift.plan"])
    assert {key: header[key] for key in header if key not in {"digests", "created_at"}} == {
        "format_version": 2,
        "plan": 1,
        "root": "file:///data",
        "run_id": "run-1",
        "tool_version": "0.1.0",
        "shard_size": 5,
        "group_rows": 16380,
        "rows": 2,
    }


def listed(update, log) -> set[bytes]:
    """Those images of an update's shards that it says were listed."""
    found = set()
    for shard in update.shards:
        rows = log.rows(shard)
        bits = update.partly.get(shard.id)
        here = np.ones(len(rows)) if bits is None else np.unpackbits(np.frombuffer(bits, np.uint8))
        present = rows.column("size").to_numpy() != GONE
        keys = rows.column("key").to_pylist()
        found |= {keys[row] for row in np.flatnonzero(here[: len(rows)] * present)}
    return found


def planned_times(log) -> dict[bytes, int]:
    shards = [log.read(shard) for shard in log.shards()]
    return {key: time for s in shards for key, time in zip(s.keys, s.mtimes_ns, strict=True)}


LISTINGS = st.lists(
    st.tuples(
        st.sampled_from([b"/data", b"/data/a", b"/data/b"]),
        st.sets(st.integers(0, 40), min_size=1),
        st.integers(1, 7),  # shard_size
        st.integers(1, 9),  # rows of a batch
        st.integers(0, 2),  # mtime_ns
    ),
    min_size=1,
    max_size=6,
)


def numbered(root: bytes, number: int) -> bytes:
    """One of 41 names, some of them directly in /data, some in /data/a or /data/b."""
    directory = {b"/data": [b"/data", b"/data/a", b"/data/b"][number % 3]}.get(root, root)
    return b"%s/%d.jpg" % (directory, number // 3)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(listings=LISTINGS, group=st.integers(1, 12), in_memory=st.integers(0, 3))
def test_any_sequence_of_listings_puts_every_image_into_exactly_one_shard(
    tmp_path_factory, monkeypatch, listings, group, in_memory
):
    monkeypatch.setattr(plan_file, "GROUP_ROWS", group)
    monkeypatch.setattr(planning, "MAX_PLANS_IN_MEMORY", in_memory)
    tree = LocalTree.create(tmp_path_factory.mktemp("out"))
    log = PlanLog(tree, tool_version="0.1.0")
    times: dict[bytes, int] = {}
    for root, numbers, shard_size, rows, mtime_ns in listings:
        paths = {numbered(root, number) for number in numbers}
        update = extend(log, paths, root=root, shard_size=shard_size, rows=rows, mtime_ns=mtime_ns)
        known = paths & times.keys()
        assert update.covered == len(known)
        assert update.new_inputs == len(paths - known)
        assert update.changed == sum(times[path] != mtime_ns for path in known)
        times |= dict.fromkeys(paths, mtime_ns)
        shards = [log.read(shard) for shard in update.shards]
        assert all(paths & set(shard.keys) for shard in shards)
        assert paths <= {path for shard in shards for path in shard.keys}
        assert all(shard.keys == sorted(shard.keys) for shard in shards)
        assert [shard.ref for shard in shards] == sorted(shard.ref for shard in shards)
        assert update.absent == sum(map(len, shards)) - len(paths)
        assert listed(update, log) == paths
    assert sorted(in_log(tree)) == sorted(times)
    assert all(times[key] == mtime_ns for key, mtime_ns in planned_times(log).items())


def test_a_plan_that_another_run_made_meanwhile_is_taken_out(tree, log, monkeypatch):
    rivals = [names(*range(0, 10, 2)), names(*range(0, 10, 3)), names(1, 20)]

    def link(source, target):
        if rivals and Path(target).parent == tree.plans:
            extend(PlanLog(tree, tool_version="0.1.0"), rivals.pop())
        return real(source, target)

    real = os.link
    monkeypatch.setattr(os, "link", link)
    update = extend(log, names(*range(10)), mtime_ns=2)
    assert rivals == []
    assert update.new_plan == 4
    assert log.read(update.shards[-1]).keys == names(5, 7)
    assert (update.new_inputs, update.covered, update.changed) == (2, 8, 8)
    assert sorted(in_log(tree)) == names(*range(10), 20)
    assert set(names(*range(10))) <= set(all_paths([update], log))
    assert list(tree.staging.iterdir()) == []


def test_a_rival_that_takes_everything_leaves_no_empty_plan(tree, log, monkeypatch):
    def link(source, target):
        monkeypatch.setattr(os, "link", real)
        extend(PlanLog(tree, tool_version="0.1.0"), names(*range(10)))
        return real(source, target)

    real = os.link
    monkeypatch.setattr(os, "link", link)
    update = extend(log, names(*range(5)))
    assert (update.new_plan, update.covered) == (None, 5)
    assert [shard.id for shard in update.shards] == ["p000001-00000", "p000001-00001"]
    assert plan_files(tree) == ["000001.parquet"]


def test_endless_rivals_end_in_an_error(tree, log, monkeypatch):
    def link(source, target):
        number = int(Path(target).stem)
        monkeypatch.setattr(os, "link", real)
        extend(PlanLog(tree, tool_version="0.1.0"), names(100 + number))
        monkeypatch.setattr(os, "link", link)
        return real(source, target)

    real = os.link
    monkeypatch.setattr(planning, "MAX_ATTEMPTS", 4)
    monkeypatch.setattr(os, "link", link)
    with pytest.raises(OutputError, match="4 other runs extended"):
        extend(log, names(*range(10)))
    assert plan_files(tree) == [f"{number:06d}.parquet" for number in range(1, 5)]
    assert list(tree.staging.iterdir()) == []


@pytest.mark.parametrize("seed", range(5))
def test_planners_that_start_together_agree(tree, seed):
    random = np.random.default_rng(seed)
    listings = [names(*random.choice(300, size=150, replace=False).tolist()) for _ in range(6)]
    barrier = threading.Barrier(len(listings))
    updates = {}

    def work(index):
        barrier.wait()
        log = PlanLog(tree, tool_version="0.1.0")
        updates[index] = (extend(log, listings[index], shard_size=20, rows=40), log)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(len(listings))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(in_log(tree)) == sorted(set().union(*listings))
    for index, (update, log) in updates.items():
        assert update.inputs == 150
        assert set(listings[index]) <= set(all_paths([update], log))


def test_a_listing_that_fails_adds_no_plan(tree, log):
    def broken():
        yield from batches(names(1, 2, 3), rows=2)
        raise SourceError("cannot read /data/x")

    with pytest.raises(SourceError, match="/data/x"):
        log.extend(broken(), root=ROOT, shard_size=2, run_id="r")
    assert plan_files(tree) == []
    assert list(tree.staging.iterdir()) == []


def test_a_disk_that_fills_adds_no_plan(tree, log, monkeypatch):
    def fsync(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(OutputError, match=r"000001\.parquet: No space left on device\. The disk"):
        extend(log, names(1, 2, 3))
    assert plan_files(tree) == []
    assert list(tree.staging.iterdir()) == []


def test_a_missing_plan_stops_planning(tree, log):
    for number in range(3):
        extend(log, names(number))
    tree.plan_path(2).unlink()
    with pytest.raises(OutputError, match=r"000002\.parquet is missing, and 000003 is there"):
        extend(PlanLog(tree, tool_version="0.1.0"), names(0, 1, 2))


@pytest.mark.parametrize("damage", ["cut", "bytes", "foreign", "empty"])
def test_a_damaged_plan_stops_planning(tree, log, damage):
    update = extend(log, names(*range(5000)))
    path = tree.plan_path(1)
    content = path.read_bytes()
    if damage == "cut":
        path.write_bytes(content[:-20])
    elif damage == "bytes":
        path.write_bytes(content[:300] + bytes(64) + content[364:])
    elif damage == "foreign":
        pq.write_table(pa.table({"path": [b"x"]}), path)
    else:
        path.write_bytes(b"")
    fresh = PlanLog(tree, tool_version="0.1.0")
    with pytest.raises(OutputError, match=r"cannot read the plan .*000001\.parquet"):
        extend(fresh, names(*range(5000)))
    with pytest.raises(OutputError, match=r"cannot read the plan .*000001\.parquet"):
        fresh.read(update.shards[0])


def test_plans_of_the_first_format_are_read(tree, log):
    """As version 0.1.0 wrote them: `path`, no offsets, no extras."""
    update = extend(log, names(1, 2, 3), shard_size=2)
    path = tree.plan_path(1)
    rows = pq.read_table(path).drop_columns(["offset", "extra"]).rename_columns({"key": "path"})
    header = json.loads(pq.read_metadata(path).metadata[b"nightshift.plan"])
    metadata = {b"nightshift.plan": json.dumps(header | {"format_version": 1}).encode()}
    pq.write_table(rows.replace_schema_metadata(metadata), path)
    again = extend(PlanLog(tree, tool_version="0.1.0"), names(1, 2, 3, 4), shard_size=2)
    assert (again.covered, again.changed, again.shards[:2]) == (3, 0, update.shards)
    shard = PlanLog(tree, tool_version="0.1.0").read(update.shards[0])
    assert (shard.keys, shard.offsets.tolist(), shard.extras) == (names(1, 2), [0, 0], None)


def test_plans_of_a_later_format_are_refused(tree, log, monkeypatch):
    with monkeypatch.context() as later:
        later.setattr(plan_header, "FORMAT_VERSION", 3)
        extend(log, names(1))
    with pytest.raises(OutputError, match="has format 3, this Nightshift reads 1 to 2"):
        extend(PlanLog(tree, tool_version="0.1.0"), names(1))


@pytest.mark.parametrize("paths", [names(2, 1), names(1, 1)])
@pytest.mark.parametrize("rows", [1, 2])
def test_batches_that_planning_cannot_rely_on_are_refused(tree, log, paths, rows):
    ones = np.ones(rows, np.int64)
    parts = [paths[start : start + rows] for start in range(0, len(paths), rows)]
    with pytest.raises(ValueError, match="ascending byte order"):
        log.extend(
            [InputBatch(part, *[ones[: len(part)]] * 3) for part in parts],
            root=ROOT,
            shard_size=2,
            run_id="r",
        )
    assert plan_files(tree) == []


def test_a_shard_has_at_least_one_row(log):
    with pytest.raises(ValueError, match="shard_size"):
        extend(log, names(1), shard_size=0)


def test_empty_batches_are_passed_over(log):
    none = InputBatch([], *[np.empty(0, np.int64)] * 3)
    update = log.extend([none, *batches(names(1)), none], root=ROOT, shard_size=2, run_id="r")
    assert update.new_inputs == 1


def test_paths_too_long_for_statistics_are_compared_all_the_same(log):
    paths = [b"/data/" + b"%d" % number + b"x" * 5000 for number in range(5)]
    extend(log, paths[1:4])
    assert extend(log, paths).covered == 3


def test_digests_depend_on_all_that_makes_the_rows(tmp_path):
    def digests(name, paths, root=ROOT, **attributes):
        log = PlanLog(LocalTree.create(tmp_path / name), tool_version="0.1.0")
        return [shard.digest for shard in extend(log, paths, root=root, **attributes).shards]

    base = digests("a", names(1, 2, 3, 4))
    assert digests("b", names(1, 2, 3, 4), rows=1) == base
    assert len({*base, *digests("c", names(1, 2, 3, 4), mtime_ns=9)}) == 4
    assert len({*base, *digests("d", names(1, 2, 3, 4), size=9)}) == 4
    assert len({*base, *digests("e", names(1, 2, 3, 4), root=b"/")}) == 4
    shifted = [b"/data/1", b"/data/23"], [b"/data/12", b"/data/3"]
    assert digests("f", shifted[0]) != digests("g", shifted[1])


def test_work_keys_depend_on_images_model_and_schema():
    shard = ShardRef(1, 0, 3, "d" * 64)
    keys = {
        work_key(shard, model_id="m@1", schema_version="1.0"),
        work_key(ShardRef(1, 0, 3, "e" * 64), model_id="m@1", schema_version="1.0"),
        work_key(shard, model_id="m@2", schema_version="1.0"),
        work_key(shard, model_id="m@1", schema_version="2.0"),
    }
    assert len(keys) == 4
    assert all(len(key) == 64 for key in keys)
    # Where the shard's name comes from does not matter: the same images are the same work.
    assert work_key(ShardRef(2, 7, 3, "d" * 64), model_id="m@1", schema_version="1.0") in keys


def peak_bytes(root: Path, count: int) -> int:
    """Python's and Arrow's peak while synthetic images are planned, and planned again."""

    def listing():
        for start in range(0, count, 4096):
            numbers = range(start, min(start + 4096, count))
            paths = [b"/data/some/directory/image-%09d.jpg" % number for number in numbers]
            ones = np.ones(len(paths), np.int64)
            yield InputBatch(paths, ones, ones, ones)

    pool = pa.proxy_memory_pool(pa.default_memory_pool())
    before = pa.default_memory_pool()
    pa.set_memory_pool(pool)
    tracemalloc.start()
    try:
        log = PlanLog(LocalTree.create(root), tool_version="0.1.0")
        log.extend(listing(), root=ROOT, shard_size=1000, run_id="r")
        assert log.extend(listing(), root=ROOT, shard_size=1000, run_id="r").covered == count
        return tracemalloc.get_traced_memory()[1] + pool.max_memory()
    finally:
        tracemalloc.stop()
        pa.set_memory_pool(before)


def test_memory_of_planning_does_not_grow_with_the_images(tmp_path):
    peak_bytes(tmp_path / "warm", 50_000)
    few = peak_bytes(tmp_path / "few", 50_000)
    many = peak_bytes(tmp_path / "many", 200_000)
    # 150,000 more paths alone are 10 MB; digests and shard references are 200 bytes a shard.
    assert many < few + 1_000_000
