"""Run an engine under TensorRT's profiler: the time of each layer.

`IExecutionContext.profiler`, `enqueue_emits_profile` and `report_to_profiler` are the same in 8.6,
10 and 11. Profiled batches are run one by one; that costs a little, so a batch is timed without the
profiler first.
"""

from __future__ import annotations

import statistics
from functools import partial

from engines.cuda import Stream
from engines.measure import back_to_back, batch_on_device
from engines.report.times import LayerTimes
from engines.tensorrt_engine import Context

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
    with batch_on_device(
        plan,
        batch_size=batch_size,
        image_size=image_size,
        device=device,
        memory_limit_bytes=memory_limit_bytes,
    ) as (_, context, lane, stream):
        lane.run(context, batch_size, stream=stream)  # sets the shape and addresses that stay
        stream.synchronize()
        timed, elapsed = back_to_back(partial(context.enqueue, stream=stream), stream, seconds)
        batch_ms = 1000 * elapsed / timed
        batches = min(MOST_BATCHES, max(1, round(1000 * seconds / batch_ms)))
        layers = _profiled_ms(context, stream, batches)
    return LayerTimes(
        batch_size=batch_size,
        height=image_size[0],
        width=image_size[1],
        batches=batches,
        names=tuple(layers),
        milliseconds=tuple(round(statistics.median(times), 6) for times in layers.values()),
        batch_ms=batch_ms,
    )


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
