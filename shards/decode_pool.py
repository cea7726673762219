"""Decoding in processes of its own: a crash or a spin costs one row, never a run.

    thread ──items──▶ worker process: read, decode, resize ──▶ shared memory ──copy──▶ slot
           ◀outcomes─

A thread that wants images decoded borrows a worker, and waits. It looks at which image the worker
is at: one that takes too long has its worker killed and becomes an error row. An image that its
worker ended by is tried once more, alone in a new one: the worker may have been ended by somebody
else, as the kernel when memory is short. Beside that guard, processes decode on many cores where
threads wait for the interpreter's lock: Pillow resizes 2 times as many images in 16 processes as in
16 threads.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from shards.closing import Closing
from shards.decode import Limits
from shards.decode_process import DecodeServer, Worker, WorkerLostError
from shards.decode_wire import Outcome, Setup
from shards.errors import ErrorKind, ImageError
from shards.stored import Stored
from shards.transform import Transform

__all__ = ["CONTENT_BYTES", "DecodePool"]

ROWS = 16
"""Images of one request: some milliseconds of work, beside which 0.1 ms of messages vanish."""

CONTENT_BYTES = 16 << 20
"""Contents that a request may carry, beyond its first image's: a worker holds all of them."""


class DecodePool(Closing):
    """Decode workers, owned; any number of threads may use it at once.

    Workers are made when threads need them, at most `workers`, and replaced when they end.
    """

    def __init__(
        self,
        transform: Transform,
        limits: Limits,
        *,
        workers: int,
        timeout_s: float = 10.0,
        memory_bytes: int = 1 << 30,
        server: DecodeServer | None = None,
    ) -> None:
        """Make no worker yet.

        Args:
            transform: Resize and crop.
            limits: What one image may cost in pixels and bytes.
            workers: Most processes.
            timeout_s: Longest time for decoding one image; beyond it the row's error_kind is
                decode_timeout.
            memory_bytes: Most memory of a worker, resident.
            server: Makes the workers, where it was started before; the caller's. None starts one
                with the first worker.
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
        self._server = server
        self._own_server: DecodeServer | None = None
        self._starting = threading.Lock()

    def decode(self, items: Sequence[Stored], images: NDArray[np.uint8]) -> list[Outcome]:
        """Decode items[i] into images[i].

        Args:
            items: Any number.
            images: uint8 [len(items), height, width, 3], the caller's; rows of failed images may
                hold anything.

        Returns:
            For each item the upright image's size, or why there is none.

        Raises:
            DecodersError: Worker processes cannot be started.
        """
        outcomes: list[Outcome] = []
        place = self._idle.get()
        try:
            while len(outcomes) < len(items):
                some = _request(items, len(outcomes))
                outcomes += self._decode_some(place, items[some], images[some])
        finally:
            self._idle.put(place)
        return outcomes

    def _decode_some(
        self, place: _Place, items: Sequence[Stored], images: NDArray[np.uint8]
    ) -> list[Outcome]:
        """Decode the first items with the worker of a place or a new one; it may be none."""
        worker = place.worker or self._new_worker()
        place.worker = None  # until it has proved sound
        try:
            outcomes = worker.decode(items, images, self._timeout_s)
        except WorkerLostError as lost:
            worker.end()
            return self._after_loss(place, lost, items, images)
        except BaseException:
            worker.end()
            raise
        return self._checked(place, worker, outcomes)

    def _checked(self, place: _Place, worker: Worker, outcomes: list[Outcome]) -> list[Outcome]:
        """Drop what has to be decided by a fresh worker; keep this one unless that is so."""
        for row, outcome in enumerate(outcomes):
            if isinstance(outcome, ImageError) and outcome.kind is ErrorKind.OUT_OF_MEMORY:
                # What earlier images left in the heap may be the reason.
                worker.end()
                earlier = worker.decoded - len(outcomes) + row
                return outcomes[:row] if earlier else outcomes[:1]
        place.worker = worker
        return outcomes

    def _after_loss(
        self,
        place: _Place,
        lost: WorkerLostError,
        items: Sequence[Stored],
        images: NDArray[np.uint8],
    ) -> list[Outcome]:
        """Outcomes of the items up to the one that the worker was lost by."""
        # Those before it had been decoded, but their outcomes are lost with the worker.
        outcomes: list[Outcome] = []
        while len(outcomes) < lost.row:
            some = slice(len(outcomes), lost.row)
            outcomes += self._decode_some(place, items[some], images[some])
        if lost.timeout is not None:
            return [*outcomes, lost.timeout]
        this = slice(lost.row, lost.row + 1)
        return outcomes + self._decode_again(place, items[this], images[this])

    def _decode_again(
        self, place: _Place, item: Sequence[Stored], image: NDArray[np.uint8]
    ) -> list[Outcome]:
        """Decode one image that a worker ended by, alone in a new one."""
        if place.worker is not None:
            place.worker.end()
            place.worker = None
        worker = self._new_worker()
        try:
            outcomes = worker.decode(item, image, self._timeout_s)
        except WorkerLostError as lost:
            death = worker.end()
            return [lost.timeout or _verdict(death if lost.ended else "answers nonsense")]
        except BaseException:
            worker.end()
            raise
        return self._checked(place, worker, outcomes)

    def _new_worker(self) -> Worker:
        with self._starting:
            if self._server is None:
                self._server = self._own_server = DecodeServer.spawn()
        return self._server.new_worker(self._setup)

    def close(self) -> None:
        """End every worker; nothing may be decoding. Idempotent."""
        for place in self._places:
            if place.worker is not None:
                place.worker.end()
                place.worker = None
        if self._own_server is not None:
            self._own_server.close()


class _Place:
    """Room for one worker; empty before the first, and after one that ended."""

    def __init__(self) -> None:
        self.worker: Worker | None = None


def _request(items: Sequence[Stored], start: int) -> slice:
    """The items of the next request, from `start`: at least one."""
    carried = 0
    for stop in range(start, min(start + ROWS, len(items))):
        carried += len(items[stop].content or b"")
        if carried > CONTENT_BYTES and stop > start:
            return slice(start, stop)
    return slice(start, min(start + ROWS, len(items)))


def _verdict(death: str | None) -> ImageError:
    """What becomes of an image that a new worker ended by, with nothing else to do."""
    if death == "SIGKILL":  # Nobody else sends it twice.
        text = "the decoder was killed twice (SIGKILL): the machine or container is out of memory"
        return ImageError(ErrorKind.OUT_OF_MEMORY, text)
    how = f" ({death})" if death else ""
    return ImageError(ErrorKind.DECODE_CRASH, f"the decoder crashed twice on this image{how}")
