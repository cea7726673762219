"""The recorded surfaces of CUDA and TensorRT that the simulators are held to."""

from __future__ import annotations

import enum
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

__all__ = ["VERSIONS", "WatchedEnumType", "cuda_record", "pybind_enum", "tensorrt_record"]

API = Path(__file__).parent / "api"
VERSIONS = ("8.6.1", "10.16.1", "11.4.0")
"""TensorRT versions that are simulated."""


@cache
def cuda_record() -> dict[str, Any]:
    """Functions with their parameters, enumerations and constants of cuda.bindings.runtime."""
    return json.loads((API / "cuda_runtime.json").read_text())


@cache
def tensorrt_record(version: str) -> dict[str, Any]:
    """Classes and enumerations of a TensorRT version, by name: what of it is simulated.

    Each is {"enum": {name: value}}, {"methods": [...], "properties": {name: "ro" | "rw"}} or
    {"kind": ...}; "all names" lists every name of the module.
    """
    return json.loads((API / f"tensorrt-{version}.json").read_text())


class WatchedEnumType(enum.EnumMeta):
    """Tells `watch` which members are asked for."""

    watch: Callable[[str, str], None] | None = None

    def __getattribute__(cls, name: str) -> Any:
        watch = WatchedEnumType.watch
        if watch is not None and not name.startswith("_"):
            watch(type.__getattribute__(cls, "__name__"), name)
        return super().__getattribute__(name)


class PybindEnum(enum.Enum, metaclass=WatchedEnumType):
    """An enumeration as pybind11 makes them: converts to int, but is none."""

    def __int__(self) -> int:
        return self.value

    __index__ = __int__


def pybind_enum(name: str, members: dict[str, int]) -> type[PybindEnum]:
    """Make one enumeration."""
    return PybindEnum(name, members)
