"""The classifier for machines without a GPU, and the reference for those with one."""

from __future__ import annotations

import platform
from collections import deque
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from engines.classifier import BackendInfo, Predictions, require_classes
from engines.classifier import Slot as AnySlot
from engines.errors import InferenceError, ModelError
from engines.model import Model
from engines.ort_session import Session, available_cores
from engines.wrap import EMBEDDING, IMAGES, LABEL_IDS, LOGITS, PREFIX, SCORES, fetched

__all__ = ["OnnxRuntimeClassifier", "processor_name"]


class Slot:
    """A batch buffer; only its classifier makes one."""

    def __init__(self, shape: tuple[int, int, int, int]) -> None:
        self._images = np.zeros(shape, np.uint8)

    @property
    def images(self) -> NDArray[np.uint8]:
        """uint8 [batch_size, height, width, 3]."""
        return self._images


class OnnxRuntimeClassifier:
    """Runs a model on the CPU; see `Classifier` for the protocol.

    A batch is computed in the thread that collects it, which lets other threads go on filling
    slots: `submit` only queues. Memory is the model, its activations for one batch, and
    slots x batch_size x height x width x 3 bytes.
    """

    def __init__(
        self,
        model: Model,
        *,
        batch_size: int,
        slots: int = 3,
        threads: int | None = None,
        precision: str = "fp32",
        logits: bool = False,
        embedding: bool = False,
    ) -> None:
        """Load the model and allocate the ring.

        Args:
            model: Its graph is run as it is.
            batch_size: The largest batch.
            slots: Batch buffers. Three: one computed, one full, one being filled.
            threads: Threads that compute; None means one for each core of this process, because
                decoders that share the cores wait for the batch rather than the other way round.
            precision: What the graph computes in, for the record.
            logits: Fetch the logits as well.
            embedding: Fetch the embedding, of a graph that gives one.

        Raises:
            ModelError: ONNX Runtime does not accept the graph.
            ValueError: The graph does not give what is to be fetched.
        """
        if batch_size < 1 or slots < 1:
            raise ValueError(f"{batch_size=}, {slots=}; expected 1 or more of each")
        threads = available_cores() if threads is None else threads
        self._session: Session | None = Session(model.graph, threads=threads)
        self._outputs = fetched(logits=logits, embedding=embedding)
        if missing := set(self._outputs) - set(self._session.outputs):
            raise ValueError(f"the graph of {model.model_id} does not give {', '.join(missing)}")
        proves = LOGITS in self._session.outputs
        self._classes = model.classes if proves else None  # until the first batch has proved it
        self._batch_size, self._slot_count = batch_size, slots
        shape = (batch_size, model.input_height, model.input_width, 3)
        self._ring = tuple(Slot(shape) for _ in range(slots))
        self._free: deque[Slot] = deque(self._ring)
        self._lent: list[Slot] = []
        self._in_flight: deque[tuple[Slot, int]] = deque()
        self._info = BackendInfo(
            backend="onnxruntime",
            precision=precision,
            device=processor_name(),
            versions={"onnxruntime": onnxruntime.__version__},
        )

    @property
    def batch_size(self) -> int:
        """Rows of a slot."""
        return self._batch_size

    @property
    def slot_count(self) -> int:
        """Slots in the ring."""
        return self._slot_count

    @property
    def max_in_flight(self) -> int:
        """One: the cores work on one batch at a time."""
        return 1

    @property
    def info(self) -> BackendInfo:
        """Backend, precision and versions."""
        return self._info

    def acquire(self) -> Slot:
        """Lend a free slot.

        Raises:
            RuntimeError: Every slot is lent or in flight, or this is closed.
        """
        self._open_session()
        if not self._free:
            raise RuntimeError(f"all {self.slot_count} slots are lent or in flight: collect first")
        slot = self._free.popleft()
        self._lent.append(slot)
        return slot

    def submit(self, slot: AnySlot, count: int) -> None:
        """Queue the slot's first `count` rows; they are read when they are collected.

        Raises:
            RuntimeError: The slot is not lent, or this is closed.
            ValueError: The slot is not of this ring, or count is not 1 to batch_size.
        """
        self._open_session()
        if not any(slot is own for own in self._ring):
            raise ValueError("this slot belongs to another classifier")
        if not 1 <= count <= self._batch_size:
            raise ValueError(f"{count=}; expected 1 to {self._batch_size}")
        lent = cast(Slot, slot)
        if lent not in self._lent:
            raise RuntimeError("this slot is not lent: acquire it first")
        self._lent.remove(lent)
        self._in_flight.append((lent, count))

    def collect(self) -> Predictions:
        """Compute the oldest submitted batch.

        Raises:
            RuntimeError: Nothing is in flight, or this is closed.
            InferenceError: ONNX Runtime failed; the slot is free again all the same.
            ModelError: The graph gives another number of scores than it declares.
        """
        session = self._open_session()
        if not self._in_flight:
            raise RuntimeError("nothing is in flight: submit first")
        slot, count = self._in_flight.popleft()
        try:
            results = self._run(session, slot.images[:count])
        finally:
            self._free.append(slot)
        return Predictions(
            label_ids=results[LABEL_IDS],
            scores=results[SCORES],
            logits=results.get(LOGITS),
            embedding=results.get(EMBEDDING),
        )

    def leave_logits(self) -> None:
        """Fetch no logits from now on.

        Raises:
            RuntimeError: Slots are lent or in flight, or this is closed.
        """
        self._open_session()
        if len(self._free) < self.slot_count:
            raise RuntimeError("slots are lent or in flight: collect first")
        self._outputs = tuple(name for name in self._outputs if name != LOGITS)

    def close(self) -> None:
        """Free the model and the slots; batches that nobody collected are dropped. Idempotent."""
        self._session = None
        self._ring = ()
        self._free.clear()
        self._lent.clear()
        self._in_flight.clear()

    def __enter__(self) -> Self:
        self._open_session()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _run(self, session: Session, images: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
        """What is fetched; of the first batch the logits as well, and their number is proved.

        ONNX Runtime runs a graph whose declared output is wrong, and says nothing.
        """
        if self._classes is None:
            return dict(
                zip(self._outputs, session.run(self._outputs, {IMAGES: images}), strict=True)
            )
        names = tuple(dict.fromkeys((*self._outputs, LOGITS)))
        try:
            results = dict(zip(names, session.run(names, {IMAGES: images}), strict=True))
        except InferenceError as error:
            if f"'{PREFIX}flatten'" not in str(error):
                raise
            raise ModelError(
                f"the model's graph does not give the {self._classes} scores for an image that it"
                f" declares. Export the model again: {error}"
            ) from error
        require_classes(results[LOGITS].size // len(images), self._classes)
        self._classes = None
        return {name: results[name] for name in self._outputs}

    def _open_session(self) -> Session:
        if self._session is None:
            raise RuntimeError("this classifier is closed")
        return self._session


def processor_name() -> str:
    """The processor by name, as 'AMD EPYC 9354 32-Core Processor'."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())
