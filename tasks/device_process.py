"""One child process for a device: decoding and inference happen there, and nowhere else.

A crashing decoder, a sticky CUDA error or a hang costs that process and the shards it had open; the
supervisor starts another. Messages are JSON lines, so that nothing is ever unpickled.

Imports nothing slow: a command starts its device process before it has read its own arguments.
"""

from __future__ import annotations

import os
import select
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from shards.closing import Closing

if TYPE_CHECKING:
    from tasks.messages import Message, WorkOrder
    from tasks.settings import Settings

__all__ = ["DeviceProcess", "StalledError", "Standby"]

ROOT = Path(__file__).resolve().parent.parent
"""Where this very code lives: the child must not pick up another `tasks` from its directory."""

GRACE_S = 5.0
"""A process that was asked to end and has not after this long is killed: commits are atomic."""


class StalledError(Exception):
    """The process has said nothing for too long."""


START = f"""\
import signal, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)  # before anything slow: see tasks.worker
sys.path[0] = {str(ROOT)!r}
from engines.lifetime import die_with_parent
die_with_parent(int(sys.argv[1]))
from shards.decode_process import DecodeServer
decoders = DecodeServer.fork()  # while this process is young, and has one thread
from tasks.worker import main
main(decoders)
"""


class DeviceProcess(Closing):
    """A worker process, owned: closing it ends it, and it dies with its parent.

    It begins to import at once and to load when it has settings; it opens no engine and
    touches no output before it has an order.
    """

    def __init__(self, settings: Settings | None = None) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", START, str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._unread = b""
        self._has_order = False
        if settings is not None:
            self.load(settings)

    def load(self, settings: Settings) -> None:
        """Say what to prepare for; once, and before the order."""
        self._write(settings.model_dump_json())

    def send(self, order: WorkOrder) -> None:
        """Say what is to be done; once."""
        self._has_order = True
        # An order may be longer than the pipe holds, and a process that hangs never reads it: the
        # caller must come to wait for messages, where patience ends.
        line = order.model_dump_json()
        threading.Thread(target=self._write, args=(line,), daemon=True).start()

    def next_message(self, timeout_s: float) -> Message | None:
        """Wait for the next message.

        Returns:
            The message, or None once the process has closed its end.

        Raises:
            StalledError: Nothing came within `timeout_s` seconds.
        """
        from tasks.messages import read_message

        assert self._process.stdout is not None
        while b"\n" not in self._unread:
            if not select.select([self._process.stdout], [], [], timeout_s)[0]:
                raise StalledError(f"no progress for {timeout_s:g} s")
            block = self._process.stdout.read1(1 << 16)  # type: ignore[attr-defined]
            if not block:
                return None
            self._unread += block
        line, self._unread = self._unread.split(b"\n", 1)
        return read_message(line)

    def cause_of_death(self) -> str:
        """Wait for the end of the process, not for long, and say how it ended."""
        try:
            code = self._process.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return f"did not end within {GRACE_S:g} s of its last message"
        if code >= 0:
            return f"ended with exit code {code}"
        return f"was killed by signal {-code}"

    def close(self) -> None:
        """End the process if it still runs. Idempotent."""
        if self._process.poll() is None:
            if self._has_order:
                self._process.terminate()
            else:
                self._process.kill()  # it has begun nothing that wants an end in order
            try:
                self._process.wait(GRACE_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(BrokenPipeError):  # what it did not read any more
                    pipe.close()

    def _write(self, line: str) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line.encode() + b"\n")
            self._process.stdin.flush()
        except (BrokenPipeError, ValueError):
            pass  # It died, or was closed meanwhile: the next read says so.


class Standby(Closing):
    """A device process that starts before there is work for it; ended here unless it is taken."""

    def __init__(self, *, start: bool = True) -> None:
        """Start it now, unless there may be no work at all."""
        self._settings: Settings | None = None
        self._process: DeviceProcess | None = None
        self._is_over = False
        if start:
            self.start()

    @property
    def is_started(self) -> bool:
        """Whether there is a process that waits for work."""
        return self._process is not None

    def start(self) -> None:
        """Start the process, unless that was done. Work was found for it."""
        if self._process is None and not self._is_over:
            self._process = DeviceProcess(self._settings)

    def load(self, settings: Settings) -> None:
        """Say what to prepare for; once."""
        self._settings = settings
        if self._process is not None:
            self._process.load(settings)

    def take(self) -> DeviceProcess | None:
        """Hand the process over, to be closed by the caller.

        None where that was done before, or it was not started; it never is after this.
        """
        process, self._process = self._process, None
        self._is_over = True
        return process

    def close(self) -> None:
        """End the process, unless it was taken. Idempotent."""
        if (process := self.take()) is not None:
            process.close()
