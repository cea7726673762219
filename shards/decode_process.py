"""The pool's side of its processes: the server, and one object for each worker."""

from __future__ import annotations

import fcntl
import mmap
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from shards.closing import Closing
from shards.decode_server import ANSWER, END, FORK, REQUEST, UNKNOWN
from shards.decode_server import main as serve
from shards.decode_wire import (
    DECODING,
    HEADER,
    READY,
    Outcome,
    Setup,
    receive,
    receive_outcomes,
    send,
    send_items,
)
from shards.errors import ErrorKind, ImageError, ShardError
from shards.stored import Stored

__all__ = ["DecodeServer", "DecodersError", "Worker", "WorkerLostError"]

ROOT = Path(__file__).resolve().parent.parent
"""Where this very code lives: the server must not import another `shards` from its directory."""

START = f"""\
import os, sys
os.environ["OPENBLAS_NUM_THREADS"] = "1"  # NumPy's threads would not survive a fork
sys.path[0] = {str(ROOT)!r}
from shards.decode_server import main
main(int(sys.argv[1]))
"""

LOOK_S = 0.25
"""How often a waiting thread looks at what the worker is at."""

ANSWER_S = 60.0
"""For what takes milliseconds, on a machine that is far too busy."""


REST_S = 5.0
"""For the rest of a reply that has begun: a worker sends it in one piece."""


class DecodersError(ShardError):
    """Processes that decode cannot be made; what was short may be there again later."""

    transient = True


class WorkerLostError(Exception):
    """A worker ended, or has to be ended, while it decoded an image.

    Attributes:
        row: Number of that image in the request.
        timeout: Its outcome if it took too long; None otherwise.
        ended: Whether the worker ended by itself.
    """

    def __init__(self, row: int, timeout: ImageError | None = None, *, ended: bool = False) -> None:
        super().__init__(f"row {row}: {timeout or 'lost'}")
        self.row = row
        self.timeout = timeout
        self.ended = ended


class DecodeServer(Closing):
    """The process that workers are forked from, owned; any thread may ask it.

    It and its workers end with the process that made it, however that ends.
    """

    def __init__(self, channel: socket.socket, process: _Process) -> None:
        channel.settimeout(ANSWER_S)
        self._channel = channel
        self._process = process
        self._asking = threading.Lock()

    @classmethod
    def spawn(cls) -> Self:
        """Start it as a program of its own; it imports for a quarter of a second meanwhile."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with theirs:
            process = subprocess.Popen(
                [sys.executable, "-c", START, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=2,  # our own may carry messages
                pass_fds=[theirs.fileno()],
            )
        return cls(ours, process)

    @classmethod
    def fork(cls) -> Self:
        """Make it by a fork of this process, in a millisecond.

        Only for a process that has just begun: with one thread, no open connection, and nothing
        imported that could mind. (NumPy does not: its library ends its threads before a fork.)
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        child = os.fork()
        if child:
            theirs.close()
            return cls(ours, _Forked(child))
        try:
            ours.close()
            os.dup2(2, 1)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            serve(theirs.detach())
        finally:
            os._exit(1)  # never back into the caller's code

    def new_worker(self, setup: Setup) -> Worker:
        """Have a worker made, tell it its work, and wait until it is ready.

        Raises:
            DecodersError: There can be none.
        """
        with ExitStack() as stack:
            try:
                ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
                stack.enter_context(ours)
                with theirs, _shared_memory(setup.shared_bytes) as memory:
                    shared = mmap.mmap(memory.fileno(), setup.shared_bytes)
                    process = self._ask(FORK, 0, [theirs.fileno(), memory.fileno()])
                if process < 0:
                    raise OSError(-process, os.strerror(-process))
                ours.settimeout(ANSWER_S)
                send(ours, setup.to_json())
                if receive(ours) != READY:
                    raise ConnectionError("a worker answers what was not asked")
            except (OSError, EOFError, ValueError) as error:
                reason = str(error) or type(error).__name__
                raise DecodersError(
                    f"no process that decodes can be made: {reason}. Out of memory, of processes "
                    "(`ulimit -u`) or of file descriptors (`ulimit -n`)? Use fewer --workers, or "
                    "run the same command again: it resumes."
                ) from error
            stack.pop_all()
        return Worker(self, process, ours, shared, setup)

    def end(self, process: int) -> str | None:
        """Kill a worker by its process id, unless it has ended.

        Returns:
            How it ended, as 'SIGSEGV' or 'exit code 1'; None where that cannot be told.
        """
        try:
            code = self._ask(END, process, [])
        except OSError:  # The server is gone, and has taken its workers along.
            return None
        if code == UNKNOWN:
            return None
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"

    def _ask(self, what: bytes, process: int, descriptors: list[int]) -> int:
        with self._asking:
            try:
                socket.send_fds(self._channel, [REQUEST.pack(what, process)], descriptors)
                answer = self._channel.recv(ANSWER.size)
                if len(answer) < ANSWER.size:
                    raise ConnectionError("the process that makes decoders has ended")
            except BaseException:
                self._channel.close()  # a late answer would be taken for that to the next question
                raise
        number: int = ANSWER.unpack(answer)[0]
        return number

    def close(self) -> None:
        """End it and all workers, and wait until it has ended. Idempotent."""
        self._channel.close()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class _Process(Protocol):
    """What there is to do with a child: a `subprocess.Popen`, or one that was forked."""

    @property
    def pid(self) -> int: ...

    def wait(self, timeout: float | None = None) -> int: ...

    def kill(self) -> None: ...


class _Forked:
    """A child by `os.fork`."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._ended = False

    def wait(self, timeout: float | None = None) -> int:
        """As `subprocess.Popen.wait`; the exit status is not kept."""
        deadline = time.monotonic() + (timeout or 0.0)
        while not self._ended:
            self._ended = os.waitpid(self.pid, os.WNOHANG if timeout else 0)[0] != 0
            if not self._ended:
                if time.monotonic() > deadline:
                    raise subprocess.TimeoutExpired("decoders", timeout or 0.0)
                time.sleep(0.001)
        return 0

    def kill(self) -> None:
        """As `subprocess.Popen.kill`."""
        if not self._ended:
            os.kill(self.pid, signal.SIGKILL)


class Worker:
    """One worker process, used by one thread at a time.

    Attributes:
        decoded: Images that it has decoded, or refused.
    """

    def __init__(
        self,
        server: DecodeServer,
        process: int,
        channel: socket.socket,
        shared: mmap.mmap,
        setup: Setup,
    ) -> None:
        self.decoded = 0
        self._server = server
        self._process = process
        self._channel = channel
        self._shared = shared
        shape = (setup.rows, setup.transform.height, setup.transform.width, 3)
        self._rows = np.frombuffer(shared, np.uint8, offset=HEADER.size).reshape(shape)

    def decode(
        self, items: Sequence[Stored], images: NDArray[np.uint8], timeout_s: float
    ) -> list[Outcome]:
        """Decode items, as many as the shared memory has rows, and copy them out.

        Raises:
            WorkerLostError: One image was too much for it.
        """
        HEADER.pack_into(self._shared, 0, -1, 0)
        try:
            self._channel.settimeout(ANSWER_S)
            send_items(self._channel, items)
            self._wait(len(items), timeout_s)
            self._channel.settimeout(REST_S)
            outcomes = receive_outcomes(self._channel, len(items))
        except (OSError, EOFError, ValueError) as error:
            row, _ = self._at()
            ended = isinstance(error, EOFError | ConnectionError)
            raise WorkerLostError(row if 0 <= row < len(items) else 0, ended=ended) from error
        images[:] = self._rows[: len(items)]
        self.decoded += len(items)
        return outcomes

    def end(self) -> str | None:
        """Kill it, unless it has ended; says how it ended, as `DecodeServer.end`."""
        self._channel.close()
        return self._server.end(self._process)

    def _wait(self, count: int, timeout_s: float) -> None:
        """Wait until there is an answer, or the connection has ended.

        Only time in which this process ran is counted, and only for decoding: whoever stops and
        wakes the whole run, or a file server that is away for a minute, costs no image.

        Raises:
            WorkerLostError: An image takes longer than `timeout_s`.
        """
        look_s = min(LOOK_S, timeout_s / 20)
        answer = select.poll()
        answer.register(self._channel, select.POLLIN)
        last, spent, now = self._at(), 0.0, time.monotonic()
        while not answer.poll(look_s * 1000):
            before, now = now, time.monotonic()
            at = self._at()
            row, doing = at
            spent = spent + min(now - before, 2 * look_s) if at == last else 0.0
            last = at
            # It was there before the look that saw it, and is to be a row before its time is up.
            if spent + 2 * look_s >= timeout_s and 0 <= row < count and doing == DECODING:
                text = f"not decoded after {timeout_s:g} s"
                raise WorkerLostError(row, ImageError(ErrorKind.DECODE_TIMEOUT, text))

    def _at(self) -> tuple[int, int]:
        """The row that the worker is at, -1 for none, and what it does with it."""
        row, doing = HEADER.unpack_from(self._shared, 0)
        return row, doing


def _shared_memory(size: int) -> IO[bytes]:
    """An anonymous file for sharing, which on Linux nobody can make shorter.

    (Reading memory whose file has shrunk kills the reader.)
    """
    if not hasattr(os, "memfd_create"):
        file: IO[bytes] = TemporaryFile(prefix="nightshift-decode-")  # noqa: SIM115 - handed on
        file.truncate(size)
        return file
    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    file = os.fdopen(os.memfd_create("nightshift-decode", flags), "r+b")
    file.truncate(size)
    fcntl.fcntl(file, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
    return file
