"""The classifier for NVIDIA GPUs: uploads, computes and downloads three batches at once.

    slot (page-locked)    lane (device)                      slot (page-locked)
      images ──upload──▶ inputs ──compute──▶ outputs ──download──▶ results
              stream 1           stream 2             stream 3

Three streams, joined by the events of the lanes; the host waits only in `collect`, for the oldest
batch. Memory: slots x (images + what is fetched), page-locked; max_in_flight x (images + results)
and the engine's weights and activations on the device.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from engines.classifier import BackendInfo, Predictions, Slot, require_classes
from engines.cuda import Stream
from engines.device import DeviceInfo, MemoryBudget, device_info
from engines.errors import CudaError, EngineError, InferenceError
from engines.ownership import Drained, Resources, close_after
from engines.tensorrt_engine import BatchLayout, Engine
from engines.tensorrt_slots import HostSlot, Lane
from engines.wrap import LOGITS, fetched

__all__ = ["TensorRTClassifier"]

logger = logging.getLogger(__name__)


class TensorRTClassifier:
    """Runs a plan on a GPU; see `Classifier` for the protocol.

    Belongs to the thread that made it. After a failure of the device or of TensorRT it answers
    nothing but `close`: what was in flight is lost, and nothing is returned in its place. Where
    the failure was sticky (`CudaError.sticky`), only another process can go on.

    Batches smaller than the engine's profile allows are padded with whatever the slot holds.
    """

    def __init__(
        self,
        plan: bytes,
        *,
        batch_size: int,
        image_size: tuple[int, int],
        precision: str,
        classes: int | None = None,
        device: int = 0,
        slots: int = 6,
        max_in_flight: int = 2,
        cuda_graph: bool = False,
        memory_limit_bytes: int | None = None,
        engine_key: str | None = None,
        logits: bool = False,
        embedding: bool = False,
    ) -> None:
        """Load the engine and allocate everything that batches need.

        Args:
            plan: From our own engine store, its digest checked: a plan is native code.
            batch_size: The largest batch, inside the engine's profile.
            image_size: Height and width, inside the engine's profile.
            precision: What the engine computes in, for the record.
            classes: Scores that the model declares for an image; None where nobody reads them.
            device: Which GPU.
            slots: Page-locked batch buffers. Six: two in flight, four to even out decoding.
            max_in_flight: Batches on the device. Two: while one is computed the next is uploaded;
                1 makes every step wait for the one before.
            cuda_graph: Launch full batches as a CUDA graph. It pays where launching kernels takes
                longer than running them, as with small batches; costs the activations' memory once
                more for each batch in flight. An engine that cannot be captured runs without.
            memory_limit_bytes: Device memory that may be used; None for whatever is free.
            engine_key: Of the plan in the store, for the record.
            logits: Fetch the logits; otherwise they stay on the device.
            embedding: Fetch the embedding, of an engine that gives one.

        Raises:
            ValueError: Its profile does not hold these sizes, or it does not give what is fetched.
            ModelError: The engine gives another number of scores than `classes`.
            BackendUnavailableError: No such GPU, or a library is missing.
            PlanError: The plan does not load here, or is of another network.
            DeviceMemoryError: Too little device memory; names both figures.
            CudaError, InferenceError: A CUDA call failed, or TensorRT refused.
        """
        if min(batch_size, slots, max_in_flight) < 1:
            raise ValueError(f"{batch_size=}, {slots=}, {max_in_flight=}; expected 1 or more")
        self._fetched, self._classes = fetched(logits=logits, embedding=embedding), classes
        self._max_in_flight = min(max_in_flight, slots)
        self._failure: BaseException | None = None
        self._closed, self._batches, self._owned = False, 0, Resources()
        gpu = device_info(device)
        try:
            self._open(plan, batch_size, image_size, slots, MemoryBudget(memory_limit_bytes))
            if cuda_graph:
                self._capture_graphs()
        except BaseException as error:
            close_after(error, self)
            raise
        self._info = _describe(gpu, self._engine, precision, engine_key)

    @property
    def batch_size(self) -> int:
        """Rows of a slot."""
        return self._layout.batch_size

    @property
    def slot_count(self) -> int:
        """Slots in the ring."""
        return len(self._ring)

    @property
    def max_in_flight(self) -> int:
        """Batches on the device."""
        return self._max_in_flight

    @property
    def uses_cuda_graph(self) -> bool:
        """Whether full batches are launched as a CUDA graph."""
        return all(lane.graph is not None for lane in self._lanes)

    @property
    def info(self) -> BackendInfo:
        """Backend, precision and versions."""
        return self._info

    def acquire(self) -> HostSlot:
        """Lend a free slot.

        Raises:
            RuntimeError: Every slot is lent or in flight, or this is closed.
            InferenceError: An earlier batch failed.
        """
        self._require_usable()
        if not self._free:
            raise RuntimeError(f"all {self.slot_count} slots are lent or in flight: collect first")
        slot = self._free.popleft()
        self._lent.append(slot)
        return slot

    def submit(self, slot: Slot, count: int) -> None:
        """Queue the upload, the inference and the download of the slot's first rows.

        Returns before any of it is done; the slot must not be written until it is lent again.

        Raises:
            ValueError: The slot is not of this ring, or count is not 1 to batch_size.
            RuntimeError: The slot is not lent, or this is closed.
            InferenceError: TensorRT refused the batch, or an earlier one failed.
            CudaError: A CUDA call failed.
        """
        self._require_usable()
        own = next((own for own in self._ring if own is slot), None)
        if own is None:
            raise ValueError("this slot belongs to another classifier")
        if not 1 <= count <= self.batch_size:
            raise ValueError(f"{count=}; expected 1 to {self.batch_size}")
        if own not in self._lent:
            raise RuntimeError("this slot is not lent: acquire it first")
        with self._failing_for_good():
            own.count = count
            self._queue(own, self._lanes[self._batches % len(self._lanes)])
        self._batches += 1
        self._lent.remove(own)
        self._in_flight.append(own)

    def collect(self) -> Predictions:
        """Wait for the oldest submitted batch.

        Raises:
            RuntimeError: Nothing is in flight, or this is closed.
            InferenceError: An earlier batch failed.
            CudaError: The device failed; sticky in most cases.
        """
        self._require_usable()
        if not self._in_flight:
            raise RuntimeError("nothing is in flight: submit first")
        slot = self._in_flight.popleft()
        with self._failing_for_good():
            slot.finished.synchronize()
        self._free.append(slot)
        return slot.predictions()

    def leave_logits(self) -> None:
        """Fetch no logits from now on; their page-locked memory stays.

        Raises:
            RuntimeError: Slots are lent or in flight, or this is closed.
        """
        self._require_open()
        if len(self._free) < self.slot_count:
            raise RuntimeError("slots are lent or in flight: collect first")
        for slot in self._ring:
            slot.leave(LOGITS)

    def close(self) -> None:
        """Wait for work in flight, drop its results and free everything. Idempotent.

        Raises:
            CudaError: CUDA reported an error that was not raised before; all is freed all the same.
        """
        if self._closed:
            return
        self._closed = True
        try:
            self._owned.close()
        except CudaError:
            if self._failure is None:
                raise

    def __enter__(self) -> Self:
        self._require_open()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if exc is None:
            self.close()
        else:
            close_after(exc, self)

    def _open(
        self,
        plan: bytes,
        batch_size: int,
        image_size: tuple[int, int],
        slots: int,
        budget: MemoryBudget,
    ) -> None:
        """Allocate in the order in which things depend on each other; all is owned at once."""
        own = self._owned.add
        self._upload, self._compute, self._download = (own(Stream()) for _ in range(3))
        self._engine = own(Engine(plan, budget))
        self._context = own(self._engine.new_context(stream=self._compute))
        self._layout = self._engine.layout(self._context, batch_size, image_size)
        _require_outputs(self._layout, self._fetched)
        _require_declared(self._layout, self._classes)
        lanes = self._max_in_flight
        budget.reserve(lanes * self._layout.device_bytes, f"{lanes} batches of {batch_size}")
        self._lanes = tuple(own(Lane(self._layout)) for _ in range(lanes))
        self._ring = tuple(own(HostSlot(self._layout, self._fetched)) for _ in range(slots))
        own(Drained(self._upload, self._compute, self._download))
        self._free = deque(self._ring)
        self._lent: list[HostSlot] = []
        self._in_flight: deque[HostSlot] = deque()

    def _capture_graphs(self) -> None:
        """Capture a graph for each lane, or go on without where this engine has none."""
        try:
            for lane in self._lanes:
                lane.capture(self._engine, stream=self._compute)
        except EngineError as error:
            if isinstance(error, CudaError) and error.sticky:
                raise
            for lane in self._lanes:
                lane.graph = None  # all or none: what is said of the run must hold for every batch
            logger.warning("Running without CUDA graphs: %s", error)

    def _queue(self, slot: HostSlot, lane: Lane) -> None:
        """Queue one batch; each stream waits only for what it needs of the others."""
        rows = max(slot.count, self._layout.smallest_batch)
        self._upload.wait_event(lane.computed)  # the lane's last images were read
        slot.upload(lane, rows, stream=self._upload)
        lane.uploaded.record(stream=self._upload)

        self._compute.wait_event(lane.uploaded)
        self._compute.wait_event(lane.downloaded)  # the lane's last results were taken
        lane.run(self._context, rows, stream=self._compute)
        lane.computed.record(stream=self._compute)

        self._download.wait_event(lane.computed)
        slot.download(lane, stream=self._download)
        lane.downloaded.record(stream=self._download)
        slot.finished.record(stream=self._download)

    @contextmanager
    def _failing_for_good(self) -> Iterator[None]:
        """Remember what goes wrong: a batch that was queued in part can only be dropped."""
        try:
            yield
        except BaseException as error:
            self._failure = error
            raise

    def _require_usable(self) -> None:
        self._require_open()
        if self._failure is not None:
            raise InferenceError(f"an earlier batch failed: {self._failure}") from self._failure

    def _require_open(self) -> None:
        if self._closed:
            raise RuntimeError("this classifier is closed")


def _require_outputs(layout: BatchLayout, wanted: tuple[str, ...]) -> None:
    given = [output.name for output in layout.outputs]
    if missing := [name for name in wanted if name not in given]:
        raise ValueError(f"the engine gives {', '.join(given)}, and not {', '.join(missing)}")


def _require_declared(layout: BatchLayout, classes: int | None) -> None:
    for output in layout.outputs:
        if output.name == LOGITS and classes is not None:
            require_classes(output.columns, classes)


def _describe(
    gpu: DeviceInfo, engine: Engine, precision: str, engine_key: str | None
) -> BackendInfo:
    return BackendInfo(
        backend="tensorrt",
        precision=precision,
        device=gpu.name,
        versions={
            "tensorrt": engine.version,
            "cuda_runtime": gpu.runtime_version,
            "cuda_driver": gpu.driver_version,
        },
        engine_key=engine_key,
    )
