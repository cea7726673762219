"""Streams, events and graphs of CUDA, each with one owner; every status is checked.

Thin classes over `cuda.bindings.runtime` (cuda-python 12.9 and 13), which is imported when the
first of them is made: a machine without a GPU never needs it. What CUDA hands out, its owner gives
back in `close()`, once and by hand. A destructor only warns: it runs at a time that nobody chose,
perhaps while a copy still uses the memory.
"""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable
from importlib import import_module
from types import ModuleType, TracebackType
from typing import Any, Self

from engines.errors import BackendUnavailableError, CudaError, DeviceMemoryError

__all__ = ["CudaResource", "Event", "Graph", "Stream", "check", "cuda_runtime", "native_handle"]

MEMORY_ALLOCATION = 2
"""cudaErrorMemoryAllocation."""

STICKY_CODES = frozenset({
    # driver_types.h of CUDA 13.0 says of these "leaves the process in an inconsistent state and
    # any further CUDA work will return the same error" (810 and 911 in other words).
    226, 700, 702, 710, 714, 715, 716, 717, 718, 719, 721, 810, 911,
    # Uncorrectable ECC and NVLink errors, a destroyed context, an unknown error: not said there,
    # but nothing that follows can be trusted.
    214, 220, 709, 999,
})  # fmt: skip


def cuda_runtime() -> ModuleType:
    """Import the bindings of the CUDA runtime; needs no driver.

    Raises:
        BackendUnavailableError: cuda-python is not installed or too old.
    """
    try:
        return import_module("cuda.bindings.runtime")
    except ImportError as error:
        raise BackendUnavailableError(
            f"the CUDA runtime cannot be used here: {error}. Install cuda-python 12.9 or 13, as "
            "`pip install 'nightshift[gpu]'` does; without an NVIDIA GPU use --backend onnxruntime."
        ) from error


def check(call: str, *arguments: object) -> Any:  # noqa: ANN401 - the bindings have no types
    """Call a function of the CUDA runtime by name and raise what it reports.

    Asynchronous errors of earlier work surface here too: `call` is then only where they were met.

    Returns:
        The value that follows the status; a tuple where there are none or several.

    Raises:
        DeviceMemoryError: The device has too little free memory.
        CudaError: Any other failure; `sticky` says whether this process is lost to CUDA.
    """
    status, *values = getattr(cuda_runtime(), call)(*arguments)
    if int(status) != 0:
        raise _error(call, int(status))
    return values[0] if len(values) == 1 else tuple(values)


def native_handle(handle: object) -> int:
    """The pointer behind a handle of the bindings, as TensorRT takes it."""
    return int(import_module("cuda.bindings.utils").get_cuda_native_handle(handle))


def _error(call: str, code: int) -> CudaError:
    runtime = cuda_runtime()
    status = runtime.cudaError_t(code)
    name, text = (
        describe(status)[1].decode()
        for describe in (runtime.cudaGetErrorName, runtime.cudaGetErrorString)
    )
    kind = DeviceMemoryError if code == MEMORY_ALLOCATION else CudaError
    return kind(call, code, name, text, sticky=code in STICKY_CODES)


class CudaResource(ABC):
    """Something that CUDA handed out and that its one owner gives back.

    Attributes:
        handle: The pointer, as an integer; using it after `close` raises RuntimeError.
    """

    def __init__(self, handle: int) -> None:
        self._handle: int | None = handle

    @property
    def handle(self) -> int:  # noqa: D102 - documented with the class
        if self._handle is None:
            raise RuntimeError(f"this {type(self).__name__} is closed")
        return self._handle

    @property
    def closed(self) -> bool:
        """Whether it was given back."""
        return self._handle is None

    def close(self) -> None:
        """Give it back; a second call does nothing. Nothing in flight may still use it.

        Raises:
            CudaError: CUDA reported an error, perhaps of earlier work; it counts as given back.
        """
        handle, self._handle = self._handle, None
        if handle is not None:
            self._release(handle)

    @abstractmethod
    def _release(self, handle: int) -> None:
        """Give the handle back to CUDA."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        # _handle is missing where __init__ raised: then there is nothing to give back.
        if getattr(self, "_handle", None) is not None:
            warnings.warn(
                f"{type(self).__name__} was never closed; CUDA keeps it until the process ends",
                ResourceWarning,
                stacklevel=2,
                source=self,
            )


class Stream(CudaResource):
    """A queue of device work, in order; independent of the default stream."""

    def __init__(self) -> None:
        flags = cuda_runtime().cudaStreamNonBlocking
        super().__init__(native_handle(check("cudaStreamCreateWithFlags", flags)))

    def wait_event(self, event: Event) -> None:
        """Hold back what is queued from here on until the event's latest record was reached.

        Returns at once. An event that was never recorded holds nothing back.
        """
        check("cudaStreamWaitEvent", self.handle, event.handle, 0)

    def synchronize(self) -> None:
        """Wait until everything queued so far is done.

        Raises:
            CudaError: Work on this device failed.
        """
        check("cudaStreamSynchronize", self.handle)

    def _release(self, handle: int) -> None:
        check("cudaStreamDestroy", handle)


class Event(CudaResource):
    """A mark in a stream that other streams and the host can wait for.

    Args:
        timing: Keep the time of each record, for `milliseconds_since`; costs a little.
        spin: Wait in `synchronize` on a busy core instead of sleeping: some 50 microseconds
            less latency, and a core less for decoding.
    """

    def __init__(self, *, timing: bool = False, spin: bool = False) -> None:
        runtime = cuda_runtime()
        flags = (0 if timing else runtime.cudaEventDisableTiming) | (
            0 if spin else runtime.cudaEventBlockingSync
        )
        super().__init__(native_handle(check("cudaEventCreateWithFlags", flags)))

    def record(self, *, stream: Stream) -> None:
        """Put the mark behind what the stream holds so far; an earlier mark is forgotten."""
        check("cudaEventRecord", self.handle, stream.handle)

    def synchronize(self) -> None:
        """Wait until the latest record was reached; returns at once if there is none.

        Raises:
            CudaError: Work on this device failed.
        """
        check("cudaEventSynchronize", self.handle)

    def milliseconds_since(self, start: Event) -> float:
        """Device time from the record of `start` to this one; both made with `timing`, reached."""
        return float(check("cudaEventElapsedTime", start.handle, self.handle))

    def _release(self, handle: int) -> None:
        check("cudaEventDestroy", handle)


class Graph(CudaResource):
    """Recorded device work that is launched as one.

    It holds the addresses and shapes of the moment of capture: what it names must outlive it.

    Args:
        work: Queues the work on `stream`; called once, and nothing of it is carried out. It must
            neither allocate nor wait.
        stream: Captured in thread-local mode: calls of other threads do not disturb it, nor it
            them.

    Raises:
        CudaError: The work cannot be captured. The stream is usable again, and the runtime's last
            error cleared.
        Exception: Whatever `work` raised.
    """

    def __init__(self, work: Callable[[], None], *, stream: Stream) -> None:
        runtime = cuda_runtime()
        mode = runtime.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        check("cudaStreamBeginCapture", stream.handle, mode)
        try:
            work()
        except BaseException:
            _abandon_capture(stream)
            raise
        super().__init__(_instantiate(_end_capture(stream)))

    def launch(self, *, stream: Stream) -> None:
        """Queue the captured work; returns at once."""
        check("cudaGraphLaunch", self.handle, stream.handle)

    def _release(self, handle: int) -> None:
        check("cudaGraphExecDestroy", handle)


def _end_capture(stream: Stream) -> int:
    """The captured template; clears the runtime's last error where there is none."""
    try:
        return native_handle(check("cudaStreamEndCapture", stream.handle))
    except CudaError:
        cuda_runtime().cudaGetLastError()
        raise


def _instantiate(template: int) -> int:
    """Make the captured work launchable; the template is not needed after that."""
    runtime = cuda_runtime()
    try:
        instance = native_handle(check("cudaGraphInstantiate", template, 0))
    except BaseException:
        runtime.cudaGraphDestroy(template)  # unchecked: the first error is the one to report
        raise
    try:
        check("cudaGraphDestroy", template)
    except BaseException:
        runtime.cudaGraphExecDestroy(instance)
        raise
    return instance


def _abandon_capture(stream: Stream) -> None:
    """Leave capture mode without a graph; the error that led here is the one to report."""
    runtime = cuda_runtime()
    status, template = runtime.cudaStreamEndCapture(stream.handle)
    if int(status) == 0:
        runtime.cudaGraphDestroy(template)
    runtime.cudaGetLastError()
