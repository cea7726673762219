"""Which names of TensorRT the engines package asks for, noted while it runs on the simulator."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

from tests.simulators.records import WatchedEnumType
from tests.simulators.tensorrt.objects import SimObject, SimType

__all__ = ["Use", "used_by_engines"]

Use = tuple[str, str]
"""A class of TensorRT, or 'tensorrt' for the module, and a name of it."""


@contextmanager
def used_by_engines(uses: set[Use]) -> Iterator[None]:
    """Add every public name that code of `engines` reads or writes, probes included.

    Must be entered inside `simulated_gpu`.
    """
    import tensorrt

    def note(owner: str, name: str) -> None:
        caller = sys._getframe(2).f_globals.get("__name__", "")
        if caller.startswith("engines.") and not name.startswith("_"):
            uses.add((owner, name))

    def simulated(cls: type) -> type:
        """The class itself, or the one of TensorRT that an engine's class is derived from."""
        mro = type.__getattribute__(cls, "__mro__")
        return next(
            (base for base in mro if "_trt" in type.__getattribute__(base, "__dict__")), cls
        )

    class WatchedModule(ModuleType):
        def __getattribute__(self, name: str):
            note("tensorrt", name)
            return super().__getattribute__(name)

    def of_class(cls: type, name: str):
        note(type.__getattribute__(simulated(cls), "__name__"), name)
        return type.__getattribute__(cls, name)

    def of_object(self: SimObject, name: str):
        # Attributes that a derived class of the engines gave itself are its own affair.
        if name not in object.__getattribute__(self, "__dict__"):
            note(type.__getattribute__(simulated(type(self)), "__name__"), name)
        return object.__getattribute__(self, name)

    refuse_unknown = SimObject.__setattr__

    def set_on_object(self: SimObject, name: str, value: object) -> None:
        if simulated(type(self)) is type(self):
            note(type.__getattribute__(type(self), "__name__"), name)
        refuse_unknown(self, name, value)

    SimType.__getattribute__ = of_class
    SimObject.__getattribute__ = of_object
    SimObject.__setattr__ = set_on_object
    WatchedEnumType.watch = note
    original, tensorrt.__class__ = type(tensorrt), WatchedModule
    try:
        yield
    finally:
        tensorrt.__class__ = original
        WatchedEnumType.watch = None
        del SimObject.__getattribute__, SimType.__getattribute__
        SimObject.__setattr__ = refuse_unknown
