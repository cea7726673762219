"""Decoding in processes of its own: a crash or a spin costs one row, never a run.

    thread ──items──▶ worker process: read, decode, resize ──▶ shared memory ──copy──▶ slot
           ◀outcomes─

A thread that wants images decoded borrows a worker, and waits. It looks at the clock that the
worker keeps: an image that takes too long has its worker killed and becomes an error row, as does
one that the worker died of; the others are decoded by the next worker. Beside that guard, processes
decode on many cores where threads wait for the interpreter's lock: Pillow resizes 2 times as many
images in 16 processes as in 16 threads.
"""

from __future__ import annotations

import mmap
import os
import queue
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryFile
from types import TracebackType
from typing import IO, Self

import numpy as np
from numpy.typing import NDArray

from shards.decode import Limits
from shards.decode_wire import HEADER, Outcome, Setup, receive_outcomes, send, send_items
from shards.errors import ErrorKind, ImageError, ShardError
from shards.stored import Stored
from shards.transform import Transform

__all__ = ["DecodePool"]

ROOT = Path(__file__).resolve().parent.parent
"""Where this very code lives: the server must not import another `shards` from its directory."""

START = f"""\
import sys
sys.path[0] = {str(ROOT)!r}
from shards.decode_server import main
main(int(sys.argv[1]), int(sys.argv[2]))
"""

ROWS = 16
"""Images of one request: some milliseconds of work, beside which 0.1 ms of messages vanish."""

LOOK_S = 0.25
"""How often a waiting thread looks at the worker's clock."""


class DecodePool:
    """Decode workers, owned; any number of threads may use it at once.

    Workers are made when threads need them, at most `workers`, and replaced when they end. Closing
    ends all of them; they also end when this process does, however that ends.
    """

    def __init__(
        self,
        transform: Transform,
        limits: Limits,
        *,
        workers: int,
        timeout_s: float = 10.0,
        memory_bytes: int = 1 << 30,
    ) -> None:
        """Start the process that workers are made from; does not wait for it.

        Args:
            transform: Resize and crop.
            limits: What one image may cost in pixels and bytes.
            workers: Most processes.
            timeout_s: Longest time for one image, of the clock; beyond it the row's error_kind is
                decode_timeout.
            memory_bytes: Address space that a worker may take beyond what it begins with.
        """
        if workers < 1 or not timeout_s > 0:
            raise ValueError(f"{workers=}, {timeout_s=}; expected 1 or more and above 0")
        self._setup = Setup(
            transform=transform, limits=limits, rows=ROWS, memory_bytes=memory_bytes
        )
        self._timeout_s = timeout_s
        self._places = tuple(_Place() for _ in range(workers))
        self._idle: queue.SimpleQueue[_Place] = queue.SimpleQueue()
        for place in self._places:
            self._idle.put(place)
        self._server = _Server()

    def decode(self, items: Sequence[Stored], images: NDArray[np.uint8]) -> list[Outcome]:
        """Decode items[i] into images[i].

        Args:
            items: Any number.
            images: uint8 [len(items), height, width, 3], the caller's; rows of failed images may
                hold anything.

        Returns:
            For each item the upright image's size, or why there is none.

        Raises:
            ShardError: Worker processes cannot be started.
        """
        outcomes: list[Outcome] = []
        place = self._idle.get()
        try:
            while len(outcomes) < len(items):
                part = slice(len(outcomes), len(outcomes) + ROWS)
                outcomes += self._decode_some(place, items[part], images[part])
        finally:
            self._idle.put(place)
        return outcomes

    def _decode_some(
        self, place: _Place, items: Sequence[Stored], images: NDArray[np.uint8]
    ) -> list[Outcome]:
        """Decode the first items, at least one, with the worker of a place or a new one."""
        worker = place.worker or self._server.new_worker(self._setup)
        place.worker = None  # until it has proved sound
        try:
            outcomes, sound = worker.decode(items, images, self._timeout_s)
        except WorkerLostError as lost:
            worker.close()
            # Those before it had been decoded, but their outcomes are lost with the worker.
            before: list[Outcome] = []
            while len(before) < lost.row:
                part = slice(len(before), lost.row)
                before += self._decode_some(place, items[part], images[part])
            return [*before, lost.outcome]
        except BaseException:
            worker.close()
            raise
        if sound:
            place.worker = worker
        else:
            worker.close()
        return outcomes

    def close(self) -> None:
        """End every worker; nothing may be decoding. Idempotent."""
        for place in self._places:
            if place.worker is not None:
                place.worker.close()
                place.worker = None
        self._server.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class _Place:
    """Room for one worker; empty before the first, and after one that ended."""

    def __init__(self) -> None:
        self.worker: _Worker | None = None


class WorkerLostError(Exception):
    """A worker ended, or has to be ended, while it decoded an image.

    Attributes:
        row: Number of that image in the request.
        outcome: What becomes of it.
    """

    def __init__(self, row: int, outcome: ImageError) -> None:
        super().__init__(str(outcome))
        self.row = row
        self.outcome = outcome


class _Server:
    """The process that workers are forked from, and the way to it."""

    def __init__(self) -> None:
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self._asking = threading.Lock()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-c", START, str(theirs.fileno()), str(os.getpid())],
                stdin=subprocess.DEVNULL,
                stdout=2,  # our own may carry messages
                pass_fds=[theirs.fileno()],
            )

    def new_worker(self, setup: Setup) -> _Worker:
        """Have a worker made, and tell it its work.

        Raises:
            ShardError: The server is gone.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with theirs, _memory() as memory:
            memory.truncate(setup.shared_bytes)
            shared = mmap.mmap(memory.fileno(), setup.shared_bytes)
            HEADER.pack_into(shared, 0, -1, 0.0)
            try:
                with self._asking:
                    socket.send_fds(self._channel, [b"w"], [theirs.fileno(), memory.fileno()])
                    answer = self._channel.recv(8, socket.MSG_WAITALL)
                if len(answer) < 8:
                    raise ConnectionError("it has ended")
                send(ours, setup.to_json())
            except OSError as error:
                ours.close()
                raise ShardError(
                    f"the process that makes decoders does not answer: {error}. Out of memory or "
                    "of processes? Run the same command again; it resumes."
                ) from error
        return _Worker(int.from_bytes(answer, "little"), ours, shared, setup)

    def close(self) -> None:
        """End it, and wait until it has ended."""
        self._channel.close()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class _Worker:
    """One worker process, used by one thread at a time."""

    def __init__(
        self, process: int, channel: socket.socket, shared: mmap.mmap, setup: Setup
    ) -> None:
        self._process = process
        self._channel = channel
        self._shared = shared
        shape = (setup.rows, setup.transform.height, setup.transform.width, 3)
        self._rows = np.frombuffer(shared, np.uint8, offset=HEADER.size).reshape(shape)
        self._decoded = 0

    def decode(
        self, items: Sequence[Stored], images: NDArray[np.uint8], timeout_s: float
    ) -> tuple[list[Outcome], bool]:
        """Decode items, and copy them out.

        Returns:
            Outcomes of the first items, at least one; and whether the worker can go on.

        Raises:
            WorkerLostError: One image was too much for it.
        """
        try:
            send_items(self._channel, items)
            self._wait(timeout_s)
            outcomes = receive_outcomes(self._channel)
        except (OSError, EOFError) as error:
            text = "the decoder crashed on this image"
            lost = ImageError(ErrorKind.DECODE_CRASH, text)
            raise WorkerLostError(max(self._row(), 0), lost) from error
        images[:] = self._rows[: len(items)]
        earlier, self._decoded = self._decoded, self._decoded + len(items)
        for row, outcome in enumerate(outcomes):
            if isinstance(outcome, ImageError) and outcome.kind is ErrorKind.OUT_OF_MEMORY:
                # What earlier images left in the heap may be the reason: only a fresh process can
                # tell, with this image as its first.
                return outcomes[: row if earlier or row else 1], False
        return outcomes, True

    def close(self) -> None:
        """Kill it: it holds nothing that could be lost."""
        self._channel.close()
        with suppress(ProcessLookupError):
            os.kill(self._process, signal.SIGKILL)

    def _wait(self, timeout_s: float) -> None:
        """Wait until there is an answer, or the connection has ended.

        Raises:
            WorkerLostError: An image takes longer than `timeout_s`.
        """
        while not select.select([self._channel], [], [], min(LOOK_S, timeout_s / 4))[0]:
            row, since = HEADER.unpack_from(self._shared, 0)
            if row >= 0 and time.monotonic() - since > timeout_s:
                text = f"not decoded after {timeout_s:g} s"
                raise WorkerLostError(row, ImageError(ErrorKind.DECODE_TIMEOUT, text))

    def _row(self) -> int:
        """The row that the worker is at; -1 for none."""
        row: int = HEADER.unpack_from(self._shared, 0)[0]
        return row


def _memory() -> IO[bytes]:
    """An anonymous file, for sharing."""
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("nightshift-decode"), "r+b")
    return TemporaryFile(prefix="nightshift-decode-")
