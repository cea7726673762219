"""An interruption is not held up by the record of the run."""

import logging
import threading
import time
from types import SimpleNamespace

import pytest

from shards.object_path import ObjectPath
from shards.object_tree import ObjectTree
from tasks import record
from tasks.record import failures_recorded

JOB = SimpleNamespace(tree=ObjectTree(ObjectPath("s3://bucket", "out")), run_id="first")


class Stopped(BaseException):
    """As what a signal raises."""

    exit_code = 130


class Failed(Exception):
    """As an error that explains itself."""

    exit_code = 1


def test_an_interruption_does_not_wait_for_a_store_that_is_silent(monkeypatch, caplog):
    silence = threading.Event()
    monkeypatch.setattr(record, "INTERRUPTED_S", 0.2)
    monkeypatch.setattr(record, "_put_on_record", lambda *_: silence.wait(30))
    begun = time.monotonic()
    with (
        caplog.at_level(logging.WARNING),
        pytest.raises(Stopped),
        failures_recorded(JOB),
    ):
        raise Stopped
    silence.set()
    assert time.monotonic() - begun < 10
    assert "s3://bucket/out does not answer within 0.2 s" in caplog.text


@pytest.mark.parametrize("error", [Stopped, Failed])
def test_the_record_in_a_bucket_is_waited_for(monkeypatch, error):
    put = []

    def put_on_record(_job, _known, ended_by):
        time.sleep(0.3)
        put.append(type(ended_by))

    # An error has all the time that the store's answers take.
    monkeypatch.setattr(record, "INTERRUPTED_S", 30 if error is Stopped else 0)
    monkeypatch.setattr(record, "_put_on_record", put_on_record)
    with pytest.raises(error), failures_recorded(JOB):
        raise error
    assert put == [error]
