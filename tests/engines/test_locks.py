from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
import threading

import pytest

from engines.locks import FileLock

HOLD = """
import sys, time
from pathlib import Path
from engines.locks import FileLock
lock = FileLock(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(60)
"""


def test_an_exclusive_lock_shuts_everybody_out(tmp_path):
    path = tmp_path / "lock"
    with FileLock(path):
        for shared in (False, True):
            with pytest.raises(BlockingIOError):
                FileLock(path, shared=shared)
    FileLock(path).close()


def test_shared_locks_only_shut_out_the_exclusive(tmp_path):
    path = tmp_path / "lock"
    with (
        FileLock(path, shared=True),
        FileLock(path, shared=True),
        pytest.raises(BlockingIOError),
    ):
        FileLock(path)


def test_kill_9_leaves_no_lock_behind(tmp_path):
    path = tmp_path / "lock"
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, path], stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(BlockingIOError):
            FileLock(path)
        holder.send_signal(signal.SIGKILL)
        lock = FileLock.wait(path, timeout_s=30)
        assert lock is not None
        lock.close()


def test_waiting_says_so_once_and_ends_with_the_holder(tmp_path):
    path = tmp_path / "lock"
    held = FileLock(path)
    told = []

    def on_wait() -> None:
        told.append(True)
        threading.Timer(0.25, held.close).start()

    lock = FileLock.wait(path, timeout_s=30, on_wait=on_wait)
    assert lock is not None
    lock.close()
    assert told == [True]


def test_waiting_ends_at_its_deadline(tmp_path):
    path = tmp_path / "lock"
    with FileLock(path):
        assert FileLock.wait(path, timeout_s=0.15) is None


def test_a_lock_file_that_is_a_link_is_refused(tmp_path):
    (tmp_path / "lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic link"):
        FileLock(tmp_path / "lock")
    assert not (tmp_path / "elsewhere").exists()


def test_the_lock_file_is_private_and_survives(tmp_path):
    path = tmp_path / "lock"
    with FileLock(path) as lock:
        os.utime(path, (1, 1))
        lock.touch()
    assert path.stat().st_mtime > 1
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_file_system_without_locks_is_noticed(tmp_path, monkeypatch):
    def no_locks(file, kind):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with FileLock(tmp_path / "lock") as first, FileLock(tmp_path / "lock") as second:
        assert not first.effective
        assert not second.effective
