from __future__ import annotations

import json
import os
import signal

import pytest

from flows.interrupt import Interrupted, interruptible

LONG = {"seconds": 60}


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_direct_run_ends_in_order(command, signum, code):
    process = command.start("--direct", fake=LONG)
    command.wait_for_step(process, "classify")
    process.send_signal(signum)
    stdout, stderr = process.communicate(timeout=10)

    assert process.returncode == code
    assert stdout == ""
    assert f"stopped by {signum.name}" in stderr
    assert "the same command" in stderr
    assert "Traceback" not in stderr


def test_an_interrupted_run_says_so_in_json(command):
    process = command.start("--direct", "--json", fake=LONG)
    command.wait_for_step(process, "classify")
    process.send_signal(signal.SIGINT)
    stdout, _ = process.communicate(timeout=10)

    answer = json.loads(stdout)
    assert answer["status"] == "interrupted"
    assert answer["exit_code"] == 130


def test_the_first_signal_raises_and_the_second_kills():
    before = signal.getsignal(signal.SIGINT)

    with pytest.raises(Interrupted, match="stopped by SIGTERM") as caught, interruptible():
        os.kill(os.getpid(), signal.SIGTERM)

    assert caught.value.exit_code == 143
    assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    signal.signal(signal.SIGINT, before)


def test_handlers_are_as_before_after_a_run():
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)

    with interruptible():
        pass

    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
