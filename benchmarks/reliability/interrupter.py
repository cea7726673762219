"""Stands before an object server, and does something to one request of one run."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args
from wsgiref.types import StartResponse, WSGIEnvironment

from tests.simulators.object_server import Fault, ObjectServer, Request

__all__ = ["INTERRUPTIONS", "Interrupter", "Interruption", "process_state"]

Interruption = Literal[
    "killed before",
    "killed after",
    "stopped before",
    "stopped after",
    "conflict",
    "unavailable",
    "forbidden",
    "lost_answer",
]
"""`killed before`: the run is killed, and the request is never done. `killed after`: it is done,
and the run killed before its answer comes. `stopped before`: the run is stopped, and the request
done when it is woken. `stopped after`: it is done, the run stopped, and the answer comes when it is
woken. The others: see object_server.Fault."""

INTERRUPTIONS: tuple[Interruption, ...] = get_args(Interruption)

PATIENCE_S = 60
LOOK_S = 0.001


@dataclass
class Interrupter:
    """An application before another one.

    Attributes:
        server: The other one.
        reached: The request that it was, as "PUT /bucket/key"; empty where it has not come.
        stopped: Set once a run was stopped.
        woken: To be set by whoever has woken it.
    """

    server: ObjectServer
    reached: str = ""
    stopped: threading.Event = field(default_factory=threading.Event)
    woken: threading.Event = field(default_factory=threading.Event)
    _armed: tuple[Interruption, int] | None = None
    _left: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def arm(self, what: Interruption, number: int, pid: int) -> None:
        """Wait for a run's request; nobody else may send any until it has come.

        Args:
            what: To happen.
            number: Which request, from 1; of `conflict`, which of those that put something.
            pid: The run.
        """
        self.stopped.clear()
        self.woken.clear()
        self.reached, self._armed, self._left = "", (what, pid), number

    def disarm(self) -> None:
        """Wait for nothing."""
        self._armed = None
        self.server.faults.clear()

    def __call__(self, environ: WSGIEnvironment, respond: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        armed = self._turn(environ)
        if armed is None:
            return self.server(environ, respond)
        what, pid = armed
        if what in ("killed before", "stopped before"):
            self._interrupt(what, pid)
        if what == "killed before":
            self.server.faults.append(Fault("unavailable", matches=_any))  # nobody hears it
        elif not what.startswith(("killed", "stopped")):
            self.server.faults.append(Fault(what, matches=_any))
        answer = list(self.server(environ, respond))
        if what in ("killed after", "stopped after"):
            self._interrupt(what, pid)
        return answer

    def _turn(self, environ: WSGIEnvironment) -> tuple[Interruption, int] | None:
        """Say what is to happen to a request."""
        with self._lock:
            armed, method = self._armed, environ["REQUEST_METHOD"]
            if armed is None or (armed[0] == "conflict" and method != "PUT"):
                return None
            self._left -= 1
            if self._left > 0:
                return None
            self._armed = None
            self.reached = f"{method} {environ['PATH_INFO']}"
            return armed

    def _interrupt(self, what: Interruption, pid: int) -> None:
        if what.startswith("killed"):
            os.kill(pid, signal.SIGKILL)
            _wait_for(lambda: process_state(pid) in "ZX")
            return
        os.kill(pid, signal.SIGSTOP)
        _wait_for(lambda: process_state(pid) == "T")
        self.stopped.set()
        if not self.woken.wait(PATIENCE_S):
            raise TimeoutError("nobody woke the run")


def _any(_: Request) -> bool:
    return True


def process_state(pid: int) -> str:
    """As in /proc: Z for a process that has ended, X for none, T for one that is stopped."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "X"


def _wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("the run did not take the signal")
        time.sleep(LOOK_S)
