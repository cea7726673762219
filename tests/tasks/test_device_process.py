"""Real device processes, before and without work."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tasks.classify import classify
from tasks.device_process import DeviceProcess, Standby
from tasks.finish import finish
from tasks.messages import Failed, WorkOrder
from tasks.plan import plan
from tasks.prepare import prepare
from tasks.settings import Settings

ROOT = Path(__file__).parent.parent.parent
EXAMPLE = ROOT / "examples/digits"


@pytest.fixture
def settings(tmp_path):
    return Settings(
        images=str(EXAMPLE / "images"),
        model=str(EXAMPLE / "model"),
        output=str(tmp_path / "out"),
        backend="onnxruntime",
    )


def children() -> set[int]:
    """Children of this thread, but multiprocessing's resource tracker, which others may start."""
    pids = {int(pid) for pid in Path("/proc/thread-self/children").read_text().split()}
    tracker = b"multiprocessing.resource_tracker"
    return {pid for pid in pids if tracker not in Path(f"/proc/{pid}/cmdline").read_bytes()}


def test_a_standby_that_nobody_takes_is_ended_at_once_and_leaves_nothing(settings, tmp_path):
    before = children()
    with Standby() as standby:
        standby.load(settings)
        assert len(children() - before) == 1
        started = time.monotonic()
    assert children() == before
    assert time.monotonic() - started < 2
    assert not (tmp_path / "out").exists()


def test_a_standby_without_work_starts_when_some_is_found_and_once(settings):
    before = children()
    with Standby(start=False) as standby:
        standby.load(settings)
        assert children() == before
        assert not standby.is_started
        standby.start()
        standby.start()
        assert standby.is_started
        assert len(children() - before) == 1
    standby.start()
    assert children() == before


def test_what_is_started_late_is_as_good(settings):
    with Standby(start=False) as standby:
        standby.load(settings)
        job = prepare(settings)
        work = plan(job, standby.start)
        (pid,) = children()
        outcome = classify(job, work, lambda progress: None, standby)
    assert outcome.ready is not None
    assert children() == set()
    assert not Path(f"/proc/{pid}").exists()
    assert finish(job, work, outcome).rows_written == 450


def test_a_standby_is_ended_when_an_error_passes_by():
    before = children()
    with pytest.raises(ZeroDivisionError), Standby():
        raise ZeroDivisionError
    assert children() == before


def test_a_standby_is_taken_once_and_belongs_to_the_taker(settings):
    with Standby() as standby:
        standby.load(settings)
        process = standby.take()
        assert standby.take() is None
    assert len(children()) == 1
    process.close()
    process.close()
    assert children() == set()


def test_the_run_uses_the_standby_and_records_when_its_first_results_came(settings, tmp_path):
    with Standby() as standby:
        standby.load(settings)
        (pid,) = children()
        os.kill(pid, signal.SIGSTOP)  # so that it is seen to be the one
        job = prepare(settings)
        work = plan(job)
        os.kill(pid, signal.SIGCONT)
        outcome = classify(job, work, lambda progress: None, standby)
        assert standby.take() is None
    assert children() == set()
    summary = finish(job, work, outcome)
    assert summary.rows_written == 450
    record = json.loads((tmp_path / f"out/runs/{job.run_id}/run.json").read_text())
    stages = record["startup_seconds"]
    own = ["libraries", "model", "device", "classifier", "first result"]
    assert [stages[name] for name in own] == sorted(stages[name] for name in own)
    assert 0 < stages["plan"] < stages["first result"]
    assert record["first_result_seconds"] == summary.first_result_seconds == stages["first result"]


def test_a_standby_that_died_is_replaced(settings, caplog):
    with Standby() as standby:
        standby.load(settings)
        (pid,) = children()
        os.kill(pid, signal.SIGKILL)
        job = prepare(settings)
        outcome = classify(job, plan(job), lambda progress: None, standby)
    assert outcome.ready is not None
    assert "was killed by signal 9" in caplog.text
    assert children() == set()


def test_a_process_whose_model_is_not_the_one_of_the_order_refuses(settings):
    order = WorkOrder(run_id="run", model_id="other@0123456789ab", shards=[])
    with DeviceProcess(settings) as process:
        process.send(order)
        message = process.next_message(60)
    assert isinstance(message, Failed)
    assert "the model changed while the run was starting" in message.text


def test_a_process_that_gets_no_order_ends(settings, tmp_path):
    code = (
        "from shards.decode_process import DecodeServer\n"
        "from tasks.worker import main\n"
        "main(DecodeServer.fork())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        input=settings.model_dump_json().encode() + b"\n",
        capture_output=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert not (tmp_path / "out").exists()
