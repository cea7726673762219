"""What a TensorRT engine is built with: the part that changes the engine, and the rest."""

from __future__ import annotations

from dataclasses import dataclass

from engines.precision import precision_recipe
from engines.profile import Profile

__all__ = ["BuilderSettings", "EngineSettings"]

HARDWARE_COMPATIBILITY = ("none", "same_compute_capability", "ampere_plus")
MAX_OPTIMIZATION_LEVEL = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class BuilderSettings:
    """Everything of a build that can change the engine; all of it is part of the engine's key.

    Attributes:
        precision: 'fp32', 'fp16', 'bf16' or 'int8', see engines.precision.
        profile: Shapes that the engine serves.
        workspace_bytes: Most scratch memory that a layer may take; None is TensorRT's own limit,
            all memory of the device.
        optimization_level: 0 builds fastest, 5 searches longest; 3 is TensorRT's default, and
            higher levels have been slower to run in places (NVIDIA/TensorRT#4405).
        tf32: Allow 19-bit TF32 products in fp32 layers. Off: fp32 means fp32.
        max_aux_streams: Streams that TensorRT may add beside ours; None is its own heuristic.
        version_compatible: Build for later versions too, slower. The lean runtime stays out of the
            plan: it is host code, which is never run from a plan.
        hardware_compatibility: 'none', 'same_compute_capability' (10 and later) or 'ampere_plus'.
    """

    precision: str
    profile: Profile
    workspace_bytes: int | None = None
    optimization_level: int = 3
    tf32: bool = False
    max_aux_streams: int | None = None
    version_compatible: bool = False
    hardware_compatibility: str = "none"

    def __post_init__(self) -> None:
        precision_recipe(self.precision)
        if self.workspace_bytes is not None and self.workspace_bytes < 1:
            raise ValueError(f"workspace_bytes must be positive, got {self.workspace_bytes}")
        if not 0 <= self.optimization_level <= MAX_OPTIMIZATION_LEVEL:
            raise ValueError(
                f"optimization_level must be 0 to {MAX_OPTIMIZATION_LEVEL}, "
                f"got {self.optimization_level}"
            )
        if self.max_aux_streams is not None and self.max_aux_streams < 0:
            raise ValueError(f"max_aux_streams must not be negative, got {self.max_aux_streams}")
        if self.hardware_compatibility not in HARDWARE_COMPATIBILITY:
            raise ValueError(
                f"hardware_compatibility must be one of {', '.join(HARDWARE_COMPATIBILITY)}, "
                f"got {self.hardware_compatibility!r}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSettings:
    """How an engine is come by: what to build, where, and for how long.

    Attributes:
        builder: What is built.
        device: Index of the GPU.
        deadline_s: Seconds after which a build is killed. Level 5 has taken an hour.
        timing_cache: Reuse the timings of earlier builds: faster builds, the same engine or
            another as good.
    """

    builder: BuilderSettings
    device: int = 0
    deadline_s: float = 3600.0
    timing_cache: bool = True

    def __post_init__(self) -> None:
        if self.device < 0:
            raise ValueError(f"device must not be negative, got {self.device}")
        if not self.deadline_s > 0:
            raise ValueError(f"deadline_s must be positive, got {self.deadline_s}")
