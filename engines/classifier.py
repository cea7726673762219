"""The one protocol behind which every backend works, and what it says of itself."""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from engines.errors import ModelError

__all__ = ["BackendInfo", "Classifier", "Predictions", "Slot", "require_classes"]


@dataclass(frozen=True, slots=True)
class Predictions:
    """The best labels of one batch, owned by the receiver.

    Attributes:
        label_ids: int32 [count, k], best first; equal scores in ascending order of label_id.
        scores: float32 [count, k], descending.
        logits: float32 [count, classes], the model's own output, where it was asked for.
        embedding: float32 [count, width], what the model's last layer works on, where it was asked
            for.
    """

    label_ids: NDArray[np.int32]
    scores: NDArray[np.float32]
    logits: NDArray[np.float32] | None = None
    embedding: NDArray[np.float32] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendInfo:
    """What computed the scores; recorded in every file's footer.

    Attributes:
        backend: 'onnxruntime' or 'tensorrt'.
        precision: 'fp32', 'fp16', 'bf16' or 'int8'.
        device: The processor or GPU by name.
        versions: Library name to version.
        engine_key: Key of the engine in the store; None where nothing is built.
    """

    backend: str
    precision: str
    device: str
    versions: dict[str, str]
    engine_key: str | None = None


class Slot(Protocol):
    """One batch buffer of the ring; belongs to the classifier, lent between acquire and submit."""

    @property
    def images(self) -> NDArray[np.uint8]:
        """uint8 [batch_size, height, width, 3], RGB, NHWC, contiguous; decoders write rows here."""


class Classifier(Protocol):
    """An engine behind a ring of preallocated slots.

    Used from one thread, in this order for each batch: `acquire` a slot, let any threads write its
    first rows, `submit` it, and `collect` results in the order of submission. A slot is free
    again once its batch was collected. Nothing is allocated per batch but the results.
    """

    @property
    def batch_size(self) -> int:
        """Rows of a slot: the largest batch that can be submitted."""

    @property
    def slot_count(self) -> int:
        """Slots in the ring."""

    @property
    def max_in_flight(self) -> int:
        """Submitted batches that keep the device busy; submitting more only delays results."""

    @property
    def info(self) -> BackendInfo:
        """Backend, precision and versions."""

    def acquire(self) -> Slot:
        """Lend a free slot.

        Raises:
            RuntimeError: Every slot is lent or in flight (collect first), or this is closed.
        """

    def submit(self, slot: Slot, count: int) -> None:
        """Start the inference of the slot's first `count` rows, 1 to batch_size.

        Asynchronous where the backend is. The slot must not be written again before it is
        acquired again.

        Raises:
            InferenceError: The backend refused the batch.
            CudaError: A CUDA call failed.
        """

    def collect(self) -> Predictions:
        """Wait for the oldest submitted batch and return its results.

        Raises:
            RuntimeError: Nothing is in flight.
            InferenceError: That batch failed.
            CudaError: A CUDA call failed.
        """

    def leave_logits(self) -> None:
        """Fetch no logits from now on, for a classifier that was tried on a few images first.

        Raises:
            RuntimeError: Slots are lent or in flight, or this is closed.
        """

    def close(self) -> None:
        """Wait for work in flight and free everything. Idempotent; use after it raises."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...


def require_classes(given: int, classes: int) -> None:
    """Hold what a graph gives against what it declares: a label_id would have another's name.

    Args:
        given: Scores of an image, as the backend gives them.
        classes: Scores that the graph declares, which is how many labels there are.

    Raises:
        ModelError: They differ.
    """
    if given != classes:
        raise ModelError(
            f"the model's graph declares {classes} scores for an image and gives {given}: its last"
            " layer was changed and its declared output was not. Export the model again, or"
            " correct the shape of the output in the ONNX file"
        )
