"""The simulated GPU: streams, events and captured graphs over simulated memory.

Nothing asynchronous happens when it is queued. An operation runs when the host waits for it, or for
something that waits for it, and not before (`order="late"`); or at times drawn from a seed
(`order="random"`); or at once (`order="early"`): all three are schedules that a GPU may choose.

Races are found whatever the schedule. Every stream, every event and the host carries a vector
clock: how far into each stream its past reaches. Two operations that touch the same bytes, one of
them writing, must be ordered by these clocks. The host's own accesses go through NumPy views and
cannot be seen, so they are found by content: the source of a copy must not change between queueing
and running, and the destination is poisoned meanwhile.
"""

from __future__ import annotations

import json
import os
import random
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.simulators.memory import (
    Access,
    Block,
    Memory,
    SimulatedFault,
    SimulatedMisuse,
    SimulatedRace,
)

__all__ = ["Failure", "Machine", "SimulatedMisuse", "SimulatedRace", "Span", "Work", "machine"]

SETTINGS_VARIABLE = "SIMULATED_GPU"
"""Settings as JSON, inherited by child processes."""

STICKY = {214, 220, 226, 700, 702, 709, 710, 714, 715, 716, 717, 718, 719, 721, 810, 911, 999}
CAPTURE_UNSUPPORTED, CAPTURE_INVALIDATED = 900, 901
INVALID_VALUE, INVALID_HANDLE = 1, 400


class Failure(Exception):
    """The call returns this status."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


@dataclass(frozen=True)
class Span:
    """Bytes of a block that an operation reads or writes."""

    block: Block
    start: int
    stop: int
    writes: bool


@dataclass(frozen=True)
class Work:
    """Something to queue.

    `prepare` is called when it is queued and returns what is called when it runs. `still_valid` is
    asked at every launch of a graph that captured it.
    """

    what: str
    spans: Sequence[Span]
    prepare: Callable[[], Callable[[], None]]
    still_valid: Callable[[], bool] = lambda: True


@dataclass(eq=False)
class Operation:
    """Queued work; or, with `waits_for`, a wait for an operation of another stream."""

    stream: Stream
    run: Callable[[], None]
    waits_for: Operation | None = None
    done: bool = False


@dataclass(eq=False)
class Stream:
    """A queue and its clock."""

    handle: int
    clock: dict[int, int] = field(default_factory=dict)
    number: int = 0
    pending: deque[Operation] = field(default_factory=deque)
    last: Operation | None = None
    capture: list[Work] | None = None
    capture_invalid: bool = False


@dataclass(eq=False)
class Event:
    """The latest record of an event."""

    handle: int
    timing: bool
    clock: dict[int, int] = field(default_factory=dict)
    operation: Operation | None = None
    reached_at: int = 0


@dataclass(eq=False)
class Graph:
    """A captured template, or an instance of one."""

    handle: int
    works: list[Work]
    executable: bool = False


class Machine:
    """One simulated GPU and its faults. There is one for each process: `machine`."""

    def __init__(self) -> None:
        self.reset(**json.loads(os.environ.get(SETTINGS_VARIABLE, "{}")))

    def reset(
        self,
        *,
        order: str = "late",
        seed: int = 0,
        name: str = "Simulated H200",
        compute_capability: tuple[int, int] = (9, 0),
        total_bytes: int = 2**30,
        device_count: int = 1,
        build_seconds: float = 0.0,
        unbuildable: str = "",
        fault: dict[str, Any] | None = None,
    ) -> None:
        """Forget everything and start anew.

        Args:
            order: 'late', 'early' or 'random': when queued work runs.
            seed: For 'random'.
            name: Of the GPU.
            compute_capability: Of the GPU.
            total_bytes: Of its memory.
            device_count: GPUs in the machine, all alike.
            build_seconds: How long TensorRT takes to build an engine.
            unbuildable: An ONNX operator for which TensorRT finds no kernel: its build fails.
            fault: {"operation": number, "code": status} lets the queued operation of this number
                (from 1) fail when it runs, {"operation": number} lets it never end. With
                "once": path, that happens to the first process that gets there, and makes the file.
        """
        self.order, self.name, self.compute_capability = order, name, tuple(compute_capability)
        self.device_count, self.build_seconds = device_count, build_seconds
        self.unbuildable = unbuildable
        self.random = random.Random(seed)
        self.memory = Memory(total_bytes)
        self.streams: dict[int, Stream] = {}
        self.events: dict[int, Event] = {}
        self.graphs: dict[int, Graph] = {}
        self.host: dict[int, int] = {}
        SimulatedFault.found.clear()
        self.device = 0
        self._handles = 0x5000
        self.operations_run = 0
        self.calls = 0
        self.call_names: list[str] = []
        self.sticky = 0
        self.tensorrt_calls = 0
        self._failing_call: tuple[int, int] | None = None
        self._failing_operation: tuple[int, int] | None = None
        self._refused_call = 0
        self._fault = fault

    # Faults

    def fail_call(self, number: int, code: int = 719) -> None:
        """Let the CUDA call of this number (from 1, counted from `reset`) return `code`."""
        self._failing_call = (number, code)

    def fail_operation(self, number: int, code: int = 719) -> None:
        """Let the queued operation of this number (from 1) fail when it runs, not when queued."""
        self._failing_operation = (number, code)

    def refuse_call(self, number: int) -> None:
        """Let the TensorRT call of this number (from 1) answer None or False.

        Counted are those calls of runtime, engine and context that can.
        """
        self._refused_call = number

    def enter_tensorrt(self) -> bool:
        """Count a call of TensorRT; whether it must be refused."""
        self.tensorrt_calls += 1
        return self.tensorrt_calls == self._refused_call

    def enter(self, name: str) -> int:
        """Count a call; the status it must return, 0 to carry it out."""
        self.calls += 1
        self.call_names.append(name)
        if self.sticky:
            return self.sticky
        if self._failing_call and self.calls == self._failing_call[0]:
            code = self._failing_call[1]
            self.sticky = code if code in STICKY else 0
            return code
        if self.order == "random":
            self._run_some()
        return 0

    # What must be true at the end

    def leaks(self) -> list[str]:
        """Everything that was handed out and not given back."""
        return [
            *(str(block) for block in self.memory.blocks.values()),
            *(f"stream {handle:#x}" for handle in self.streams),
            *(f"event {handle:#x}" for handle in self.events),
            *(f"graph {handle:#x}" for handle in self.graphs),
        ]

    def verify(self) -> None:
        """Raise for every fault since `reset`, those that nobody saw and late writes included."""
        self.memory.check_quarantine()
        if SimulatedFault.found:
            raise AssertionError("; ".join(SimulatedFault.found))

    # Handles

    def new_handle(self) -> int:
        """A number that no handle had before."""
        self._handles += 0x10
        return self._handles

    def stream(self, handle: int) -> Stream:
        """The stream of a handle; not the default stream, which nothing here may use."""
        return self._known(self.streams, handle)

    def event(self, handle: int) -> Event:
        """The event of a handle."""
        return self._known(self.events, handle)

    def _known(self, table: dict, handle: int):
        if handle not in table:
            raise Failure(INVALID_HANDLE)
        return table[handle]

    # Queueing

    def submit(self, stream: Stream, work: Work) -> None:
        """Queue work, or capture it where the stream is capturing."""
        if stream.capture is not None:
            self._refuse_if_invalid(stream)
            stream.capture.append(work)
            return
        self._queue(stream, work.what, work.spans, [work.prepare()])

    def launch(self, stream: Stream, graph: Graph) -> None:
        """Queue all of a graph's work as one operation."""
        stale = [work.what for work in graph.works if not work.still_valid()]
        if stale:
            raise SimulatedMisuse(f"a graph is launched whose context changed since: {stale}")
        spans = [span for work in graph.works for span in work.spans]
        for span in spans:
            self.memory.find(span.block.address, span.block.nbytes)
        self._queue(stream, "graph", spans, [work.prepare() for work in graph.works])

    def _queue(
        self,
        stream: Stream,
        what: str,
        spans: Sequence[Span],
        runs: Sequence[Callable[[], None]],
        waits_for: Operation | None = None,
    ) -> Operation:
        stream.number += 1
        known = joined(stream.clock, self.host)
        for span in spans:
            span.block.touch(
                Access(stream.handle, stream.number, span.start, span.stop, span.writes, what),
                known,
            )
        stream.clock = {**known, stream.handle: stream.number}
        operation = Operation(stream, lambda: [run() for run in runs], waits_for)
        stream.pending.append(operation)
        stream.last = operation
        if self.order == "early":
            self.complete(operation)
        return operation

    def record(self, event: Event, stream: Stream) -> None:
        """Mark what the stream holds; the mark itself is an operation."""

        def reach() -> None:
            event.reached_at = self.operations_run

        self._refuse_capture(stream)
        event.operation = self._queue(stream, "event record", (), [reach])
        event.clock = stream.clock

    def wait(self, stream: Stream, event: Event) -> None:
        """Hold back the stream until the event's latest record."""
        self._refuse_capture(stream)
        if event.operation is not None:
            stream.clock = joined(stream.clock, event.clock)
            self._queue(stream, "event wait", (), [], event.operation)

    # Running

    def complete(self, operation: Operation) -> None:
        """Run what must run before this operation is done, and nothing else."""
        while not operation.done:
            self._run_head(operation.stream)

    def _run_head(self, stream: Stream) -> None:
        head = stream.pending[0]
        if head.waits_for is not None:
            self.complete(head.waits_for)
        stream.pending.popleft()
        head.done = True
        self.operations_run += 1
        if self._failing_operation and self.operations_run == self._failing_operation[0]:
            self.sticky = self._failing_operation[1]
            raise Failure(self.sticky)
        self._meet_fault()
        head.run()

    def _meet_fault(self) -> None:
        """Fail or hang, if this is the operation, and no process did so before."""
        if self._fault is None or self.operations_run != self._fault["operation"]:
            return
        if "once" in self._fault:
            try:
                Path(self._fault["once"]).touch(exist_ok=False)
            except FileExistsError:
                return
        if "code" not in self._fault:
            time.sleep(3600)
        self.sticky = self._fault["code"]
        raise Failure(self.sticky)

    def _run_some(self) -> None:
        """Let a random number of operations of random streams make progress."""
        while self.random.random() < 0.6:
            ready = [
                stream
                for stream in self.streams.values()
                if stream.pending
                and (stream.pending[0].waits_for is None or stream.pending[0].waits_for.done)
            ]
            if not ready:
                return
            try:
                self._run_head(self.random.choice(ready))
            except Failure:
                return  # it is met by the next call

    def synchronize_stream(self, stream: Stream) -> None:
        """The host waits for everything in a stream."""
        self.forbid_while_capturing()
        if stream.last is not None:
            self.complete(stream.last)
        self.host = joined(self.host, stream.clock)

    def synchronize_event(self, event: Event) -> None:
        """The host waits for the latest record of an event."""
        self.forbid_while_capturing()
        if event.operation is not None:
            self.complete(event.operation)
        self.host = joined(self.host, event.clock)

    # Giving back

    def require_idle(self, block: Block) -> None:
        """Raise where queued work still uses the block, as far as the host can know."""
        for access in block.accesses:
            if not self.sticky and self.host.get(access.stream, 0) < access.number:
                raise SimulatedMisuse(f"{block} is freed while {access.what!r} may still use it")

    def destroy_stream(self, stream: Stream) -> None:
        """Forget a stream, which must have nothing left to do."""
        if stream.pending and not self.sticky:
            raise SimulatedMisuse(
                f"a stream is destroyed with {len(stream.pending)} operations left"
            )
        del self.streams[stream.handle]

    # Capture

    def forbid_while_capturing(self) -> None:
        """For calls that a capture of this thread does not survive."""
        for stream in self.streams.values():
            if stream.capture is not None:
                stream.capture_invalid = True
                raise Failure(CAPTURE_UNSUPPORTED)

    def _refuse_capture(self, stream: Stream) -> None:
        """For what a capture could hold, but ours never needs."""
        if stream.capture is not None:
            stream.capture_invalid = True
            raise Failure(CAPTURE_UNSUPPORTED)

    def _refuse_if_invalid(self, stream: Stream) -> None:
        if stream.capture_invalid:
            raise Failure(CAPTURE_INVALIDATED)


def joined(one: dict[int, int], other: dict[int, int]) -> dict[int, int]:
    """The clock of whoever knows what both know."""
    result = dict(one)
    for stream, number in other.items():
        if number > result.get(stream, 0):
            result[stream] = number
    return result


machine = Machine()
