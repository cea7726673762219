"""The flow build_engine under Prefect's own temporary server, on a simulated GPU."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.flows.conftest import clean_environment
from tests.simulators.installed import simulated_environment

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent.parent

RUN = """
import json, sys
from flows.build_engine import build_engine

def answer(**changes):
    state = build_engine(**json.loads(sys.argv[1]) | changes, return_state=True)
    result = state.result() if state.is_completed() else None
    return [state.type.value, state.message, result]

print(json.dumps([answer(), answer(), answer(device=7)]))
"""


def test_a_deployment_has_the_engine_built_once_and_failures_told_in_words(tmp_path):
    gpu = simulated_environment("10.16.1")
    environment = clean_environment(tmp_path / "home") | {
        "PREFECT_HOME": str(tmp_path / "prefect"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "PYTHONPATH": gpu["PYTHONPATH"],
        "SIMULATED_GPU": gpu["SIMULATED_GPU"],
    }
    parameters = {
        "model": str(ROOT / "examples/digits/model"),
        "engine_cache": str(tmp_path / "cache"),
        "seconds": 0.02,
    }
    done = subprocess.run(
        [sys.executable, "-c", RUN, json.dumps(parameters)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=250,
    )
    assert done.returncode == 0, done.stderr
    first, second, failed = json.loads(done.stdout.splitlines()[-1])
    assert (first[0], first[2]["status"]) == ("COMPLETED", "built")
    assert (second[0], second[2]["status"]) == ("COMPLETED", "found")
    assert first[2]["throughput"]["batch_size"] == 64
    assert failed[0] == "FAILED"
    assert failed[1].startswith("GPU 7 was asked for, but this machine shows 1")
    assert "Traceback" not in done.stderr
