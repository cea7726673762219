"""What makes a simulated TensorRT class show its version's recorded surface, and nothing else.

Blueprints hold every method of every version. For one version a class is made that keeps only the
recorded names: a removed API is absent, as in the real module. What is recorded but not simulated
raises `SimulatorGap`, which `hasattr` does not swallow, so that no feature probe is misled.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from tests.simulators.records import tensorrt_record

__all__ = ["NOT_RECORDED", "SimObject", "SimulatorGap", "expose", "gap_or_missing", "setting"]

NOT_RECORDED = {"ILogger": {"Severity"}, "Logger": {"Severity"}}
"""Names that exist and that the record leaves out: it holds no classes nested in classes."""


class SimulatorGap(AssertionError):
    """The real TensorRT has this; the simulator does not, yet."""


def gap_or_missing(version: str, owner: str, name: str) -> Exception:
    """The error for a name that a simulated class or module lacks."""
    record = tensorrt_record(version)
    known = record.get(owner, {})
    if owner == "tensorrt":
        exists = name in record["all names"]
    else:
        exists = name in known.get("methods", ()) or name in known.get("properties", ())
    if exists:
        return SimulatorGap(f"TensorRT {version} has {owner}.{name}, the simulator lacks it")
    return AttributeError(f"TensorRT {version} has no {owner}.{name}")


class SimType(type):
    """Answers for names that a class lacks."""

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__") or "_trt" not in vars(cls):
            raise AttributeError(name)
        raise gap_or_missing(cls._trt.version, cls.__name__, name)


class SimObject(metaclass=SimType):
    """Base of the simulated classes. Like pybind11's, their instances take no new attributes."""

    _trt: SimpleNamespace
    """The version's own classes and enumerations, and `version`; set by `expose`."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        raise gap_or_missing(self._trt.version, type(self).__name__, name)

    def __setattr__(self, name: str, value: object) -> None:
        simulated = "_trt" in vars(type(self))
        if simulated and not name.startswith("_") and not hasattr(type(self), name):
            raise gap_or_missing(self._trt.version, type(self).__name__, name)
        object.__setattr__(self, name, value)


def setting(name: str, default: object = None) -> property:
    """A property that only remembers what it was set to."""
    slot = f"_{name}"
    return property(
        lambda self: self.__dict__.get(slot, default),
        lambda self, value: object.__setattr__(self, slot, value),
    )


def expose(blueprint: type, trt: SimpleNamespace) -> type:
    """The class that one version has, made from a blueprint."""
    name = blueprint.__name__
    record = tensorrt_record(trt.version)[name]
    properties = record.get("properties", {})
    names = {*record.get("methods", ()), *properties, *NOT_RECORDED.get(name, ())}
    body = {
        key: _read_only(value) if properties.get(key) == "ro" else value
        for key, value in vars(blueprint).items()
        if key in names or (key.startswith("_") and key not in ("__dict__", "__weakref__"))
    }
    return type(blueprint)(name, blueprint.__bases__, {**body, "_trt": trt})


def _read_only(value: object) -> object:
    return property(value.fget) if isinstance(value, property) else value
