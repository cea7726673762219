"""What the scripts of benchmarks/reliability take for a mistake: they can find one."""

import shutil
import subprocess
import sys

import pytest

from benchmarks.reliability.fake_runs import CLEAN_FAILURE, SharedWorld, fork, night, violations
from benchmarks.reliability.readers import READERS, Seen, Watch
from shards.errors import OutputError
from shards.local_tree import LocalTree
from tests.shards.crash_worker import finish
from tests.shards.nights import Night


@pytest.fixture
def world():
    images = SharedWorld(10)
    images.add(6)
    return images


@pytest.fixture
def out(tmp_path, world):
    assert night(tmp_path / "out", Night(run_id="run-1"), world) == 6
    return tmp_path / "out"


def first_file(out):
    return min((out / "predictions").rglob("*.parquet"))


def damage(out, how):
    path = first_file(out)
    if how == "cut":
        path.write_bytes(path.read_bytes()[:-10])
    elif how == "twice":
        shutil.copyfile(path, path.with_name("p000002-00000.parquet"))
    elif how == "lost":
        path.unlink()


def test_a_right_table_has_no_violations_and_images_that_changed_are_told(out, world):
    assert violations(out) == violations(out, world) == []
    world.change(2)
    assert violations(out) == []
    [found] = violations(out, world)
    assert found.startswith("b'/data/000002.jpg': 1 in the table, 2 in the file")


@pytest.mark.parametrize("how", ["cut", "twice", "lost"])
def test_damage_is_a_violation(out, world, how):
    damage(out, how)
    assert violations(out, world)


@pytest.mark.parametrize("library", READERS)
@pytest.mark.parametrize(
    ("how", "counted"),
    [(None, set()), ("cut", {"errors"}), ("twice", {"partial", "twice"}), ("lost", {"lost"})],
)
def test_readers_count_what_is_wrong(out, library, how, counted):
    seen = Seen()
    watch = Watch(lambda: READERS[library](out)(), LocalTree(out), seen)  # with fresh caches
    watch.look()
    damage(out, how)
    watch.look()
    assert {name for name in ("errors", "partial", "twice", "lost") if getattr(seen, name)} == (
        counted
    )
    assert (seen.reads, seen.changed) == (2, 2 if how in ("twice", "lost") else 1)


def test_exit_codes_tell_clean_failures_from_others(tmp_path):
    def raises(error):
        def work():
            raise error

        return work

    assert finish(fork(raises(OutputError("the disk is full")), tmp_path / "errors")) == (
        CLEAN_FAILURE
    )
    assert finish(fork(raises(ValueError("a bug")), tmp_path / "errors")) > CLEAN_FAILURE
    assert "OutputError: the disk is full\nValueError: a bug" in (tmp_path / "errors").read_text()


def test_a_reader_that_is_told_to_end_says_what_it_saw(out):
    command = [sys.executable, "-m", "benchmarks.reliability.readers", "pyarrow"]
    command += [str(out.parent), "--reads", "5"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    answer, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert '"reads": 5, "rows": 30, "errors": 0' in answer


def test_a_reader_goes_on_to_the_next_output(tmp_path, world):
    for name in ("1", "2"):
        night(tmp_path / "outs" / name, Night(run_id="run-1", shard_size=len(name)), world)
    world.add(3)
    night(tmp_path / "outs" / "2", Night(run_id="run-2"), world)
    command = [sys.executable, "-m", "benchmarks.reliability.readers", "polars"]
    command += [str(tmp_path / "outs"), "--reads", "2"]
    answer = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
    assert '"reads": 2, "rows": 18, "errors": 0, "partial": 0, "twice": 0, "lost": 0' in answer
