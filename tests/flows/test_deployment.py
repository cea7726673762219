"""prefect.yaml with a real server and a real worker: deployed, run once, and the table read."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from tasks.settings import Settings
from tests.flows.conftest import answers, clean_environment, processes_with, wait_for

ROOT = Path(__file__).parent.parent.parent
DEPLOYMENTS = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
PREFECT = [sys.executable, "-m", "prefect", "--no-prompt"]


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=lambda deployment: deployment["name"])
def test_the_parameters_in_prefect_yaml_are_the_flow_s(deployment):
    settings = Settings(**deployment["parameters"])

    assert (ROOT / settings.sources[0]).is_dir()
    assert (ROOT / settings.model).exists()
    assert deployment["enforce_parameter_schema"] is True


@pytest.fixture
def prefect(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of a server with a worker; whatever they start ends with the test."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environment = clean_environment(tmp_path / "home") | {
        "PREFECT_HOME": str(tmp_path / "prefect"),
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_WORKER_QUERY_SECONDS": "1",
        "DO_NOT_TRACK": "1",
    }
    server = ["server", "start", "--no-ui", "--host", "127.0.0.1", "--port", str(port)]
    worker = ["worker", "start", "--pool", "nightshift", "--type", "process", "--limit", "1"]
    with (tmp_path / "server.log").open("wb") as log:
        processes = [started([*PREFECT, *server], environment, log)]
    try:
        wait_for(lambda: answers(f"{environment['PREFECT_API_URL']}/health"), timeout_s=150)
        with (tmp_path / "worker.log").open("wb") as log:
            processes.append(started([*PREFECT, *worker], environment, log))
        pool = f"{environment['PREFECT_API_URL']}/work_pools/nightshift"
        wait_for(lambda: answers(pool), timeout_s=90)
        yield environment
    finally:
        # By the home that is in all their environments: also a flow run that lost its worker.
        while left := processes_with(str(tmp_path / "prefect")):
            for pid in left:
                os.kill(pid, signal.SIGKILL)
            for process in processes:
                process.wait()


def started(arguments: list[str], environment: dict[str, str], log) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        arguments, cwd=ROOT, env=environment, stdout=log, stderr=log, start_new_session=True
    )


def run(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*PREFECT, *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=150,
    )


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_nightly_deployment_runs_on_a_worker_and_fills_the_table(prefect, tmp_path):
    deployed = run(prefect, "deploy", "--all")
    assert deployed.returncode == 0, deployed.stdout + deployed.stderr
    output = tmp_path / "out"

    done = run(
        prefect,
        *("deployment", "run", "classify_dir/nightly", "--param", f"output={output}"),
        *("--watch", "--watch-interval", "1", "--watch-timeout", "120"),
    )

    log = (tmp_path / "worker.log").read_text()
    assert done.returncode == 0, done.stdout + done.stderr + log
    assert "finished successfully" in done.stdout
    images = sum(1 for path in (ROOT / DEPLOYMENTS[0]["parameters"]["images"]).rglob("*.*"))
    files = list((output / "predictions").rglob("*.parquet"))
    assert sum(pq.read_metadata(file).num_rows for file in files) == images
    assert "images listed, " in log

    refused = run(prefect, "deployment", "run", "classify_dir/nightly", "--param", "top_k=0")
    assert refused.returncode != 0
    assert "top_k" in refused.stdout + refused.stderr
