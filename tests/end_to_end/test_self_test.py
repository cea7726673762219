"""The self-test in the command: refused, warned of, switched off, recorded."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import onnx
import pytest

from tests.models.digits import ROOT as DIGITS
from tests.models.digits import scale_inside

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def model(tmp_path):
    """The example's model, changed to scale by itself, with the old configuration beside it."""
    folder = tmp_path / "model"
    shutil.copytree(DIGITS / "model", folder)
    proto = onnx.load(folder / "model.onnx")
    scale_inside(proto)
    onnx.save(proto, folder / "model.onnx")
    return folder


def classify(model, output, *options):
    command = [sys.executable, "-m", "flows.classify_dir", str(DIGITS / "images" / "four")]
    command += ["--model", str(model), "--output", str(output), "--direct", "--json", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    return done.returncode, json.loads(done.stdout), done.stderr


def test_a_wrong_pixel_range_is_refused_and_the_way_out_works(model, tmp_path):
    """The configuration says -1 to 1, and the graph scales once more."""
    code, said, errors = classify(model, tmp_path / "out")
    assert (code, said["status"]) == (2, "failed")
    assert "The pixel range looks wrong" in said["error"]
    assert "Traceback" not in errors
    assert not list((tmp_path / "out").glob("predictions/**/*.parquet"))
    flags = said["error"].split("If the model wants it so: ")[1].split(". `python")[0].split()
    code, said, _ = classify(model, tmp_path / "out", *flags)
    assert (code, said["ok"]) == (0, 45)
    assert {check["status"] for check in said["self_test"]} == {"passed"}


def test_it_can_be_switched_off(model, tmp_path):
    code, said, errors = classify(model, tmp_path / "out", "--no-self-test")
    assert (code, said["self_test"]) == (0, None)
    assert "self-test" not in errors


def test_a_warning_is_logged_and_recorded(tmp_path):
    wide = ["--pixel-range", "0-255", "--mean", "0", "0", "0", "--std", "1", "1", "1"]
    code, said, errors = classify(DIGITS / "model", tmp_path / "out", *wide)
    assert code == 0
    assert "warning: self-test: size of logits" in errors
    [record] = (tmp_path / "out" / "runs").glob("*/run.json")
    kept = json.loads(record.read_text())
    assert kept["self_test"] == said["self_test"]
    assert [check["name"] for check in kept["self_test"] if check["status"] == "warning"] == [
        "size of logits"
    ]
    assert "self-test" in kept["startup_seconds"]
