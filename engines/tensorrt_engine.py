"""A deserialized engine and its execution contexts, with every refusal made an exception."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any, NoReturn

import numpy as np

from engines.cuda import MEMORY_ALLOCATION, Stream, check
from engines.device import MemoryBudget
from engines.errors import (
    BackendUnavailableError,
    DeviceMemoryError,
    InferenceError,
    PlanError,
)
from engines.features import import_tensorrt
from engines.ownership import Drained, Resources
from engines.tensorrt_log import TensorRTLog
from engines.wrap import EMBEDDING, IMAGES, LABEL_IDS, LOGITS, SCORES

__all__ = ["BatchLayout", "Context", "Engine", "Output"]

DTYPES: dict[str, np.dtype[Any]] = {
    "FLOAT": np.dtype(np.float32),
    "HALF": np.dtype(np.float16),
    "INT32": np.dtype(np.int32),
    "INT64": np.dtype(np.int64),
    "UINT8": np.dtype(np.uint8),
}
"""By the name of TensorRT's DataType: what the tensors of our graphs can be."""

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Output:
    """An output of the engine.

    Attributes:
        name: 'scores', 'label_ids', 'logits' or 'embedding'.
        dtype: As the engine writes it; versions and precisions differ.
        columns: Values of one image.
    """

    name: str
    dtype: np.dtype[Any]
    columns: int

    @property
    def row_bytes(self) -> int:
        """Bytes of one image's values."""
        return self.columns * self.dtype.itemsize


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchLayout:
    """The tensors of a full batch.

    Attributes:
        batch_size: Largest batch that is run.
        smallest_batch: Fewest rows that the engine's profile allows; smaller batches are padded.
        height: Rows of an image.
        width: Columns of an image.
        outputs: The engine's outputs, in its order.
    """

    batch_size: int
    smallest_batch: int
    height: int
    width: int
    outputs: tuple[Output, ...]

    @property
    def image_bytes(self) -> int:
        """Bytes of one uint8 image."""
        return self.height * self.width * 3

    @property
    def device_bytes(self) -> int:
        """Device memory of one batch in flight, inputs and outputs."""
        row = self.image_bytes + sum(output.row_bytes for output in self.outputs)
        return self.batch_size * row

    def input_shape(self, rows: int) -> Shape:
        """[rows, height, width, 3]."""
        return (rows, self.height, self.width, 3)


class Engine:
    """A plan brought to this thread's GPU.

    Args:
        plan: From our own engine store, its digest checked: a plan is native code.
        budget: Pays for the weights here, and for each context.

    Raises:
        BackendUnavailableError: TensorRT is not installed or does not start.
        DeviceMemoryError: Less device memory is free than the plan has bytes.
        PlanError: This TensorRT on this GPU does not load the plan, or it is of another network.
    """

    def __init__(self, plan: bytes, budget: MemoryBudget) -> None:
        trt = import_tensorrt()
        self._budget = budget
        self._trt: ModuleType = trt
        self._log = TensorRTLog(trt)
        # Deserializing says None to too little memory and to a bad plan alike.
        budget.reserve(len(plan), "the engine's weights")
        # engine_host_code_allowed stays off, as it is from the start.
        try:
            self._runtime = trt.Runtime(self._log.sink)
        except TypeError as error:  # pybind11's answer to a factory that returned nullptr
            reason = self._log.take_errors()
            raise BackendUnavailableError(f"TensorRT does not start: {reason}") from error
        self._engine = self._runtime.deserialize_cuda_engine(plan)
        if self._engine is None:
            reason = self._log.take_errors()
            check("cudaMemGetInfo")  # a dead device is no fault of the plan
            _raise_if_out_of_memory("deserialize_cuda_engine", reason)
            raise PlanError(
                f"TensorRT {self.version} does not load the plan ({len(plan)} B): {reason}. "
                "Build the engine again on this machine."
            )
        with Resources() as owned:
            owned.add(self)
            self._check_tensors()

    @property
    def version(self) -> str:
        """TensorRT's version."""
        return str(self._trt.__version__)

    @property
    def context_bytes(self) -> int:
        """Device memory of one execution context: activations at the profile's maximum."""
        # 11 has only the second; 8.6 only the first.
        size = getattr(self._engine, "device_memory_size_v2", None)
        return int(self._engine.device_memory_size if size is None else size)

    def new_context(self, *, stream: Stream) -> Context:
        """Make an execution context on the engine's first profile; allocates `context_bytes`.

        Raises:
            DeviceMemoryError: Less device memory is free.
            InferenceError: TensorRT refused for another reason.
        """
        self._budget.reserve(self.context_bytes, "the engine's activations")
        with Resources() as owned:
            # TensorRT's own object gets no name here: an error's traceback would keep it, and its
            # memory, for as long as somebody handles the error.
            made = owned.add(Context(self._engine.create_execution_context(), self._log))
            owned.add(Drained(stream))
            # 8.6 gives a profile only to an engine's first context; elsewhere this changes nothing.
            made.choose_profile(0, stream=stream)
        return made

    def profile_shapes(self) -> tuple[Shape, Shape, Shape]:
        """The smallest, the tuned-for and the largest `images`, [batch, height, width, 3]."""
        shapes = self._engine.get_tensor_profile_shape(IMAGES, 0)
        smallest, tuned, largest = (tuple(int(size) for size in shape) for shape in shapes)
        return smallest, tuned, largest

    def layout(self, context: Context, batch_size: int, image_size: tuple[int, int]) -> BatchLayout:
        """Set a context to full batches and read the outputs' shapes from it.

        Raises:
            ValueError: The profile does not hold this batch and image size.
            PlanError: An output has no fixed number of columns.
        """
        shape = (batch_size, *image_size, 3)
        smallest, _, largest = self.profile_shapes()
        if not all(low <= size <= high for low, size, high in _zip(smallest, shape, largest)):
            raise ValueError(
                f"images {list(shape)} were asked of an engine that takes {list(smallest)} to "
                f"{list(largest)}: choose a batch and image size inside, or build another engine."
            )
        context.set_images_shape(shape)
        return BatchLayout(
            batch_size=batch_size,
            smallest_batch=smallest[0],
            height=image_size[0],
            width=image_size[1],
            outputs=tuple(
                self._output(context, name, batch_size) for name in self._names("OUTPUT")
            ),
        )

    def close(self) -> None:
        """Drop the engine, its memory with it; its contexts must be closed before. Idempotent."""
        self._engine = self._runtime = None

    def _output(self, context: Context, name: str, batch_size: int) -> Output:
        shape = context.shape_of(name)
        if len(shape) != 2 or shape[0] != batch_size or shape[1] < 1:
            raise PlanError(
                f"output {name} of the engine has shape {list(shape)} for {batch_size} images; "
                "expected one row for each"
            )
        return Output(name, self._dtype(name), shape[1])

    def _check_tensors(self) -> None:
        """A plan of another network would read and write past the buffers."""
        inputs, outputs = set(self._names("INPUT")), set(self._names("OUTPUT"))
        needed = {SCORES, LABEL_IDS}
        if inputs != {IMAGES} or not needed <= outputs <= needed | {LOGITS, EMBEDDING}:
            raise PlanError(
                f"the plan has inputs {sorted(inputs)} and outputs {sorted(outputs)}; expected "
                f"{IMAGES}, and {SCORES}, {LABEL_IDS} and perhaps {LOGITS} and {EMBEDDING}"
            )
        if self._dtype(IMAGES) != np.uint8:
            raise PlanError(f"the plan's input is {self._dtype(IMAGES)}; expected uint8")

    def _names(self, mode: str) -> list[str]:
        engine, wanted = self._engine, getattr(self._trt.TensorIOMode, mode)
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        return [name for name in names if engine.get_tensor_mode(name) == wanted]

    def _dtype(self, name: str) -> np.dtype[Any]:
        kind = self._engine.get_tensor_dtype(name).name
        if kind not in DTYPES:
            raise PlanError(f"tensor {name} of the plan is {kind}; expected one of {list(DTYPES)}")
        return DTYPES[kind]


class Context:
    """One execution context: shapes and addresses of the next enqueue. Not thread-safe.

    Args:
        context: TensorRT's own object, or None if it refused to make one.
        log: Knows why.

    Raises:
        InferenceError: It refused.
    """

    def __init__(self, context: Any, log: TensorRTLog) -> None:  # noqa: ANN401 - has no types
        if context is None:
            _refused("an execution context", log)
        self._context = context
        self._log = log
        self._shape: Shape | None = None
        self._layer_times: dict[str, float] = {}
        self._profiler: Any = None  # TensorRT keeps a pointer to it

    def choose_profile(self, index: int, *, stream: Stream) -> None:
        """Take an optimization profile and wait until the context has it."""
        chosen = self._context.set_optimization_profile_async(index, stream.handle)
        self._require(chosen, f"optimization profile {index}")
        stream.synchronize()

    def set_images_shape(self, shape: Shape) -> None:
        """Set the shape of `images`; does nothing where it is set already.

        Raises:
            InferenceError: The profile does not hold it.
        """
        if shape != self._shape:
            self._shape = None
            self._require(self._context.set_input_shape(IMAGES, shape), f"images of {list(shape)}")
            self._shape = shape

    def set_addresses(self, addresses: Mapping[str, int]) -> None:
        """Set where tensors lie in device memory."""
        for name, address in addresses.items():
            self._require(self._context.set_tensor_address(name, address), f"address of {name}")

    def enqueue(self, *, stream: Stream) -> None:
        """Queue the network with the shape and addresses of now; returns at once.

        Raises:
            InferenceError: TensorRT refused.
            CudaError: It did because CUDA failed.
        """
        self._require(self._context.execute_async_v3(stream.handle), f"a batch of {self._shape}")

    def start_profiling(self) -> None:
        """Have the time of every layer taken from now on; enqueueing stays asynchronous."""
        self._profiler = _profiler(self._layer_times)
        self._context.profiler = self._profiler
        # Left on, every enqueue would wait for the batch, and report it.
        self._context.enqueue_emits_profile = False

    def profiled_layers(self) -> dict[str, float]:
        """Milliseconds of each layer in the batch that was enqueued last and is done, by name.

        Raises:
            InferenceError: TensorRT refused, or nothing was enqueued since profiling started.
        """
        self._layer_times.clear()
        self._require(self._context.report_to_profiler(), "the times of the layers")
        return dict(self._layer_times)

    def shape_of(self, name: str) -> Shape:
        """The shape of a tensor for the input shape that is set; -1 where it is not known."""
        return tuple(int(size) for size in self._context.get_tensor_shape(name))

    def close(self) -> None:
        """Drop the context, its memory with it; nothing of it may be in flight. Idempotent."""
        self._context = None

    def _require(self, accepted: object, what: str) -> None:
        if not accepted:
            _refused(what, self._log)


def _profiler(times_ms: dict[str, float]) -> Any:  # noqa: ANN401 - a class of TensorRT's
    """An IProfiler that adds to `times_ms`; the class cannot exist before TensorRT is imported."""
    trt = import_tensorrt()

    class Profiler(trt.IProfiler):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            trt.IProfiler.__init__(self)  # pybind11 insists on the direct call

        def report_layer_time(self, layer_name: str, ms: float) -> None:
            times_ms[layer_name] = times_ms.get(layer_name, 0.0) + ms

    return Profiler()


def _refused(what: str, log: TensorRTLog) -> NoReturn:
    """Raise for a call that TensorRT answered with None or False."""
    reason = log.take_errors()
    check("cudaMemGetInfo")  # that is all it says to a dead device too; this call says more
    _raise_if_out_of_memory(what, reason)
    raise InferenceError(f"TensorRT refused {what}: {reason}")


def _raise_if_out_of_memory(what: str, reason: str) -> None:
    """Too little memory is nobody's fault: neither the plan's nor the batch's, but its size's."""
    if re.search(r"out ?of ?memory", reason, re.IGNORECASE):
        name = "cudaErrorMemoryAllocation"
        raise DeviceMemoryError(f"TensorRT: {what}", MEMORY_ALLOCATION, name, reason, sticky=False)


def _zip(*shapes: Shape) -> zip[tuple[int, ...]]:
    return zip(*shapes, strict=True)
