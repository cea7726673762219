"""`cuda.bindings.runtime` over the simulated machine: the calls that Nightshift makes.

Each returns a tuple that begins with the status, as the bindings do. A call that gives something
back does so even where it reports an error: CUDA's own reports may stem from earlier work.
"""

from __future__ import annotations

import enum
import functools
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

from tests.simulators.machine import (
    CAPTURE_INVALIDATED,
    INVALID_HANDLE,
    INVALID_VALUE,
    Event,
    Failure,
    Graph,
    SimulatedMisuse,
    SimulatedRace,
    Span,
    Stream,
    Work,
    machine,
)
from tests.simulators.memory import POISON
from tests.simulators.records import cuda_record

__all__ = [
    "cudaDeviceSynchronize",
    "cudaDriverGetVersion",
    "cudaError_t",
    "cudaEventBlockingSync",
    "cudaEventCreateWithFlags",
    "cudaEventDefault",
    "cudaEventDestroy",
    "cudaEventDisableTiming",
    "cudaEventElapsedTime",
    "cudaEventRecord",
    "cudaEventSynchronize",
    "cudaFree",
    "cudaFreeHost",
    "cudaGetDeviceCount",
    "cudaGetDeviceProperties",
    "cudaGetErrorName",
    "cudaGetErrorString",
    "cudaGetLastError",
    "cudaGraphDestroy",
    "cudaGraphExecDestroy",
    "cudaGraphInstantiate",
    "cudaGraphLaunch",
    "cudaMalloc",
    "cudaMallocHost",
    "cudaMemGetInfo",
    "cudaMemcpyAsync",
    "cudaMemcpyKind",
    "cudaRuntimeGetVersion",
    "cudaSetDevice",
    "cudaStreamBeginCapture",
    "cudaStreamCaptureMode",
    "cudaStreamCreateWithFlags",
    "cudaStreamDefault",
    "cudaStreamDestroy",
    "cudaStreamEndCapture",
    "cudaStreamNonBlocking",
    "cudaStreamSynchronize",
    "cudaStreamWaitEvent",
]

_RECORD = cuda_record()
cudaError_t = enum.IntEnum("cudaError_t", _RECORD["enums"]["cudaError_t"])
cudaMemcpyKind = enum.IntEnum("cudaMemcpyKind", _RECORD["enums"]["cudaMemcpyKind"])
cudaStreamCaptureMode = enum.IntEnum(
    "cudaStreamCaptureMode", _RECORD["enums"]["cudaStreamCaptureMode"]
)
cudaStreamDefault = _RECORD["constants"]["cudaStreamDefault"]
cudaStreamNonBlocking = _RECORD["constants"]["cudaStreamNonBlocking"]
cudaEventDefault = _RECORD["constants"]["cudaEventDefault"]
cudaEventBlockingSync = _RECORD["constants"]["cudaEventBlockingSync"]
cudaEventDisableTiming = _RECORD["constants"]["cudaEventDisableTiming"]

SUCCESS = cudaError_t.cudaSuccess
NO_DEVICE = int(cudaError_t.cudaErrorNoDevice)
OUT_OF_MEMORY = int(cudaError_t.cudaErrorMemoryAllocation)


class Handle:
    """What the bindings return for streams, events and graphs; calls take it or its number."""

    def __init__(self, value: int) -> None:
        self.value = value


def _simulated(
    results: int, *, releases: bool = False, after_failure: Callable | None = None
) -> Callable[[Callable], Callable]:
    """Make a function return (status, *results), count it, and let it fail where told to.

    Args:
        results: Values after the status.
        releases: It is carried out even where it fails.
        after_failure: Carried out in its place, with its arguments, where it fails.
    """

    def decorate(function: Callable[..., Any]) -> Callable[..., tuple]:
        @functools.wraps(function)
        def call(*arguments: Any) -> tuple:
            code = machine.enter(function.__name__)
            arguments = tuple(a.value if isinstance(a, Handle) else a for a in arguments)
            values: tuple = (None,) * results
            if code and after_failure is not None:
                after_failure(*arguments)
            if not code or releases:
                try:
                    values = function(*arguments) or ()
                except Failure as failure:
                    code = failure.code
            return (cudaError_t(code), *(values if not code else (None,) * results))

        return call

    return decorate


# Devices and errors


@_simulated(1)
def cudaGetDeviceCount():
    if machine.device_count == 0:
        raise Failure(NO_DEVICE)
    return (machine.device_count,)


@_simulated(0)
def cudaSetDevice(device):
    if not 0 <= device < machine.device_count:
        raise Failure(int(cudaError_t.cudaErrorInvalidDevice))
    machine.device = device


@_simulated(1)
def cudaGetDeviceProperties(device):
    major, minor = machine.compute_capability
    return (
        SimpleNamespace(
            name=machine.name.encode(),
            major=major,
            minor=minor,
            totalGlobalMem=machine.memory.total_bytes,
        ),
    )


@_simulated(1)
def cudaDriverGetVersion():
    return (13000,)


@_simulated(1)
def cudaRuntimeGetVersion():
    return (13000,)


@_simulated(2)
def cudaMemGetInfo():
    return machine.memory.free_bytes, machine.memory.total_bytes


def cudaGetErrorName(error):
    return SUCCESS, cudaError_t(error).name.encode()


def cudaGetErrorString(error):
    return SUCCESS, f"simulated {cudaError_t(error).name}".encode()


def cudaGetLastError():
    return (cudaError_t(machine.sticky),)


@_simulated(0)
def cudaDeviceSynchronize():
    for stream in list(machine.streams.values()):
        machine.synchronize_stream(stream)


# Memory


@_simulated(1)
def cudaMalloc(size):
    return (_allocate("device", size),)


@_simulated(1)
def cudaMallocHost(size):
    return (_allocate("pinned", size),)


@_simulated(0, releases=True)
def cudaFree(devPtr):
    _free("device", devPtr)


@_simulated(0, releases=True)
def cudaFreeHost(ptr):
    _free("pinned", ptr)


def _allocate(kind: str, size: int) -> int:
    machine.forbid_while_capturing()
    block = machine.memory.allocate(kind, size)
    if block is None:
        raise Failure(OUT_OF_MEMORY)
    return block.address


def _free(kind: str, address: int) -> None:
    machine.forbid_while_capturing()
    block = machine.memory.blocks.get(address)
    if block is None or block.kind != kind:
        raise Failure(INVALID_VALUE)
    machine.require_idle(block)
    machine.memory.release(block)


@_simulated(0)
def cudaMemcpyAsync(dst, src, count, kind, stream):
    target, target_start = machine.memory.find(dst, count)
    source, source_start = machine.memory.find(src, count)
    directions = {
        cudaMemcpyKind.cudaMemcpyHostToDevice: ("pinned", "device"),
        cudaMemcpyKind.cudaMemcpyDeviceToHost: ("device", "pinned"),
        cudaMemcpyKind.cudaMemcpyDeviceToDevice: ("device", "device"),
    }
    if directions.get(kind) != (source.kind, target.kind):
        raise Failure(int(cudaError_t.cudaErrorInvalidMemcpyDirection))
    reads = Span(source, source_start, source_start + count, writes=False)
    writes = Span(target, target_start, target_start + count, writes=True)
    work = Work(cudaMemcpyKind(kind).name, (reads, writes), lambda: _watched_copy(reads, writes))
    machine.submit(machine.stream(stream), work)


def _watched_copy(reads: Span, writes: Span) -> Callable[[], None]:
    """A copy that finds out whether the host touched either end while it was in flight."""
    source = reads.block.data[reads.start : reads.stop]
    target = writes.block.data[writes.start : writes.stop]
    expected = source.copy() if reads.block.kind == "pinned" else None
    watch_target = writes.block.kind == "pinned"
    stamp = writes.block.writes_done
    if watch_target:
        target[:] = POISON

    def run() -> None:
        if expected is not None and not np.array_equal(source, expected):
            raise SimulatedRace(f"the host wrote {reads.block} while its copy was in flight")
        untouched = writes.block.writes_done == stamp
        if watch_target and untouched and (target != POISON).any():
            raise SimulatedRace(f"the host wrote {writes.block} before the copy into it ran")
        target[:] = source
        writes.block.writes_done += 1

    return run


# Streams and events


@_simulated(1)
def cudaStreamCreateWithFlags(flags):
    if flags != cudaStreamNonBlocking:
        raise SimulatedMisuse("a stream that synchronizes with the default stream")
    stream = Stream(machine.new_handle())
    machine.streams[stream.handle] = stream
    return (Handle(stream.handle),)


@_simulated(0, releases=True)
def cudaStreamDestroy(stream):
    machine.destroy_stream(machine.stream(stream))


@_simulated(0)
def cudaStreamSynchronize(stream):
    machine.synchronize_stream(machine.stream(stream))


@_simulated(0)
def cudaStreamWaitEvent(stream, event, flags):
    machine.wait(machine.stream(stream), machine.event(event))


@_simulated(1)
def cudaEventCreateWithFlags(flags):
    event = Event(machine.new_handle(), timing=not flags & cudaEventDisableTiming)
    machine.events[event.handle] = event
    return (Handle(event.handle),)


@_simulated(0, releases=True)
def cudaEventDestroy(event):
    del machine.events[machine.event(event).handle]


@_simulated(0)
def cudaEventRecord(event, stream):
    machine.record(machine.event(event), machine.stream(stream))


@_simulated(0)
def cudaEventSynchronize(event):
    machine.synchronize_event(machine.event(event))


@_simulated(1)
def cudaEventElapsedTime(start, end):
    """A millisecond for each operation that ran in between."""
    first, last = machine.event(start), machine.event(end)
    if not (first.timing and last.timing and first.operation and last.operation):
        raise Failure(INVALID_HANDLE)
    if not (first.operation.done and last.operation.done):
        raise Failure(int(cudaError_t.cudaErrorNotReady))
    return (float(last.reached_at - first.reached_at),)


# Graphs


@_simulated(0)
def cudaStreamBeginCapture(stream, mode):
    if mode != cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal:
        raise SimulatedMisuse("a capture that other threads' calls would break")
    machine.stream(stream).capture = []
    machine.stream(stream).capture_invalid = False


def _leave_capture(stream: int) -> None:
    machine.stream(stream).capture = None


@_simulated(1, after_failure=_leave_capture)
def cudaStreamEndCapture(stream):
    captured = machine.stream(stream)
    works, captured.capture = captured.capture, None
    if works is None or captured.capture_invalid:
        captured.capture_invalid = False
        raise Failure(CAPTURE_INVALIDATED)
    return (_new_graph(works, executable=False),)


@_simulated(1)
def cudaGraphInstantiate(graph, flags):
    return (_new_graph(_graph(graph, executable=False).works, executable=True),)


@_simulated(0)
def cudaGraphLaunch(graphExec, stream):
    machine.launch(machine.stream(stream), _graph(graphExec, executable=True))


@_simulated(0, releases=True)
def cudaGraphDestroy(graph):
    del machine.graphs[_graph(graph, executable=False).handle]


@_simulated(0, releases=True)
def cudaGraphExecDestroy(graphExec):
    del machine.graphs[_graph(graphExec, executable=True).handle]


def _new_graph(works: list[Work], *, executable: bool) -> Handle:
    graph = Graph(machine.new_handle(), works, executable)
    machine.graphs[graph.handle] = graph
    return Handle(graph.handle)


def _graph(handle: int, *, executable: bool) -> Graph:
    graph = machine.graphs.get(handle)
    if graph is None or graph.executable != executable:
        raise Failure(INVALID_HANDLE)
    return graph
