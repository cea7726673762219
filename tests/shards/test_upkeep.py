"""Files of earlier revisions are brought up to date: what is kept, what is computed, who wins."""

import errno
import json
import os
import threading
from dataclasses import replace

import pytest

from shards import locks, upkeep
from shards.commit import Outcome
from shards.errors import DamagedFileError, LockedError, OutputError
from shards.footer import read_footer
from shards.local_tree import LocalTree
from shards.locks import locked
from tests.shards import nights
from tests.shards.factories import provenance
from tests.shards.nights import Night, computed, extend, rows, run, states
from tests.shards.places import parquet_file, write, write_table

in_a_directory = pytest.mark.parametrize("output", ["directory"], indirect=True)

FIRST, SECOND, THIRD = (Night(run_id=name) for name in ("first", "second", "third"))


def world(count: int, **changes: int) -> nights.World:
    return {b"/data/%d.jpg" % number: 1 for number in range(count)} | {
        f"/data/{name.removeprefix('n')}.jpg".encode(): state for name, state in changes.items()
    }


def footer(tree, shard="p000001-00000"):
    return read_footer(tree.shard_path("m@1", shard))


def rewrite(tree, shard="p000001-00000"):
    return {name: count for name, count in footer(tree, shard).rewrite.items() if count}


def test_a_changed_image_alone_is_computed_and_the_rest_of_its_shard_is_kept(tree):
    assert run(tree, FIRST, world(7)) == 7
    assert run(tree, SECOND, world(7, n4=2)) == 1
    assert states(tree) == world(7, n4=2)
    found = rows(tree)
    assert found[b"/data/4.jpg"]["run_id"] == "second"
    assert {found[b"/data/%d.jpg" % n]["run_id"] for n in (0, 1, 2, 3, 5, 6)} == {"first"}
    assert footer(tree, "p000001-00001").runs == {"first": 2, "second": 1}
    assert rewrite(tree, "p000001-00001") == {"run_id": "second", "kept": 2, "changed": 1}
    assert footer(tree).rewrite is None
    assert run(tree, THIRD, world(7, n4=2)) == 0


def test_pruned_images_leave_without_inference_and_come_back(tree):
    run(tree, FIRST, world(6))
    few = {key: 1 for key in world(6) if key not in (b"/data/1.jpg", b"/data/4.jpg")}
    assert run(tree, SECOND, few) == 0
    assert states(tree) == world(6)
    assert run(tree, replace(SECOND, prune=0.5), few) == 0
    assert states(tree) == few
    assert rewrite(tree) == {"run_id": "second", "kept": 2, "removed": 1}
    assert footer(tree).provenance.run_id == "first"
    assert run(tree, THIRD, world(6)) == 2
    assert states(tree) == world(6)
    assert rewrite(tree) == {"run_id": "third", "kept": 2, "added": 1}


def test_a_shard_that_lost_every_image_is_an_empty_file(tree):
    run(tree, FIRST, world(6))
    left = dict(list(world(6).items())[:3])
    run(tree, replace(SECOND, prune=0.5), left)
    assert states(tree) == left
    assert footer(tree, "p000001-00001").rows == 0
    assert run(tree, THIRD, world(6)) == 3
    assert states(tree) == world(6)


def test_another_model_is_brought_up_to_date_when_it_is_run(tree):
    other = replace(FIRST, model_id="other@1")
    run(tree, FIRST, world(6))
    run(tree, other, world(6))
    left = dict(list(world(6, n0=2).items())[:3])
    assert run(tree, replace(SECOND, prune=1), left) == 1
    assert states(tree, "other@1") == world(6)
    assert run(tree, replace(other, run_id="later"), left) == 1
    assert states(tree, "other@1") == left
    assert run(tree, replace(other, run_id="again"), left) == 0


def test_a_model_that_had_no_rows_gets_those_of_the_latest_revision(tree):
    run(tree, FIRST, world(6))
    left = dict(list(world(6).items())[:2])
    run(tree, replace(SECOND, prune=1), left)
    assert run(tree, replace(THIRD, model_id="other@1"), left) == 2
    assert states(tree, "other@1") == left
    assert not tree.shard_path("other@1", "p000001-00001").exists()


def test_errors_are_tried_again_alone(tree):
    run(tree, FIRST, world(7, n1=-1, n5=-1))
    mended = world(7, n5=-1)
    assert run(tree, SECOND, mended) == 0
    assert run(tree, replace(SECOND, retry_errors=True), mended) == 2
    assert states(tree) == mended
    assert rewrite(tree) == {"run_id": "second", "kept": 2, "retried": 1}
    assert rows(tree)[b"/data/0.jpg"]["run_id"] == "first"
    # What this run has tried stays tried; another one tries again.
    assert run(tree, replace(SECOND, retry_errors=True), mended) == 0
    assert run(tree, replace(THIRD, retry_errors=True), mended) == 1


def test_overwriting_keeps_the_rows_of_images_that_are_not_listed(tree):
    run(tree, FIRST, world(6))
    few = {key: 1 for key in world(6) if key not in (b"/data/1.jpg", b"/data/3.jpg")}
    assert run(tree, replace(SECOND, overwrite=True), few) == 4
    assert states(tree) == world(6)
    assert {key for key, row in rows(tree).items() if row["run_id"] == "second"} == set(few)
    assert rewrite(tree) == {"run_id": "second", "kept": 1, "overwritten": 2}
    assert run(tree, replace(SECOND, overwrite=True), few) == 0


def opened(tree, night, listed):
    """A run that has computed its one shard, and not published it."""
    update = extend(tree, night, listed, listed)
    files = nights.upkeep(tree, night, update)
    missing = files.missing(update.shards[0])
    return files, missing, computed(missing, night, listed)


def complete(run_under_way, night):
    files, missing, table = run_under_way
    return files.complete(missing, table, replace(provenance(), run_id=night.run_id))


def test_a_run_that_was_overtaken_by_a_newer_revision_drops_its_work(tree):
    run(tree, FIRST, world(3))
    stopped = opened(tree, SECOND, world(3, n0=2))
    run(tree, THIRD, world(3, n0=3, n1=3))
    path = tree.shard_path("m@1", "p000001-00000")
    before = tree.identity(path)
    assert complete(stopped, SECOND) is Outcome.ALREADY_THERE
    assert tree.identity(path) == before
    assert states(tree) == world(3, n0=3, n1=3)


def test_a_run_that_finds_a_newer_revision_that_nobody_wrote_says_so(tree):
    run(tree, FIRST, world(3))
    stopped = opened(tree, SECOND, world(3, n0=2))
    extend(tree, THIRD, world(3, n0=3), world(3, n0=3))
    assert complete(stopped, SECOND) is Outcome.OUTDATED
    assert states(tree) == world(3)


def test_what_was_computed_serves_a_newer_revision_where_it_can(tree):
    run(tree, FIRST, world(3))
    stopped = opened(tree, SECOND, world(3, n0=2, n1=2))
    # The other run saw the same two changes, and that image 2 is gone.
    left = {b"/data/0.jpg": 2, b"/data/1.jpg": 2}
    extend(tree, replace(THIRD, prune=1), left, left)
    assert complete(stopped, SECOND) is Outcome.PUBLISHED
    assert states(tree) == left


def test_two_runs_that_complete_a_missing_file_publish_it_once(tree):
    one, two = opened(tree, FIRST, world(3)), opened(tree, SECOND, world(3))
    assert complete(one, FIRST) is Outcome.PUBLISHED
    assert complete(two, SECOND) is Outcome.ALREADY_THERE
    assert {row["run_id"] for row in rows(tree).values()} == {"first"}


def test_a_file_of_an_older_revision_that_comes_first_is_replaced(tree):
    old = opened(tree, FIRST, world(3))
    new = opened(tree, SECOND, world(3, n0=2))
    files, missing, table = old
    with pytest.MonkeyPatch.context() as patched:
        # It looked at the log before the second run wrote there, and goes on now.
        patched.setattr(files._log, "latest", lambda shard: missing.shard)
        assert complete((files, missing, table), FIRST) is Outcome.PUBLISHED
    assert complete(new, SECOND) is Outcome.PUBLISHED
    assert states(tree) == world(3, n0=2)


def test_of_two_runs_that_replace_the_same_file_one_begins_again(tree, monkeypatch):
    run(tree, FIRST, world(3))
    stopped = opened(tree, SECOND, world(3, n0=2))
    kind = type(tree)
    swap = kind.swap

    def overtaken(self, staged, final, expected):
        monkeypatch.setattr(kind, "swap", swap)
        run(tree, THIRD, world(3, n0=2))
        return swap(self, staged, final, expected)

    monkeypatch.setattr(kind, "swap", overtaken)
    assert complete(stopped, SECOND) is Outcome.ALREADY_THERE
    assert rows(tree)[b"/data/0.jpg"]["run_id"] == "third"
    assert list(tree.staging.iterdir()) == []


def replaced_once_looked_at(monkeypatch, other_run):
    """Let another run replace a file between the look at its footer and the reading of its rows."""

    def look(path):
        monkeypatch.setattr(upkeep, "read_footer", read_footer)
        found = read_footer(path)
        other_run()
        return found

    monkeypatch.setattr(upkeep, "read_footer", look)


def test_a_file_that_is_replaced_between_two_looks_is_looked_at_again(tree, monkeypatch):
    run(tree, FIRST, world(3, n0=-1))
    left = {b"/data/0.jpg": -1, b"/data/2.jpg": 1}

    def other_run():
        run(tree, replace(THIRD, prune=0.5), left)

    retry = replace(SECOND, retry_errors=True)
    files, missing, table = opened(tree, retry, world(3, n0=-1))
    replaced_once_looked_at(monkeypatch, other_run)
    assert complete((files, missing, table), retry) is Outcome.PUBLISHED
    assert states(tree) == left
    assert {key: row["run_id"] for key, row in rows(tree).items()} == {
        b"/data/0.jpg": "second",
        b"/data/2.jpg": "first",
    }


def test_rows_to_do_and_listed_rows_are_those_of_one_and_the_same_file(tree, monkeypatch):
    run(tree, FIRST, world(3, n0=-1))
    update = extend(tree, SECOND, world(3, n0=-1), world(3, n0=-1))
    [shard] = update.shards
    files = nights.upkeep(tree, replace(SECOND, retry_errors=True), update)

    def prune(*keys):
        left = {key: state for key, state in world(3, n0=-1).items() if key not in keys}
        return lambda: run(tree, replace(THIRD, prune=1), left)

    replaced_once_looked_at(monkeypatch, prune(b"/data/1.jpg"))
    assert files.missing(shard).inputs.keys == [b"/data/0.jpg"]
    replaced_once_looked_at(monkeypatch, prune(b"/data/1.jpg", b"/data/0.jpg"))
    found, widths = files.listed_rows(shard, b"\xe0", ["width"])
    assert widths.column("width").to_pylist() == [1]
    assert found == footer(tree)
    tree.shard_path("m@1", shard.id).unlink()
    assert files.listed_rows(shard, b"\xe0", ["width"]) is None


def test_a_file_that_is_moved_away_between_two_looks_is_computed_whole(tree, monkeypatch):
    run(tree, FIRST, world(3))
    stopped = opened(tree, SECOND, world(3, n0=2))
    replaced_once_looked_at(monkeypatch, tree.shard_path("m@1", "p000001-00000").unlink)
    assert complete(stopped, SECOND) is Outcome.OUTDATED


def test_endless_replacements_end_in_an_error(tree, monkeypatch):
    run(tree, FIRST, world(3))
    stopped = opened(tree, SECOND, world(3, n0=2))
    monkeypatch.setattr(type(tree), "swap", lambda *arguments: False)
    with pytest.raises(OutputError, match=f"by other runs {upkeep.MAX_ATTEMPTS} times"):
        complete(stopped, SECOND)


def test_a_retried_error_never_replaces_a_label(tree):
    run(tree, FIRST, world(3, n0=-1))
    retry = replace(SECOND, retry_errors=True)
    stopped = opened(tree, retry, world(3, n0=-1))  # it fails again
    run(tree, replace(THIRD, retry_errors=True), world(3))
    assert complete(stopped, retry) is Outcome.ALREADY_THERE
    assert states(tree) == world(3)


def test_a_file_that_vanished_is_computed_whole(tree):
    run(tree, FIRST, world(3))
    stopped = opened(tree, SECOND, world(3, n0=2))
    tree.shard_path("m@1", "p000001-00000").unlink()
    assert complete(stopped, SECOND) is Outcome.OUTDATED
    assert run(tree, THIRD, world(3, n0=2)) == 3


def test_files_of_versions_without_runs_are_brought_up_to_date(tree):
    run(tree, FIRST, world(3))
    path = tree.shard_path("m@1", "p000001-00000")
    file = parquet_file(path)
    old = json.loads(file.metadata.metadata[b"nightshift"])
    del old["runs"], old["rewrite"]
    metadata = {b"nightshift": json.dumps(old | {"schema_version": "1.1"}).encode()}
    write_table(path, file.read().replace_schema_metadata(metadata))
    assert run(tree, SECOND, world(3, n2=2)) == 1
    assert footer(tree).runs == {"first": 2, "second": 1}
    assert footer(tree).schema_version == "1.2"


def test_rows_of_another_output_are_never_replaced(tree, tmp_path):
    run(tree, FIRST, world(3))
    elsewhere = LocalTree.create(tmp_path / "elsewhere")
    run(elsewhere, FIRST, world(3, n0=5))
    path = tree.shard_path("m@1", "p000001-00000")
    write(path, elsewhere.shard_path("m@1", "p000001-00000").read_bytes())
    with pytest.raises(OutputError, match="holds the rows of other images"):
        run(tree, SECOND, world(3, n1=2))


def test_a_damaged_file_is_reported_and_never_kept(tree):
    run(tree, FIRST, world(3))
    path = tree.shard_path("m@1", "p000001-00000")
    content = bytearray(path.read_bytes())
    content[60:70] = bytes(10)
    write(path, bytes(content))
    with pytest.raises(OutputError, match="is damaged"):
        run(tree, SECOND, world(3, n1=2))


@pytest.mark.parametrize(
    ("bytes_before", "bytes_after", "reason"),
    [
        # Both in the footer, where no page checksum is: a reader notices nothing.
        (b"parquet-cpp-arrow", b"parquet-cpp-arroz", "its bytes are not those that were written"),
        (b"nightshift.sha256", b"nightshift.sha250", "it has lost its seal"),
    ],
)
def test_rot_that_readers_miss_never_gets_a_new_seal(tree, bytes_before, bytes_after, reason):
    run(tree, FIRST, world(3, n0=-1))
    path = tree.shard_path("m@1", "p000001-00000")
    content = path.read_bytes().replace(bytes_before, bytes_after)
    write(path, content)
    assert states(tree) == world(3, n0=-1)
    listed = world(3, n0=-1)
    one_gone = {b"/data/0.jpg": -1, b"/data/2.jpg": 1}
    for night, found in (
        (SECOND, world(3, n0=-1, n1=2)),
        (replace(SECOND, retry_errors=True), listed),
        (replace(SECOND, prune=0.5), one_gone),
    ):
        with pytest.raises(DamagedFileError, match=f"{path} is damaged.*: {reason}. Move it away"):
            run(tree, night, found)
        assert path.read_bytes() == content
    path.unlink()
    assert run(tree, THIRD, one_gone) == 2
    assert states(tree) == one_gone


def test_a_file_that_cannot_be_read_is_not_called_damaged(tree, monkeypatch):
    run(tree, FIRST, world(3))

    def fail(path):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("shards.footer.footer_source", fail)
    with pytest.raises(OutputError, match=r"cannot read .*: Input/output error\. Remove") as caught:
        run(tree, SECOND, world(3))
    assert not isinstance(caught.value, DamagedFileError)


def test_a_file_that_was_cut_short_is_named_in_whole_sentences(tree):
    run(tree, FIRST, world(3))
    path = tree.shard_path("m@1", "p000001-00000")
    write(path, path.read_bytes()[:-20])
    with pytest.raises(OutputError, match=r"[^.]\. Move it away and run the same command again"):
        run(tree, SECOND, world(3))


@in_a_directory
def test_the_holder_of_a_lock_is_named(tree, monkeypatch):
    run(tree, FIRST, world(3))
    monkeypatch.setattr(locks, "PATIENCE_S", 0.1)
    with (
        locked(tree.locks / "p000001-00000.lock"),
        pytest.raises(LockedError, match=rf"process {os.getpid()} on .*Continue or end it"),
    ):
        run(tree, SECOND, world(3, n1=2))
    assert states(tree) == world(3)
    assert run(tree, THIRD, world(3, n1=2)) == 1


@in_a_directory
def test_locks_exclude_each_other(tree):
    inside, most = 0, 0
    guard = threading.Lock()

    def work():
        nonlocal inside, most
        for _ in range(20):
            with locked(tree.locks / "x.lock", 30):
                with guard:
                    inside += 1
                    most = max(most, inside)
                with guard:
                    inside -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1


@in_a_directory
def test_a_file_system_without_locks_is_refused(tree, monkeypatch):
    def flock(descriptor, operation):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(locks.fcntl, "flock", flock)
    with pytest.raises(OutputError, match="has no locks"), locked(tree.locks / "x.lock"):
        pass
