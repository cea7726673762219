"""Threads that wait for answers: as many as are allowed, and none that keeps a process."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import wait
from contextlib import suppress

import pytest

from shards.request_threads import RequestThreads

# A process that a shell starts in the background ignores SIGINT, and so do its children.
HANGS = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from shards.sources.objects import attributes
list(attributes([b"s3://bucket/%d" % n for n in range(100)]))
"""


def test_results_come_in_order_and_errors_at_their_turn():
    threads = RequestThreads(4)
    assert list(threads.map(lambda n: n * n, range(1000))) == [n * n for n in range(1000)]
    future = threads.submit(lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        future.result(10)
    assert threads.submit(int, "7").result(10) == 7


def test_no_more_at_once_than_allowed_and_no_fewer_than_there_is_work_for():
    threads = RequestThreads(3)
    together = threading.Barrier(3)
    running, most = 0, 0
    lock = threading.Lock()

    def job() -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        together.wait(10)
        with lock:
            running -= 1

    done = wait([threads.submit(job) for _ in range(30)], 20)
    assert not done.not_done
    assert not any(future.exception() for future in done.done)
    assert most == 3


def test_a_store_that_hangs_does_not_keep_an_interrupted_process():
    with socket.create_server(("127.0.0.1", 0), backlog=200) as server:  # answers nothing
        environment = {
            **os.environ,
            "AWS_ACCESS_KEY_ID": "id",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.getsockname()[1]}",
        }
        process = subprocess.Popen(
            [sys.executable, "-c", HANGS], env=environment, stderr=subprocess.PIPE
        )
        with process, server.accept()[0]:
            for _ in range(5):  # Python may lose one that comes while it frees an object
                process.send_signal(signal.SIGINT)
                with suppress(subprocess.TimeoutExpired):
                    process.wait(5)
                    break
            ended = process.poll()
            process.kill()
            said = process.communicate()[1]
    assert ended is not None, said
    assert b"KeyboardInterrupt" in said
