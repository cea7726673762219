"""Both commands on a simulated GPU, in real processes: one engine, whole tables, honest footers."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

import tasks.classify
from flows.direct import run_directly
from flows.session import Session
from tasks.settings import Settings
from tests.flows.conftest import processes_with, wait_for
from tests.simulators.installed import simulated_environment
from tests.simulators.records import VERSIONS

ROOT = Path(__file__).parent.parent.parent
IMAGES, MODEL = ROOT / "examples/digits/images", ROOT / "examples/digits/model"
ILLEGAL_ADDRESS = 700
"""A sticky error (driver_types.h, cudaErrorIllegalAddress)."""

MIDDLE = 60
"""An operation of the GPU in the middle of the example: a batch makes about a dozen."""


def run(environment, command, *arguments) -> tuple[dict, str]:
    done = subprocess.run(
        [sys.executable, "-m", f"flows.{command}", *map(str, arguments), "--json"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert "Traceback" not in done.stderr, done.stderr
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout), done.stderr


def classify(environment, out, *options) -> tuple[dict, str]:
    where = (IMAGES, "--model", MODEL, "--output", out)
    return run(environment, "classify_dir", *where, "--direct", *options)


def table(out: Path) -> dict[str, dict]:
    found = [
        row
        for path in sorted(out.glob("predictions/**/*.parquet"))
        for row in pq.ParquetFile(path).read().to_pylist()
    ]
    by_uri = {row["uri"]: row for row in found}
    assert len(by_uri) == len(found) == 450
    return by_uri


def footers(out: Path) -> list[dict]:
    files = sorted(out.glob("predictions/**/*.parquet"))
    return [json.loads(pq.read_metadata(file).metadata[b"nightshift"]) for file in files]


def differences(one: dict[str, dict], other: dict[str, dict]) -> float:
    """The largest difference of two tables' scores; everything else is equal."""
    assert one.keys() == other.keys()
    varying = {"score", "score_margin", "topk", "run_id", "predicted_at"}
    for uri, row in one.items():
        assert {name: row[name] for name in row.keys() - varying} == {
            name: other[uri][name] for name in row.keys() - varying
        }
    scores = [[[row["score"] for row in rows[uri]["topk"]] for uri in one] for rows in (one, other)]
    return float(np.abs(np.subtract(*scores)).max())


@pytest.fixture(scope="module")
def reference(tmp_path_factory) -> dict[str, dict]:
    """The example's table as ONNX Runtime computes it."""
    out = tmp_path_factory.mktemp("reference")
    summary, _ = classify(dict(os.environ), out, "--backend", "onnxruntime")
    assert summary["backend"] == "onnxruntime"
    return table(out)


@pytest.mark.parametrize("version", VERSIONS)
def test_what_build_engine_built_is_what_classify_dir_runs(version, reference, tmp_path):
    environment = simulated_environment(version)
    config = tmp_path / "nightly.toml"
    config.write_text(
        'precision = "fp32"\nbatch_size = 32\nworkspace = "1GiB"\ntf32 = false\nseconds = 0.05\n'
        f'shard_size = 200\nengine_cache = "{tmp_path / "cache"}"\n'
    )
    built, _ = run(environment, "build_engine", MODEL, "--config", config)
    found, _ = run(environment, "build_engine", MODEL, "--config", config, "--no-measure")
    out = tmp_path / "out"
    summary, log = classify(environment, out, "--backend", "tensorrt", "--config", config)

    assert (built["status"], found["status"]) == ("built", "found")
    assert built["throughput"]["batch_size"] == 32
    key = built["engine"]["key"]
    assert (found["engine"]["key"], summary["engine"]["key"]) == (key, key)
    assert summary["engine"]["built"] is False
    assert "Building" not in log
    assert differences(table(out), reference) < 1e-5
    assert len(footers(out)) == 3
    for footer in footers(out):
        assert (footer["backend"], footer["precision"]) == ("tensorrt", "fp32")
        assert footer["engine_key"] == key
        assert footer["versions"]["tensorrt"] == version


def test_auto_takes_the_gpu_in_fp16_and_says_so(reference, tmp_path):
    environment = simulated_environment("10.16.1")
    cache = ("--engine-cache", tmp_path / "cache")
    summary, log = classify(environment, tmp_path / "out", *cache)
    assert (summary["backend"], summary["precision"]) == ("tensorrt", "fp16")
    assert summary["engine"]["built"] is True
    assert "backend auto: TensorRT on Simulated H200" in log
    assert "precision auto: fp16 on a GPU" in log
    assert "Building the engine: the store holds no fp16 engine of model" in log
    agree = [
        row["label"] == reference[uri]["label"] for uri, row in table(tmp_path / "out").items()
    ]
    assert np.mean(agree) > 0.99


@pytest.mark.parametrize(
    ("environment", "why"),
    [
        ({}, "because TensorRT is not installed"),
        ({"device_count": 0}, "because no NVIDIA GPU can be used here"),
    ],
)
def test_auto_says_why_it_takes_the_cpu(environment, why, tmp_path):
    chosen = simulated_environment("10.16.1", **environment) if environment else dict(os.environ)
    summary, log = classify(chosen, tmp_path)
    assert f"backend auto: ONNX Runtime on the CPU, {why}" in log
    assert (summary["backend"], summary["precision"]) == ("onnxruntime", "fp32")
    assert footers(tmp_path)[0]["backend"] == "onnxruntime"


def test_out_of_device_memory_the_batch_is_halved_until_it_fits(reference, tmp_path):
    environment = simulated_environment("10.16.1")
    options = ("--backend", "tensorrt", "--precision", "fp32", "--batch-size", 4096)
    budget = ("--device-memory", 0.03, "--engine-cache", tmp_path / "cache")
    summary, log = classify(environment, tmp_path / "out", *options, *budget)
    assert "Out of device memory with batches of 4096: going on with 2048" in log
    assert "Out of device memory with batches of 2048: going on with 1024" in log
    assert "are needed, the memory limit leaves 0.0" in log
    assert "built for batch size 1:2048:2048, this is 1:1024:1024" in log
    assert differences(table(tmp_path / "out"), reference) < 1e-5
    assert summary["errors"] == 0


@pytest.fixture
def device_processes(install_gpu, tmp_path):
    """Classify in this process, with device processes on a simulated GPU that has a fault."""

    def run(shard_size=100, **settings):
        install_gpu("10.16.1", **settings)
        asked = {
            "images": str(IMAGES),
            "model": str(MODEL),
            "output": str(tmp_path / "out"),
            "backend": "tensorrt",
            "precision": "fp32",
            "batch_size": 64,
            "shard_size": shard_size,
            "engine_cache": str(tmp_path / "cache"),
        }
        return run_directly(Settings(**asked), Session())

    return run


def test_a_sticky_cuda_error_costs_a_restart_and_no_row(
    device_processes, reference, tmp_path, caplog
):
    fault = {"operation": MIDDLE, "code": ILLEGAL_ADDRESS, "once": str(tmp_path / "failed")}
    with caplog.at_level(logging.INFO):
        summary = device_processes(fault=fault)
    assert (tmp_path / "failed").exists()
    assert "cudaErrorIllegalAddress (700)" in caplog.text
    assert "starting another" in caplog.text
    assert summary.rows_written == 450
    assert differences(table(tmp_path / "out"), reference) < 1e-5


def test_a_cuda_error_that_comes_back_is_reported_and_not_retried_for_ever(
    device_processes, tmp_path, caplog
):
    summary = device_processes(shard_size=450, fault={"operation": MIDDLE, "code": ILLEGAL_ADDRESS})
    assert (summary.status, summary.exit_code, summary.missing) == ("failed", 1, 450)
    [why] = summary.failed_shards.values()
    assert "IllegalAddress" in why
    assert caplog.text.count("starting another") == 1
    assert list((tmp_path / "out").glob("predictions/**/*.parquet")) == []


def test_a_hanging_gpu_is_noticed_and_its_process_replaced(
    device_processes, reference, tmp_path, caplog, monkeypatch
):
    monkeypatch.setattr(tasks.classify, "PATIENCE_BATCH_S", 3.0)
    with caplog.at_level(logging.INFO):
        device_processes(fault={"operation": MIDDLE, "once": str(tmp_path / "hung")})
    assert (tmp_path / "hung").exists()
    assert "The device process failed (no progress for 3 s): starting another." in caplog.text
    assert differences(table(tmp_path / "out"), reference) < 1e-5


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_build_is_shown_while_it_goes_on_and_ends_with_the_command(signum, tmp_path):
    gpu = simulated_environment("8.6.1", build_seconds=60)
    where = (IMAGES, "--model", MODEL, "--output", tmp_path / "out")
    with subprocess.Popen(
        [sys.executable, "-m", "flows.classify_dir", *where, "--direct"],
        cwd=ROOT,
        env=gpu | {"NIGHTSHIFT_ENGINE_CACHE": str(tmp_path / "cache")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert any("Building the engine: the store holds" in line for line in process.stderr)
        assert any("Building the engine: Starting TensorRT, " in line for line in process.stderr)
        os.killpg(process.pid, signum)
        stdout, stderr = process.communicate(timeout=30)
    assert process.returncode == 128 + signum
    assert stdout == ""
    assert "before the first image" in stderr
    assert "Traceback" not in stderr
    wait_for(lambda: processes_with(str(tmp_path)) == [], timeout_s=10)
    assert list((tmp_path / "cache/engines/.staging").iterdir()) == []
