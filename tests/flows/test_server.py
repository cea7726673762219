from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from flows import server
from flows.server import ServerError, TemporaryServer
from tests.flows.conftest import clean_environment, processes_with, wait_for


def test_a_server_that_ends_is_reported_with_its_log(tmp_path, monkeypatch):
    monkeypatch.setattr(server.sys, "executable", "/bin/false")

    with (
        TemporaryServer(tmp_path, clean_environment(tmp_path / "home")) as started,
        pytest.raises(ServerError, match=r"ended with exit code 1; its log is .*server\.log"),
    ):
        started.wait_until_ready()


def test_a_server_that_never_answers_is_reported(tmp_path, monkeypatch):
    sleeper = tmp_path / "sleeper"
    sleeper.write_text("#!/bin/sh\nexec sleep 60\n")
    sleeper.chmod(0o755)
    monkeypatch.setattr(server.sys, "executable", str(sleeper))
    monkeypatch.setattr(server, "START_TIMEOUT_S", 0.3)
    monkeypatch.setattr(server, "STOP_TIMEOUT_S", 0.1)

    with (
        TemporaryServer(tmp_path, clean_environment(tmp_path / "home")) as started,
        pytest.raises(ServerError, match=r"did not answer within 0\.3 s"),
    ):
        started.wait_until_ready()

    assert processes_with(str(sleeper)) == []


def test_closing_twice_is_closing_once(tmp_path, monkeypatch):
    monkeypatch.setattr(server.sys, "executable", "/bin/false")
    started = TemporaryServer(tmp_path, clean_environment(tmp_path / "home"))

    started.close()
    started.close()


def status(pid: int) -> str:
    return Path(f"/proc/{pid}/status").read_text()


@pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")
def test_the_kernel_ends_the_server_with_its_parent_even_if_the_pipe_stays_open(tmp_path):
    """A grandchild that inherited the pipe must not keep the server alive."""
    code = (
        "import os, subprocess, sys, time\n"
        "from pathlib import Path\n"
        "from flows.server import TemporaryServer\n"
        f"server = TemporaryServer(Path({str(tmp_path)!r}), dict(os.environ))\n"
        "os.set_inheritable(server._process.stdin.fileno(), True)\n"
        "subprocess.Popen(['sleep', '60'], close_fds=False)\n"
        "print(server._process.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    environment = clean_environment(tmp_path / "home")
    with subprocess.Popen(
        [sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True
    ) as parent:
        try:
            assert parent.stdout is not None
            child = int(parent.stdout.readline())
            # It blocks signals after it has told the kernel.
            wait_for(lambda: "SigBlk:\t0000000000000000" not in status(child))
            parent.kill()
            wait_for(lambda: child not in processes_with(str(tmp_path)), timeout_s=10)
        finally:
            parent.kill()
            for pid in processes_with(str(tmp_path)):
                os.kill(pid, signal.SIGKILL)
