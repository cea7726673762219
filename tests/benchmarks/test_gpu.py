"""The measurements on a GPU run, on a simulated one: what they print is no measurement then."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.models import write_model_folder
from tests.simulators.installed import simulated_environment

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "resnet18"
    write_model_folder("resnet18", folder, size=32, classes=10)
    return folder


@pytest.fixture(scope="module")
def engines(tmp_path_factory):
    return tmp_path_factory.mktemp("engines")


def run(module, model, engines, report, *options):
    command = [sys.executable, "-m", f"benchmarks.gpu.{module}", str(model)]
    command += ["--engines", str(engines), "--batch-size", "4", "--json", str(report), *options]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=simulated_environment("10.16.1", total_bytes=2**32),
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
    )
    return done.stdout, json.loads(report.read_text())


def test_streaming_compares_every_line_with_the_bare_loop(model, engines, tmp_path):
    options = ["--rounds", "1", "--seconds", "0.01", "--threads", "2"]
    printed, report = run("streaming", model, engines, tmp_path / "report.json", *options)
    rates = {name: line["images_per_second"] for name, line in report["lines"].items()}
    assert len(rates) == 7
    assert min(rates.values()) > 0
    assert report["lines"]["bare enqueue loop, no copies"]["of_bare_loop"] == 1
    assert report["device"] == "Simulated H200"
    assert len([line for line in printed.splitlines() if line.startswith("| ")]) == 2 + len(rates)


def test_first_result_counts_from_the_start_of_the_command(model, engines, tmp_path):
    options = ["--starts", "2", "--images", "8"]
    printed, report = run("first_result", model, engines, tmp_path / "report.json", *options)
    assert report["built"] == [False, False]
    for seconds in report["seconds"]:
        assert 0 < seconds["libraries"] < seconds["classifier"] < seconds["first result"] < 60
    assert "| device process: first results |" in printed
