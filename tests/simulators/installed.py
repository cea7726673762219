"""Puts the simulated CUDA and TensorRT where `import` finds them, also in child processes."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.simulators.machine import SETTINGS_VARIABLE, Machine, machine

__all__ = ["simulated_environment", "simulated_gpu"]

HERE = Path(__file__).parent
ROOT = HERE.parent.parent


@contextmanager
def simulated_gpu(version: str, **settings: object) -> Iterator[Machine]:
    """Lend a fresh simulated GPU with a TensorRT version.

    Children that multiprocessing spawns inherit path and settings; each has a machine of its own.

    Args:
        version: One of `tests.simulators.records.VERSIONS`.
        settings: As `Machine.reset` takes them.

    Yields:
        The machine, for its faults and counts. What leaked or was misused is for the caller to
        ask: `leaks()`, `verify()`.
    """
    machine.reset(**settings)
    hidden = {name: sys.modules.pop(name) for name in list(sys.modules) if _is_gpu(name)}
    path, variable = list(sys.path), os.environ.get(SETTINGS_VARIABLE)
    sys.path[:0] = _sites(version)
    os.environ[SETTINGS_VARIABLE] = json.dumps(settings)
    try:
        yield machine
    finally:
        sys.path[:] = path
        for name in [name for name in sys.modules if _is_gpu(name)]:
            del sys.modules[name]
        sys.modules.update(hidden)
        os.environ.pop(SETTINGS_VARIABLE, None)
        if variable is not None:
            os.environ[SETTINGS_VARIABLE] = variable


def simulated_environment(version: str, **settings: object) -> dict[str, str]:
    """The environment of a command that is to run on a simulated GPU."""
    inherited = os.environ.get("PYTHONPATH")
    path = [*_sites(version), str(ROOT), *([inherited] if inherited else [])]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path),
        SETTINGS_VARIABLE: json.dumps(settings),
    }


def _sites(version: str) -> list[str]:
    return [str(HERE / "sites" / name) for name in ("cuda", f"tensorrt-{version}")]


def _is_gpu(name: str) -> bool:
    return name.split(".")[0] in {"cuda", "tensorrt"}
