"""Time of each layer, as a profiled run of the engine found it; kept as profile.json."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from engines.report.kept_file import parsing

__all__ = ["LayerTimes", "parse_times"]

FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerTimes:
    """Times of one engine on one GPU.

    Attributes:
        batch_size: Images of the batch that was run.
        height: Of its images, pixels.
        width: Of its images, pixels.
        batches: How often it was run with the profiler.
        names: Layers in the order of execution, as TensorRT's profiler names them.
        milliseconds: Median of each layer.
        batch_ms: A batch without the profiler, kernels only: the layers' sum is above it, as events
            between them keep one from starting while another ends.
    """

    batch_size: int
    height: int
    width: int
    batches: int
    names: tuple[str, ...]
    milliseconds: tuple[float, ...]
    batch_ms: float

    @property
    def total_ms(self) -> float:
        """Sum of all layers."""
        return sum(self.milliseconds)

    @property
    def images_per_second(self) -> float:
        """Images a second of kernels alone: nothing is copied to or from the GPU."""
        return 1000 * self.batch_size / self.batch_ms

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {"format": FORMAT, **asdict(self)}


def parse_times(content: Mapping[str, Any]) -> LayerTimes:
    """Read what `LayerTimes.to_json` made.

    Raises:
        ValueError: It is something else, or of a later version.
    """
    with parsing("profile", content, FORMAT):
        times = LayerTimes(
            batch_size=int(content["batch_size"]),
            height=int(content["height"]),
            width=int(content["width"]),
            batches=int(content["batches"]),
            names=tuple(map(str, content["names"])),
            milliseconds=tuple(map(float, content["milliseconds"])),
            batch_ms=float(content["batch_ms"]),
        )
    if len(times.names) != len(times.milliseconds) or times.batch_ms <= 0:
        raise ValueError("its layers and their times do not match")
    return times
