"""The scripts for a GPU machine, whose hours are dear, run through on a simulated one."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.gpu.end_to_end import PER_SECOND, STEADY
from benchmarks.images import write_images
from benchmarks.models import whiten_last_layer, write_model_folder
from tests.simulators.installed import simulated_environment

ROOT = Path(__file__).parent.parent.parent
IMAGES = 32
BATCH = ["--batch-size", "8", "--seconds", "0.1"]

pytestmark = pytest.mark.simulated


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """Where the scripts find images and a model, small enough for a simulation."""
    folder = tmp_path_factory.mktemp("work")
    photos, model = folder / f"images-{IMAGES}", folder / "models" / "resnet18"
    write_images(photos, IMAGES, processes=1)
    write_model_folder("resnet18", model, size=32, classes=8)
    whiten_last_layer(model, photos, IMAGES)
    return folder


def run(script, *arguments, json_file):
    command = [sys.executable, "-m", f"benchmarks.gpu.{script}", *map(str, arguments), *BATCH]
    environment = simulated_environment("8.6.1", order="early", total_bytes=2**32)
    done = subprocess.run(
        [*command, "--json", json_file],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert json_file.exists(), done.stderr
    return done, json.loads(json_file.read_text())


def classify(work, tmp_path):
    """Classify in fp16, with a report that knows of another case; the last of its cases."""
    report = tmp_path / "report.json"
    other = {"model": "other", "precision": "fp32", "engine": {}, "rows": 7, "comparison": None}
    report.write_text(json.dumps({"cases": [other | {"missed": []}]}))
    options = ["--models", "resnet18", "--precisions", "fp16", "--images", IMAGES]
    done, written = run("classify", work, *options, json_file=report)
    assert "| other | fp32 | failed | | 7 |" in done.stdout
    first, last = written["cases"]
    assert first["model"] == "other"
    return done, last


def test_classify_proves_labels_and_finds_what_is_there(work, tmp_path):
    done, case = classify(work, tmp_path)
    assert (case["rows"], case["run"]["images"]) == (IMAGES, IMAGES)
    assert (case["engine"]["engine"]["built"], case["run"]["engine"]["built"]) == (True, False)
    assert case["comparison"]["images"] == IMAGES
    assert case["comparison"]["agreement"] == 1
    assert 0 < case["comparison"]["worst_difference"] < 0.0125
    assert "| resnet18 | fp16 | " in done.stdout
    missed = [text for text in case["missed"] if "left out" not in text]  # 2 of 32 are 6 %
    assert (missed, done.returncode) == ([], 1 if case["missed"] else 0)
    again, case = classify(work, tmp_path)
    assert not case["engine"]["engine"]["built"]
    assert "reference" in done.stderr
    assert "reference" not in again.stderr


def test_classify_fails_where_the_table_is_wrong(work, tmp_path):
    wrong = tmp_path / "wrong"
    shutil.copytree(work, wrong)
    next((wrong / f"images-{IMAGES}").rglob("*.jpg")).write_bytes(b"no image")
    done, _ = classify(wrong, tmp_path)
    assert done.returncode == 1
    assert f"{IMAGES - 1} of {IMAGES} images have a label" in done.stdout
    assert "agreement" in done.stdout


def test_end_to_end_measures_every_stage(work, tmp_path):
    photos, model = work / f"images-{IMAGES}", work / "models" / "resnet18"
    options = ["--model", model, "--engine-cache", work / "engines", "--rounds", 1]
    options += ["--count", 200, "--stage-count", 32]
    done, report = run("end_to_end", photos, *options, json_file=tmp_path / "report.json")
    assert done.returncode == 0, done.stderr
    measured = set(PER_SECOND) - {STEADY}  # of so few images, that is noise
    assert all(report["median"][name] > 0 for name in measured)
    limit = min(
        report["median"]["decoding, resizing and cropping into slots"],
        report["median"]["engine alone"],
    )
    assert report["of_limit"]["end to end"] == report["median"]["end to end"] / limit
    assert sorted(path.name for path in work.iterdir() if path.name.startswith("tmp")) == []
    assert "| end to end | " in done.stdout


def test_precisions_are_measured_in_turns(work, tmp_path):
    model = work / "models" / "resnet18"
    options = ["--calibration-images", work / f"images-{IMAGES}", "--rounds", 2]
    options += ["--engine-cache", work / "engines"]
    done, report = run("precisions", model, *options, json_file=tmp_path / "report.json")
    assert done.returncode == 0, done.stderr
    fp16, int8 = report["cases"]
    assert (fp16["precision"], int8["precision"]) == ("fp16", "int8")
    for case in (fp16, int8):
        assert len(case["rounds"]) == 2
        assert case["images_per_second"] > 0
        assert abs(sum(case["shares"].values()) - 1) < 0.01
        assert Path(case["page"]).exists()
        assert Path(case["layers"]).exists()
    assert (fp16["of_base"], int8["of_base"]) == (1, pytest.approx(1, abs=0.9))
    assert done.stdout.count("| resnet18@") == 2
    again, later = run("precisions", model, *options, json_file=tmp_path / "later.json")
    assert "Found the int8 engine" in again.stderr
    # Of the build, not of finding the engine.
    assert later["cases"][1]["build_seconds"] == report["cases"][1]["build_seconds"]


def test_gate_stops_what_breaks_and_lets_pass_what_does_not(tmp_path):
    done, report = run("gate", tmp_path / "work", json_file=tmp_path / "report.json")
    assert done.returncode == 0, done.stdout
    served = {(c["model"], c["asked"], c["calibrated"]): c["served"] for c in report["cases"]}
    assert served["digits", "auto", False] == "fp16"
    assert served["digits", "int8", True] == "int8"
    assert served["decades", "int8", True] == "fp16"
    assert served["overflow", "fp16", False] == "fp32"
    assert report["build_engine"]["served"] == "fp32"
    assert "| decades | int8, calibrated | fp16 | passed | int8 " in done.stdout
    assert "- overflow, auto: auto took fp32: fp16 failed the accuracy gate" in done.stdout


def test_gate_fails_where_something_else_serves(tmp_path):
    work = tmp_path / "work"
    shutil.copytree(ROOT / "examples/digits/model", work / "models" / "overflow")  # whole
    done, report = run("gate", work, json_file=tmp_path / "report.json")
    assert done.returncode == 1
    assert {case["model"] for case in report["cases"] if case["missed"]} == {"overflow"}
    assert "overflow, fp16: MISSED: fp16 serves, expected fp32" in done.stdout
