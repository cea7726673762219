from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest

from flows.interrupt import Interrupted, interruptible
from tests.flows.conftest import ROOT, clean_environment, wait_for

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


COMMANDS = (
    *("build_engine", "classify_dir", "compact", "doctor", "export_model", "inspect_engine"),
    "verify",
)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_that_still_imports_dies_without_a_word(tmp_path, command):
    slow = f"open({str(tmp_path / 'imports')!r}, 'w').close()\nimport time\ntime.sleep(60)\n"
    (tmp_path / "cyclopts.py").write_text(slow)
    process = subprocess.Popen(
        [sys.executable, "-m", f"flows.{command}", "--help"],
        env=clean_environment(tmp_path / "home") | {"PYTHONPATH": f"{tmp_path}:{ROOT}"},
        stderr=subprocess.PIPE,
        # What a shell starts in the background ignores SIGINT.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        wait_for((tmp_path / "imports").exists)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=10)
    finally:
        process.kill()
    assert (stderr, process.returncode) == (b"", -signal.SIGINT)
