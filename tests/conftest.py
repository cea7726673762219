"""What tests of more than one package need."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator

import pytest

# Before anything is imported that would write into the home directory of whoever runs the tests.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
_prefect_home = tempfile.TemporaryDirectory(prefix="nightshift-tests-", ignore_cleanup_errors=True)
os.environ["PREFECT_HOME"] = _prefect_home.name

from tests.simulators.installed import simulated_environment, simulated_gpu  # noqa: E402
from tests.simulators.machine import Machine  # noqa: E402


@pytest.fixture
def install_gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Machine]]:
    """Install a simulated GPU in this process and for its children; another call, another GPU."""
    entered = []

    def install(version: str = "10.16.1", **settings: object) -> Machine:
        for name, value in simulated_environment(version, **settings).items():
            monkeypatch.setenv(name, value)
        entered.append(simulated_gpu(version, **settings))
        return entered[-1].__enter__()

    yield install
    for context in reversed(entered):
        context.__exit__(None, None, None)
