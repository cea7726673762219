"""Building an engine in this process, with real build processes, on the simulated GPU."""

from __future__ import annotations

import json
import logging
import re
from dataclasses import asdict
from pathlib import Path

import pytest

from engines import verdict
from engines.errors import BackendUnavailableError, DeviceMemoryError
from engines.model import load_model
from tasks.build_engine import build_engine
from tasks.engine import engine_settings
from tasks.errors import SettingsError
from tasks.prepare import model_request
from tasks.settings import BuildSettings, Settings
from tests.models.brittle import break_int8, broken_folder
from tests.simulators.records import VERSIONS

DIGITS = Path(__file__).parent.parent.parent / "examples/digits"
MODEL, IMAGES = DIGITS / "model", DIGITS / "images"


@pytest.fixture
def build(tmp_path):
    def run(**changes):
        asked = {"model": str(MODEL), "engine_cache": str(tmp_path / "cache"), "seconds": 0.02}
        return build_engine(BuildSettings(**(asked | changes)))

    return run


@pytest.mark.parametrize("version", VERSIONS)
def test_the_first_call_builds_and_measures_and_the_second_finds(install_gpu, build, version):
    machine = install_gpu(version)
    first, second = build(batch_size=8), build(batch_size=8)
    machine.verify()
    assert machine.leaks() == []
    assert (first.status, first.engine.built) == ("built", True)
    assert first.engine.why == ("the store holds no fp16 engine of model",)
    assert (second.status, second.engine.built, second.engine.why) == ("found", False, ())
    assert first.engine.key == second.engine.key
    assert Path(first.engine.path).stat().st_size == first.engine.plan_bytes
    assert (first.batch, first.height, first.width) == ("1:8:8", "32", "32")
    assert (first.precision, first.versions["tensorrt"]) == ("fp16", version)
    for summary in (first, second):
        assert summary.throughput.batch_size == 8
        assert summary.throughput.image_size == (32, 32)
        assert json.loads(json.dumps(asdict(summary)))["throughput"]["with_transfers"] > 0


def test_a_person_reads_what_was_built_why_where_and_how_fast_it_is(install_gpu, build):
    install_gpu()
    build(precision="fp32", measure=False)
    lines = build(precision="fp32", workspace="1GiB", batch_size="2:4:8").lines()
    assert lines[0].startswith("Built the fp32 engine of model@")
    assert "batches of 2:4:8, images of 32x32, Simulated H200, TensorRT 10.16.1" in lines[0]
    assert lines[1] == (
        "Why: built for batch size 1:64:64, this is 2:4:8; "
        "built for workspace limit not set, this is 1073741824"
    )
    assert re.fullmatch(r"Plan: /.*/engine\.plan \(0\.\d MiB\)", lines[2])
    table = "\n".join(lines[-4:])
    for word in ("batches of 8 images of 32x32", "compute only", "with transfers", "p99"):
        assert word in table


def test_nothing_is_measured_where_nobody_wants_it(install_gpu, build):
    machine = install_gpu()
    summary = build(measure=False)
    assert summary.throughput is None
    assert [line.partition(":")[0] for line in summary.lines()[-3:-1]] == ["Plan", "Report"]
    assert summary.lines()[-1] == (
        "Accuracy gate: nothing was compared with fp32, for want of images."
    )
    assert machine.operations_run == 0


def test_an_engine_is_compared_with_fp32_where_there_are_images(install_gpu, build):
    install_gpu()
    first = build(measure=False, gate_from=str(IMAGES), gate_images=64)
    assert (first.requested_precision, first.precision, first.status) == ("auto", "fp16", "built")
    assert (first.gate["status"], first.gate["trials"][0]["images"]) == ("passed", 64)
    assert "top-1 agreement with fp32" in first.lines()[-1]
    assert verdict.read(Path(first.engine.path).parent).evidence.comparison.images == 64
    second = build(measure=False, gate_images=64)
    assert (second.status, second.gate) == ("found", first.gate)
    third = build(measure=False, gate_images=64, rebuild=True)
    assert (third.status, third.gate["status"]) == ("built", "no images")
    assert third.engine.why == ("another build of it was asked for",)


@pytest.mark.parametrize("version", VERSIONS)
def test_int8_is_calibrated_and_compared_on_what_calibration_left(install_gpu, build, version):
    install_gpu(version)
    options = {"measure": False, "calibration_images": str(IMAGES), "precision": "int8"}
    summary = build(**options)
    assert (summary.status, summary.precision, summary.gate["status"]) == (
        "built",
        "int8",
        "passed",
    )
    (trial,) = summary.gate["trials"]
    assert (trial["images"], trial["shared"]) == (113, 0)
    assert trial["accuracy"]["images"] == 113
    assert build(**options).status == "found"


def test_int8_that_breaks_gives_way_to_fp16(install_gpu, build, tmp_path):
    install_gpu()
    model = broken_folder(MODEL, tmp_path / "brittle", break_int8)
    summary = build(model=str(model), calibration_images=str(IMAGES), precision="int8", seconds=0.1)
    assert (summary.requested_precision, summary.precision) == ("int8", "fp16")
    assert summary.throughput is not None
    assert any(
        line.startswith("Precision: int8 was asked for, fp16 serves: int8 failed the accuracy gate")
        for line in summary.lines()
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "int8"}, "needs --calibration-images"),
        ({"calibration_images": "nowhere"}, "--calibration-images nowhere: no such directory"),
        ({"gate_from": "nowhere"}, "--gate-from nowhere: no such directory"),
    ],
)
def test_images_that_are_missing_are_said_before_the_model_is_read(
    install_gpu, build, options, message
):
    install_gpu()
    with pytest.raises(SettingsError, match=message):
        build(model="no such model", **options)


OPTIONS = {
    "precision": "fp32",
    "batch_size": "1:4:8",
    "image_size": None,
    "workspace": "2GiB",
    "builder_optimization_level": 1,
    "tf32": True,
    "max_aux_streams": 1,
    "version_compatible": True,
    "hardware_compatibility": "ampere_plus",
}


@pytest.mark.parametrize("option", OPTIONS)
def test_the_same_options_ask_for_the_same_engine_in_every_command(option):
    given = {"model": str(MODEL), option: OPTIONS[option]}
    model = load_model(model_request(BuildSettings(**given)))
    mine = engine_settings(BuildSettings(**given), model)
    theirs = engine_settings(Settings(images="images", output="out", **given), model)
    assert mine == theirs
    plain = engine_settings(BuildSettings(model=str(MODEL)), model)
    assert (mine == plain) == (OPTIONS[option] is None)


def test_a_rebuild_sets_the_old_engine_aside(install_gpu, build, tmp_path):
    install_gpu()
    first, second = build(measure=False), build(measure=False, rebuild=True)
    assert second.status == "built"
    assert second.engine.why == ("another build of it was asked for",)
    assert second.engine.key == first.engine.key
    assert len(list((tmp_path / "cache/engines/.quarantine").iterdir())) == 1


def test_an_engine_that_does_not_load_is_built_again_before_it_is_measured(
    install_gpu, build, caplog
):
    machine = install_gpu()
    build(measure=False)
    machine.refuse_call(machine.tensorrt_calls + 1)
    with caplog.at_level(logging.INFO):
        summary = build()
    assert summary.status == "built"
    assert "does not load and is built again" in caplog.text


def test_what_is_missing_is_said_before_the_model_is_read(install_gpu, build, monkeypatch):
    with pytest.raises(SettingsError, match="package tensorrt is not installed"):
        build(model="no such model")
    install_gpu(device_count=0)
    with pytest.raises(BackendUnavailableError, match="no NVIDIA GPU can be used here"):
        build(model="no such model")
    install_gpu(device_count=2)
    with pytest.raises(BackendUnavailableError, match="GPU 2 was asked for"):
        build(model="no such model", device=2)


def test_too_little_memory_to_measure_keeps_the_engine(install_gpu, build):
    install_gpu()
    with pytest.raises(DeviceMemoryError, match=r"are needed, the memory limit leaves"):
        build(device_memory=1e-6)
    assert build(measure=False).status == "found"
