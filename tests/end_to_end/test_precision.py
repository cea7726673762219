"""classify_dir in reduced precision, in real processes: asked for, served, and said."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.models.brittle import break_fp16, break_int8, broken_folder
from tests.simulators.installed import simulated_environment

ROOT = Path(__file__).parent.parent.parent
IMAGES, MODEL = ROOT / "examples/digits/images", ROOT / "examples/digits/model"


def classify(out, *options, model=MODEL, images=IMAGES, environment=None, code=0):
    """Returns the JSON object and what was written to stderr."""
    arguments = [images, "-m", model, "-o", out, "--engine-cache", out.parent / "cache", *options]
    done = subprocess.run(
        [sys.executable, "-m", "flows.classify_dir", *map(str, arguments), "--direct", "--json"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert "Traceback" not in done.stderr, done.stderr
    assert done.returncode == code, done.stdout + done.stderr
    return json.loads(done.stdout), done.stderr


def footers(out: Path) -> list[dict]:
    files = sorted(out.glob("predictions/**/*.parquet"))
    return [json.loads(pq.read_metadata(file).metadata[b"nightshift"]) for file in files]


INT8 = ("--precision", "int8", "--calibration-images", IMAGES)


def test_int8_on_a_cpu_is_calibrated_compared_served_and_not_decided_again(tmp_path):
    first, log = classify(tmp_path / "out", *INT8, "--shard-size", 200)
    assert (first["backend"], first["precision"], first["requested_precision"]) == (
        "onnxruntime",
        "int8",
        "int8",
    )
    assert (first["images"], first["ok"], first["gate"]["status"]) == (450, 450, "passed")
    (trial,) = first["gate"]["trials"]
    assert (trial["images"], trial["shared"]) == (113, 0)
    assert trial["accuracy"]["images"] == 113
    assert "calibrating on 337 images" in log
    assert "gate: int8 passed: top-1 agreement with fp32" in log
    for footer in footers(tmp_path / "out"):
        assert (footer["precision"], footer["requested_precision"]) == ("int8", "int8")
        assert footer["gate"]["trials"][0]["top1_agreement"] == trial["top1_agreement"]
    record = json.loads((tmp_path / f"out/runs/{first['run_id']}/run.json").read_text())
    assert record["gate"] == first["gate"]
    again, log = classify(tmp_path / "out", *INT8, "--overwrite")
    assert again["gate"] == first["gate"]
    assert "gate, decided before: int8 passed" in log
    assert "calibrating on" not in log
    # What is finished stays finished, whatever the precision: model_id does not depend on it.
    nothing, _ = classify(tmp_path / "out")
    assert (nothing["rows_written"], nothing["precision"]) == (0, "int8")
    assert nothing["gate"]["status"] == "passed"


def test_a_model_that_breaks_in_int8_is_served_in_fp32_and_everybody_is_told(tmp_path):
    model = broken_folder(MODEL, tmp_path / "brittle", break_int8)
    summary, log = classify(tmp_path / "out", *INT8, model=model)
    assert (summary["requested_precision"], summary["precision"]) == ("int8", "fp32")
    why = summary["gate"]["why"]
    assert why.startswith("int8 was asked for, fp32 serves: int8 failed the accuracy gate: ")
    assert "images get another label than in fp32" in why
    (trial,) = summary["gate"]["trials"]
    assert trial["passed"] is False
    flip = trial["worst_flips"][0]
    assert flip["reference"] != flip["candidate"]
    assert flip["reference_margin"] > 0
    assert trial["accuracy"]["reference"] > 0.95 > 0.5 > trial["accuracy"]["candidate"]
    (footer,) = footers(tmp_path / "out")
    assert footer["precision"] == "fp32"
    assert footer["gate"]["why"] == why
    assert "worst_flips" not in footer["gate"]["trials"][0]
    assert f"precision: {why}" in log
    plain, _ = classify(tmp_path / "plain", "--precision", "fp32", model=model)
    assert plain["gate"] == {"status": "reference", "why": "", "trials": []}


@pytest.mark.parametrize("precision", ["auto", "fp16"])
def test_a_model_that_overflows_in_fp16_is_served_in_fp32_on_a_gpu(tmp_path, precision):
    model = broken_folder(MODEL, tmp_path / "brittle", break_fp16)
    environment = simulated_environment("8.6.1")
    options = ("--precision", precision, "--gate-images", 64)
    summary, log = classify(tmp_path / "out", *options, model=model, environment=environment)
    assert (summary["requested_precision"], summary["precision"]) == (precision, "fp32")
    why = summary["gate"]["why"]
    assert "fp16 failed the accuracy gate" in why  # with NaN on a GPU; here, fp16 sums are exact
    assert f"precision: {why}" in log
    assert footers(tmp_path / "out")[0]["gate"]["why"] == why
    assert (summary["images"], summary["ok"]) == (450, 450)
    again, log = classify(tmp_path / "again", *options, model=model, environment=environment)
    assert again["gate"] == summary["gate"]
    assert "gate: comparing" not in log
    assert "Building" not in log


def test_auto_on_a_cpu_takes_int8_only_where_it_is_faster(tmp_path):
    summary, log = classify(tmp_path / "out", "--calibration-images", IMAGES)
    speeds = summary["gate"]["trials"][0]["speeds"]
    assert summary["precision"] == max(("int8", "fp32"), key=speeds.__getitem__)
    assert f"auto took {summary['precision']}: " in log
    again, _ = classify(tmp_path / "other", "--calibration-images", IMAGES)
    assert again["gate"] == summary["gate"]


def test_engines_that_auto_compares_are_told_once_and_have_their_page(tmp_path):
    environment = simulated_environment("8.6.1")
    options = ("--calibration-images", IMAGES, "--gate-images", 64)
    summary, log = classify(tmp_path / "out", *options, environment=environment)
    assert {trial["precision"] for trial in summary["gate"]["trials"]} == {"int8", "fp16"}
    assert log.count("Built the int8 engine") == log.count("Built the fp16 engine") == 1
    assert "the store holds no int8 engine" in log
    assert "the store holds no fp16 engine" in log
    assert "precision auto: int8 or fp16, whichever is faster here" in log
    assert summary["engine"]["built"]
    pages = sorted((tmp_path / "cache/engines").glob("*/report.html"))
    assert len(pages) == 2
    assert all("of 64 images get fp32's label" in squeezed(page) for page in pages)


def test_an_engine_that_replaces_a_damaged_one_is_compared_before_it_serves(tmp_path):
    environment = simulated_environment("10.16.1")
    classify(tmp_path / "out", "--gate-images", 64, environment=environment)
    (plan,) = (tmp_path / "cache/engines").glob("*/engine.plan")
    plan.write_bytes(plan.read_bytes()[::-1])
    summary, log = classify(tmp_path / "again", "--gate-images", 64, environment=environment)
    assert summary["engine"]["built"]
    assert "the stored engine is damaged" in log
    assert log.index("Built the fp16 engine") < log.index("gate: comparing with the fp32 model")
    assert summary["gate"]["status"] == "passed"
    assert (plan.parent / "verdict.json").exists()


def test_int8_that_cannot_be_built_is_tried_once_and_again_where_it_is_asked_for(tmp_path):
    refuses = simulated_environment("8.6.1", unbuildable="DequantizeLinear")
    options = ("--calibration-images", IMAGES, "--gate-images", 64)
    first, log = classify(tmp_path / "out", *options, environment=refuses)
    assert first["precision"] == "fp16"
    assert "auto took fp16: the int8 engine cannot be built: " in first["gate"]["why"]
    assert "Could not find any implementation for DequantizeLinear" in first["gate"]["why"]
    assert "no int8 engine" in log

    second, log = classify(tmp_path / "again", *options, environment=refuses)
    assert second["precision"] == "fp16"
    assert "the int8 engine could not be built, and is tried again" in second["gate"]["why"]
    assert "Could not find any implementation for DequantizeLinear" in second["gate"]["why"]
    assert f"precision: {second['gate']['why']}".splitlines()[0] in log
    assert "Building the engine" not in log

    builds = simulated_environment("8.6.1")
    third, _ = classify(tmp_path / "third", *options, "--precision", "int8", environment=builds)
    assert third["precision"] == "int8"
    fourth, log = classify(tmp_path / "fourth", *options, environment=builds)
    assert {trial["precision"] for trial in fourth["gate"]["trials"]} == {"int8", "fp16"}
    assert "Building the engine" not in log


def squeezed(page: Path) -> str:
    return " ".join(page.read_text().split())


def test_a_device_process_that_is_replaced_decides_nothing_new(tmp_path):
    fault = {"operation": 170, "code": 700, "once": str(tmp_path / "failed")}
    environment = simulated_environment("10.16.1", fault=fault)
    options = ("--gate-images", 64, "--shard-size", 100)
    summary, log = classify(tmp_path / "out", *options, environment=environment)
    assert "cudaErrorIllegalAddress (700)" in log
    assert "starting another" in log
    assert summary["gate"]["status"] == "passed"
    # The second process neither compares nor looks the verdict up: it was told.
    assert log.count("gate: ") == log.split("starting another")[0].count("gate: ") == 2


def test_an_engine_for_smaller_batches_is_compared_before_it_serves(tmp_path):
    fault = {"operation": 170, "code": 2, "once": str(tmp_path / "failed")}  # out of memory
    environment = simulated_environment("10.16.1", fault=fault)
    options = ("--gate-images", 64, "--shard-size", 100)
    summary, log = classify(tmp_path / "out", *options, environment=environment)
    assert "Out of device memory with batches of " in log
    before, after = log.split("Out of device memory")
    assert "gate: fp16 passed" in before
    assert after.index("Building the engine") < after.index("gate: fp16 passed")
    assert (summary["gate"]["status"], summary["images"]) == ("passed", 450)
    assert len(list((tmp_path / "cache/engines").glob("*/verdict.json"))) == 2


def test_the_gate_can_be_switched_off_and_says_so(tmp_path):
    environment = simulated_environment("10.16.1")
    options = ("--gate-images", 0)
    summary, log = classify(tmp_path / "out", *options, environment=environment)
    assert (summary["precision"], summary["gate"]["status"]) == ("fp16", "off")
    assert footers(tmp_path / "out")[0]["gate"]["status"] == "off"
    assert "comparing" not in log


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--precision", "int8"), "--precision int8 needs --calibration-images"),
        (("--precision", "fp16", "--backend", "onnxruntime"), "computes in fp32 and int8"),
        (("--calibration-images", "nowhere"), "nowhere: no such directory"),
        (("--gate-agreement", 0.9, "--gate-images", 0), "give one of them"),
    ],
)
def test_what_cannot_be_is_refused_with_exit_code_2(tmp_path, options, text):
    refused, _ = classify(tmp_path / "out", *options, code=2)
    assert text in refused["error"]


def test_too_few_images_to_calibrate_on_are_refused_with_both_numbers(tmp_path):
    few = tmp_path / "few"
    few.mkdir()
    for number, path in enumerate(sorted(IMAGES.rglob("*.jpg"))[:20]):
        (few / f"{number}.jpg").write_bytes(path.read_bytes())
    options = ("--precision", "int8", "--calibration-images", few)
    refused, _ = classify(tmp_path / "out", *options, code=2)
    assert "at least 32 images that can be decoded, and 20 of the 20 there can" in refused["error"]
