"""Threads that wait for the answers of stores, and that no end of a process waits for."""

from __future__ import annotations

import atexit
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future
from queue import SimpleQueue
from typing import ParamSpec, TypeVar

__all__ = ["RequestThreads"]

GRACE_S = 1.0
"""At the end, requests are waited for so long: threads that come back later may crash in Python's
own end, and most answers take less."""

Given = ParamSpec("Given")
Found = TypeVar("Found")

Job = Callable[[], None]


class RequestThreads(Executor):
    """An executor whose requests may hang for minutes without keeping the process.

    The interpreter waits at its end for the threads of a ThreadPoolExecutor, and a person who has
    pressed Ctrl-C waits with it.
    """

    def __init__(self, most: int) -> None:
        """Start no thread yet.

        Args:
            most: Threads.
        """
        self._most = most
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._threads = 0
        self._unfinished = 0  # jobs that wait or are under way
        self._is_over = False
        self._process = os.getpid()
        atexit.register(self._at_exit)

    def submit(
        self, fn: Callable[Given, Found], /, *args: Given.args, **kwargs: Given.kwargs
    ) -> Future[Found]:
        """Call a function in a thread.

        Raises:
            RuntimeError: They were ended.
        """
        future: Future[Found] = Future()

        def job() -> None:
            if self._is_over or not future.set_running_or_notify_cancel():
                return
            try:
                found = fn(*args, **kwargs)
            except BaseException as error:
                future.set_exception(error)
            else:
                future.set_result(found)

        with self._lock:
            if self._is_over:
                raise RuntimeError("no more requests: the threads were ended")
            self._unfinished += 1
            if self._threads < min(self._unfinished, self._most):
                self._threads += 1
                threading.Thread(target=self._work, name="objects", daemon=True).start()
        self._jobs.put(job)
        return future

    def end(self) -> None:
        """Begin nothing any more; a thread ends when its request does. Waits for none."""
        self._is_over = True
        with self._lock:
            for _ in range(self._threads):
                self._jobs.put(None)
        atexit.unregister(self._at_exit)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()
            with self._lock:
                self._unfinished -= 1

    def _at_exit(self) -> None:
        """Begin nothing any more, and wait for what is under way, not for long."""
        self._is_over = True
        deadline = time.monotonic() + GRACE_S
        if os.getpid() != self._process:  # a fork has this, but none of its threads
            return
        while self._unfinished and time.monotonic() < deadline:
            time.sleep(0.005)
