"""What the scripts that disturb runs with their output in a bucket take for a mistake."""

import os
import random
import signal
import subprocess
import sys
from functools import partial

import pytest

from benchmarks.reliability import bucket_requests, bucket_stopped
from benchmarks.reliability.bucket_requests import Trials, held_back
from benchmarks.reliability.bucket_server import BUCKET_URI, bucket_server
from benchmarks.reliability.bucket_stopped import Trial
from benchmarks.reliability.fake_runs import CLEAN_FAILURE, ask, night, violations
from benchmarks.reliability.interrupter import INTERRUPTIONS
from benchmarks.reliability.kill_loops import Aim, Ground, kill_forked
from benchmarks.reliability.trials import KILLED, KINDS, Figures, judge_before
from shards.local_tree import LocalTree
from tests.shards.crash_worker import finish
from tests.shards.night_worker import FIRST
from tests.shards.nights import Night

OUT = f"{BUCKET_URI}/outs/1"


@pytest.fixture(scope="module")
def server():
    with bucket_server() as running:
        yield running


@pytest.fixture
def errors(tmp_path):
    return tmp_path / "errors"


@pytest.fixture
def planned(server, errors):
    """An output of 6 images."""
    yield ask(partial(night, OUT, Night(run_id="run-1"), FIRST), errors)
    server.remove("outs/")


def interrupted(server, errors, what, number, out=f"{BUCKET_URI}/other"):
    """Exit code of a run whose n-th request is interfered with, and that request."""
    with held_back(partial(night, out, Night(run_id="run-1"), FIRST), errors) as child:
        server.arm(what, number, child)
    if what.startswith("stopped"):
        assert server.wait_until_stopped(30)
        os.kill(child, signal.SIGCONT)
        server.woken()
    code = finish(child)
    reached = server.disarm()
    server.remove("other/")
    return code, reached


def test_a_run_in_a_bucket_is_looked_at_from_outside(server, planned, errors, tmp_path):
    assert planned == 6
    assert ask(partial(violations, OUT, FIRST), errors) == []
    server.dump("outs/1/", tmp_path / "dump")
    assert violations(tmp_path / "dump", FIRST) == []
    assert not errors.exists()
    names = [name for name, _, _ in server.versions("outs/1/predictions/")]
    assert [name.rpartition("/")[2] for name in names] == [
        "p000001-00000.parquet",
        "p000001-00001.parquet",
    ]


def test_what_cannot_be_found_out_is_none_and_told(server, errors):
    assert ask(partial(violations, "s3://bucket/nothing", FIRST), errors) == [
        "s3://bucket/nothing holds no output"
    ]
    assert ask(lambda: 1 // 0, errors) is None
    assert "ZeroDivisionError" in errors.read_text()


@pytest.mark.parametrize("what", INTERRUPTIONS)
def test_every_interruption_happens_to_the_request_that_was_meant(server, errors, what):
    code, reached = interrupted(server, errors, what, 1)
    expected = {"killed before": KILLED, "killed after": KILLED, "forbidden": CLEAN_FAILURE}
    assert code == expected.get(what, 0)
    assert reached.startswith("PUT /bucket/other/state/probes/")


def test_a_request_that_never_comes_is_not_reached(server, errors):
    assert interrupted(server, errors, "killed before", 10_000) == (0, "")


def test_killed_before_it_was_done_and_after(server, errors):
    found = []
    for what in ("killed before", "killed after"):
        with held_back(partial(night, OUT, Night(run_id="run-1"), FIRST), errors) as child:
            server.arm(what, 1, child)
        assert finish(child) == KILLED
        server.disarm()
        found.append(len(server.versions("outs/")))
        server.remove("outs/")
    assert found == [0, 1]


def test_a_lost_row_is_found_in_a_dump(server, planned, errors, tmp_path):
    server.dump("outs/1/", tmp_path / "dump")
    kind, figures = KINDS["replace"], Figures()
    judge_before(figures, kind, tmp_path / "dump", "trial")
    assert figures.before == []
    tree = LocalTree(tmp_path / "dump")
    min(tree.files()).unlink()
    assert judge_before(figures, kind, tmp_path / "dump", "trial") > 0
    assert any("lost" in text for text in figures.before)


def test_some_requests_of_both_kinds_of_run(server, tmp_path):
    trials = Trials(server, tmp_path)
    for name, kind in KINDS.items():
        trials.prepare(name, kind)
        for fault in ("killed after", "lost_answer"):
            figures = trials.try_all(name, kind, fault, 27)
            assert figures.trials >= 1
            assert figures.before == figures.after == []


@pytest.mark.parametrize("changing", [False, True])
def test_a_stopped_run_changes_nothing(server, errors, tmp_path, changing):
    kind, figures = KINDS["replace"], bucket_stopped.Figures()
    ask(partial(night, f"{BUCKET_URI}/stopped", Night(run_id="night-1"), kind.before), errors)
    trial = Trial(server, tmp_path, "stopped", kind, "stopped before", changing=changing)
    assert [trial.at(request, figures) for request in (20, 10_000)] == [True, False]
    assert (figures.stopped, figures.changed, figures.wrong) == (1, 0, [])


def test_faults_are_those_that_do_not_stop_a_run():
    assert set(bucket_requests.FAULTS) == {
        what for what in INTERRUPTIONS if not what.startswith("stopped")
    }


@pytest.mark.parametrize("library", ["pyarrow", "duckdb", "polars"])
def test_readers_read_a_bucket(server, planned, library):
    command = [sys.executable, "-m", "benchmarks.reliability.bucket_readers", library]
    command += [f"{BUCKET_URI}/outs", "--reads", "2"]
    answer = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
    assert '"reads": 2, "rows": 12, "errors": 0, "partial": 0, "twice": 0, "lost": 0' in answer


def test_some_kills(server, tmp_path):
    ground = Ground(
        outs=f"{BUCKET_URI}/kills",
        folder=tmp_path,
        readers="benchmarks.reliability.bucket_readers",
        names=["polars"],
        most_images=20,
        pause_s=0.3,
    )
    aim = Aim(kills=4, reads=2, limit=0)
    figures = kill_forked(ground, aim, random.Random(0), replacing=True)
    assert figures.kills >= 4
    assert (figures.missing, figures.wrong) == (0, [])
