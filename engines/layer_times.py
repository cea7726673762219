"""Run an engine under TensorRT's profiler: the time of each layer.

`IExecutionContext.profiler`, `enqueue_emits_profile` and `report_to_profiler` are the same in 8.6,
10 and 11. Profiled batches are run one by one; that costs a little, so a batch is timed without the
profiler first.
"""

from __future__ import annotations

import statistics
import time

import numpy as np

from engines.cuda import Stream
from engines.device import MemoryBudget, select_device
from engines.measure import timed
from engines.ownership import Drained, Resources
from engines.report.times import LayerTimes
from engines.tensorrt_engine import Context, Engine
from engines.tensorrt_slots import HostSlot, Lane

__all__ = ["measure_layers"]

MOST_BATCHES = 1000
"""A median needs no more, and a profile of a small engine should not list a million times."""


def measure_layers(
    plan: bytes,
    *,
    batch_size: int,
    image_size: tuple[int, int],
    device: int = 0,
    seconds: float = 3.0,
    memory_limit_bytes: int | None = None,
) -> LayerTimes:
    """Time the layers of an engine on noise; nothing else should use the GPU meanwhile.

    Args:
        plan: From our own engine store, its digest checked: a plan is native code.
        batch_size: Images of a batch, inside the engine's profile.
        image_size: Height and width, inside the engine's profile.
        device: Which GPU.
        seconds: About how long batches are run, without the profiler and with it.
        memory_limit_bytes: Device memory that may be used; None for whatever is free.

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
        lane, slot = own(Lane(layout)), own(HostSlot(layout, ()))
        own(Drained(stream))
        noise = np.random.default_rng(0)
        slot.images[:] = noise.integers(0, 256, slot.images.shape, np.uint8)
        slot.upload(lane, batch_size, stream=stream)
        lane.run(context, batch_size, stream=stream)  # sets the shape and addresses that stay
        stream.synchronize()
        batch_ms = _bare_ms(context, stream, seconds)
        batches = min(MOST_BATCHES, max(1, round(1000 * seconds / batch_ms)))
        layers = _profiled_ms(context, stream, batches)
    owned.close()
    return LayerTimes(
        batch_size=batch_size,
        height=image_size[0],
        width=image_size[1],
        batches=batches,
        names=tuple(layers),
        milliseconds=tuple(round(statistics.median(times), 6) for times in layers.values()),
        batch_ms=batch_ms,
    )


def _bare_ms(context: Context, stream: Stream, seconds: float) -> float:
    """Milliseconds of a batch, one queued behind the other."""

    def run(batches: int) -> float:
        started = time.perf_counter()
        for _ in range(batches):
            context.enqueue(stream=stream)
        stream.synchronize()
        return time.perf_counter() - started

    batches, elapsed = timed(run, seconds)
    return 1000 * elapsed / batches


def _profiled_ms(context: Context, stream: Stream, batches: int) -> dict[str, list[float]]:
    """Milliseconds of each layer in each batch; a layer that runs twice counts with both."""
    found: dict[str, list[float]] = {}
    context.start_profiling()
    for _ in range(batches):
        context.enqueue(stream=stream)
        stream.synchronize()
        for name, milliseconds in context.profiled_layers().items():
            found.setdefault(name, []).append(milliseconds)
    return found
