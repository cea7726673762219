"""TensorRT 8.6, 10.16 and 11.4 on the CPU: the recorded surface, as far as Nightshift uses it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from tests.simulators.records import pybind_enum, tensorrt_record
from tests.simulators.tensorrt import builder, engine, network
from tests.simulators.tensorrt.objects import expose, gap_or_missing

__all__ = ["populate"]

BLUEPRINTS = tuple(
    getattr(module, name)
    for module in (network, builder, engine)
    for name in module.__all__
    if isinstance(getattr(module, name), type)
)


class Dims(tuple):
    """A shape; the real ones convert from and to tuples too."""

    __slots__ = ()
    MAX_DIMS = 8


def populate(names: dict[str, Any], version: str) -> None:
    """Fill a module with what TensorRT `version` has of the simulated names."""
    trt = SimpleNamespace(version=version, Dims=Dims)
    record = tensorrt_record(version)
    for name, entry in record.items():
        if name != "all names" and "enum" in entry:
            setattr(trt, name, pybind_enum(name, entry["enum"]))
    for blueprint in BLUEPRINTS:
        if blueprint.__name__ in record:
            setattr(trt, blueprint.__name__, expose(blueprint, trt))

    def missing(name: str) -> Any:
        raise gap_or_missing(version, "tensorrt", name)

    names.update(vars(trt))
    del names["version"]
    names.update(
        __version__=version,
        __getattr__=missing,
        init_libnvinfer_plugins=lambda logger, namespace: True,
        get_nv_onnx_parser_version=lambda: (int(version.split(".")[0]), 0, 0),
    )
