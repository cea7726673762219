"""What goes over the pipes between a build process and its parent, as JSON lines."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from engines.errors import (
    BackendUnavailableError,
    DeviceMemoryError,
    EngineBuildError,
    EngineError,
    ModelError,
)
from engines.profile import Profile, ShapeRange
from engines.settings import BuilderSettings

__all__ = ["CALIBRATION_FILE", "GRAPH_FILE", "BuildRequest", "describe_error", "restore_error"]

GRAPH_FILE = "graph.onnx"
"""In the request's folder: the wrapped graph in fp32; the build process removes it."""

CALIBRATION_FILE = "calibration.json"
"""Beside it where int8 is asked for: the ranges of its activations. Stays with the engine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildRequest:
    """What a build process is asked for.

    Attributes:
        folder: Private; holds the graph and its calibration, and receives engine.plan, nodes.json,
            layers.json and build.log.
        settings: What to build.
        device: Index of the GPU.
        timings: Folder of the timing caches; None to time everything anew.
        gpu: The GPU by name and compute capability: a timing cache serves no other.
    """

    folder: Path
    settings: BuilderSettings
    device: int
    timings: Path | None
    gpu: str

    def to_line(self) -> bytes:
        """Serialize into one line."""
        return json.dumps(asdict(self), default=str).encode() + b"\n"

    @classmethod
    def from_line(cls, line: str) -> BuildRequest:
        """Read what `to_line` wrote."""
        values = json.loads(line)
        settings = values.pop("settings")
        axes = {axis: ShapeRange(**sizes) for axis, sizes in settings.pop("profile").items()}
        timings = values.pop("timings")
        return cls(
            folder=Path(values.pop("folder")),
            settings=BuilderSettings(**settings, profile=Profile(**axes)),
            timings=None if timings is None else Path(timings),
            **values,
        )


def describe_error(error: EngineError) -> dict[str, str | int]:
    """Describe an error in JSON values."""
    described: dict[str, str | int] = {"error": type(error).__name__, "text": str(error)}
    if isinstance(error, DeviceMemoryError):
        described |= {"call": error.call, "code": error.code, "name": error.name}
    return described


def restore_error(described: dict[str, Any]) -> EngineError:
    """Make the error that was described.

    A CUDA error that was sticky in the build process is not in this one: it becomes the build's.
    """
    text: str = described["text"]
    match described["error"]:
        case "DeviceMemoryError":
            call, code, name = described["call"], described["code"], described["name"]
            text = text.removeprefix(f"{call} failed: {name} ({code}): ")
            return DeviceMemoryError(call, code, name, text, sticky=False)
        case "ModelError":
            return ModelError(text)
        case "BackendUnavailableError":
            return BackendUnavailableError(text)
        case _:
            return EngineBuildError(text)
