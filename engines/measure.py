"""How fast an engine is: alone, with its copies, and one batch at a time.

Full batches of noise, the same ones over and over: power, and with it the clock of a GPU, depends
on the data, and zeros flatter. Every loop is warmed up first, which also tells how many batches
make the time that was asked for.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from engines.classifier import Classifier, Slot
from engines.cuda import Stream
from engines.device import MemoryBudget, select_device
from engines.ownership import Drained, Resources
from engines.tensorrt_engine import Context, Engine
from engines.tensorrt_runner import TensorRTClassifier
from engines.tensorrt_slots import HostSlot, Lane

__all__ = [
    "Latency",
    "Throughput",
    "Timing",
    "back_to_back",
    "bare_loop",
    "batch_on_device",
    "fill_slots",
    "images_per_second",
    "measure",
    "ring",
    "timed",
]

FIRST_BATCHES = 2
"""Kernels are loaded with the first batch; the second belongs to the estimate all the same."""

WARM_UP_SHARE = 0.25
"""Of the seconds that are measured: clocks and caches settle within half a second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """One loop.

    Attributes:
        images_per_second: Over the whole loop.
        batches: Full batches in it.
        latencies_ms: From each batch's submission to its results in hand; [] for a bare loop.
    """

    images_per_second: float
    batches: int
    latencies_ms: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """Percentiles of a batch's way to the GPU, through it and back, milliseconds.

    Attributes:
        p50: Half of the batches are as fast.
        p90: Nine of ten are.
        p99: All but one of a hundred are.
    """

    p50: float
    p90: float
    p99: float

    @classmethod
    def of(cls, latencies_ms: list[float]) -> Latency:
        """The percentiles of at least one latency."""
        p50, p90, p99 = (round(float(p), 3) for p in np.percentile(latencies_ms, (50, 90, 99)))
        return cls(p50=p50, p90=p90, p99=p99)


@dataclass(frozen=True, slots=True, kw_only=True)
class Throughput:
    """What an engine does on this GPU.

    Attributes:
        batch_size: Images of a full batch, the only ones measured.
        image_size: Height and width.
        compute_only: Images a second of a bare enqueue loop: nothing is copied.
        with_transfers: Images a second through the classifier's ring, uploads and downloads beside
            the computation: what classify_dir gets if decoding keeps up.
        latency_ms: Of one batch at a time, upload, computation and download in a row.
        cuda_graph: Whether batches were launched as a CUDA graph.
        batches: Batches timed, in all.
    """

    batch_size: int
    image_size: tuple[int, int]
    compute_only: float
    with_transfers: float
    latency_ms: Latency
    cuda_graph: bool
    batches: int


def measure(
    plan: bytes,
    *,
    batch_size: int,
    image_size: tuple[int, int],
    device: int = 0,
    seconds: float = 3.0,
    cuda_graph: bool = False,
    memory_limit_bytes: int | None = None,
) -> Throughput:
    """Measure an engine in three loops; nothing else should use the GPU meanwhile.

    Args:
        plan: From our own engine store, its digest checked: a plan is native code.
        batch_size: Images of a batch, inside the engine's profile.
        image_size: Height and width, inside the engine's profile.
        device: Which GPU.
        seconds: About how long each of the loops is timed.
        cuda_graph: Launch batches as a CUDA graph, where the engine can be captured.
        memory_limit_bytes: Device memory that may be used; None for whatever is free.

    Raises:
        ValueError: The engine's profile does not hold these sizes.
        EngineError: As `TensorRTClassifier` raises them.
    """
    with TensorRTClassifier(
        plan,
        batch_size=batch_size,
        image_size=image_size,
        precision="of the plan",  # kept by nobody
        device=device,
        cuda_graph=cuda_graph,
        memory_limit_bytes=memory_limit_bytes,
    ) as classifier:
        graph = classifier.uses_cuda_graph
        fill_slots(classifier)
        streamed = ring(classifier, seconds)
        alone = ring(classifier, seconds, in_flight=1)
    bare = bare_loop(
        plan,
        batch_size=batch_size,
        image_size=image_size,
        device=device,
        seconds=seconds,
        cuda_graph=graph,
        memory_limit_bytes=memory_limit_bytes,
    )
    return Throughput(
        batch_size=batch_size,
        image_size=image_size,
        compute_only=round(bare.images_per_second, 1),
        with_transfers=round(streamed.images_per_second, 1),
        latency_ms=Latency.of(alone.latencies_ms),
        cuda_graph=graph,
        batches=bare.batches + streamed.batches + alone.batches,
    )


def bare_loop(
    plan: bytes,
    *,
    batch_size: int,
    image_size: tuple[int, int],
    device: int = 0,
    seconds: float,
    cuda_graph: bool = False,
    memory_limit_bytes: int | None = None,
) -> Timing:
    """Enqueue one batch on one stream, over and over, and wait at the end. Arguments: `measure`.

    Raises:
        EngineError: As `TensorRTClassifier` raises them; also where no graph can be captured.
    """
    with batch_on_device(
        plan,
        batch_size=batch_size,
        image_size=image_size,
        device=device,
        memory_limit_bytes=memory_limit_bytes,
    ) as (engine, context, lane, stream):
        if cuda_graph:
            lane.capture(engine, stream=stream)
        lane.run(context, batch_size, stream=stream)  # sets the shape and addresses that stay
        enqueue = context.enqueue if lane.graph is None else lane.graph.launch
        batches, elapsed = back_to_back(partial(enqueue, stream=stream), stream, seconds)
    return Timing(images_per_second=batches * batch_size / elapsed, batches=batches)


@contextmanager
def batch_on_device(
    plan: bytes,
    *,
    batch_size: int,
    image_size: tuple[int, int],
    device: int,
    memory_limit_bytes: int | None,
) -> Iterator[tuple[Engine, Context, Lane, Stream]]:
    """Load an engine, and upload one batch of noise for it. Arguments: `measure`.

    Yields:
        The engine, a context, the lane that holds the batch, and the stream that it comes on; all
        of them closed at the end.

    Raises:
        ValueError: The engine's profile does not hold these sizes.
        EngineError: As `TensorRTClassifier` raises them.
    """
    select_device(device)
    budget = MemoryBudget(memory_limit_bytes)
    with Resources() as owned:
        own = owned.add
        stream = own(Stream())
        engine = own(Engine(plan, budget))
        context = own(engine.new_context(stream=stream))
        layout = engine.layout(context, batch_size, image_size)
        budget.reserve(layout.device_bytes, f"a batch of {batch_size}")
        lane, slot = own(Lane(layout)), own(HostSlot(layout, fetched=()))
        own(Drained(stream))
        _fill(slot, np.random.default_rng(0))
        slot.upload(lane, batch_size, stream=stream)
        yield engine, context, lane, stream
    owned.close()


def back_to_back(enqueue: Callable[[], None], stream: Stream, seconds: float) -> tuple[int, float]:
    """Time one batch queued behind the other, and one wait at the end; returns as `timed` does."""

    def run(batches: int) -> float:
        started = time.perf_counter()
        for _ in range(batches):
            enqueue()
        stream.synchronize()
        return time.perf_counter() - started

    return timed(run, seconds)


def images_per_second(classifier: Classifier, seconds: float) -> float:
    """How fast a classifier of any backend infers full batches of noise, transfers included.

    Args:
        classifier: Open, with all of its slots free; they are free again after it.
        seconds: About how long it is timed.

    Raises:
        EngineError: A batch failed.
    """
    fill_slots(classifier)
    return round(ring(classifier, seconds).images_per_second, 1)


def ring(classifier: Classifier, seconds: float, *, in_flight: int | None = None) -> Timing:
    """Send batches around the ring of a classifier whose slots are all free, and full of something.

    Args:
        classifier: Open; nothing is in flight before and after.
        seconds: About how long the loop is timed.
        in_flight: Batches submitted and not collected; its own `max_in_flight` if None.

    Raises:
        EngineError: A batch failed.
    """
    ahead = classifier.max_in_flight if in_flight is None else in_flight
    latencies_ms: list[float] = []

    def run(batches: int) -> float:
        latencies_ms.clear()
        submitted: deque[float] = deque()
        started = time.perf_counter()
        for number in range(batches + ahead):
            if number >= ahead and submitted:
                classifier.collect()
                latencies_ms.append(1000 * (time.perf_counter() - submitted.popleft()))
            if number < batches:
                submitted.append(time.perf_counter())
                classifier.submit(classifier.acquire(), classifier.batch_size)
        return time.perf_counter() - started

    batches, elapsed = timed(run, seconds)
    rate = batches * classifier.batch_size / elapsed
    return Timing(images_per_second=rate, batches=batches, latencies_ms=latencies_ms)


def fill_slots(classifier: Classifier) -> None:
    """Put noise into every slot, and send each through the GPU once, which frees it again."""
    noise = np.random.default_rng(0)
    slots = [classifier.acquire() for _ in range(classifier.slot_count)]
    for slot in slots:
        _fill(slot, noise)
        classifier.submit(slot, classifier.batch_size)
    for _ in slots:
        classifier.collect()


def _fill(slot: Slot, noise: np.random.Generator) -> None:
    slot.images[:] = noise.integers(0, 256, slot.images.shape, np.uint8)


def timed(run: Callable[[int], float], seconds: float) -> tuple[int, float]:
    """Warm up, then time a loop.

    Args:
        run: Runs so many batches, and returns the seconds that they took.
        seconds: About how long the loop is to be timed.

    Returns:
        The batches that were timed, and the seconds that they took.
    """
    batches, elapsed = FIRST_BATCHES, run(FIRST_BATCHES)
    for wanted in (seconds * WARM_UP_SHARE, seconds):
        batches = max(1, round(wanted * batches / elapsed))
        elapsed = run(batches)
    return batches, elapsed
