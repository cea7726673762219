from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import onnx
import pytest

from flows.doctor_command import main
from tests.models.digits import ROOT as DIGITS
from tests.models.digits import scale_inside

ROOT = Path(__file__).parent.parent.parent
MODEL, IMAGES = str(DIGITS / "model"), str(DIGITS / "images")


@pytest.fixture(autouse=True)
def no_variables(monkeypatch, tmp_path):
    for name in [name for name in os.environ if name.startswith("NIGHTSHIFT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("NIGHTSHIFT_ENGINE_CACHE", str(tmp_path / "cache"))


def run(capsys, *arguments):
    """Exit code and JSON."""
    code = main([*arguments, "--json"])
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    return code, json.loads(out)


def by_name(checks):
    return {check["name"]: check for check in checks}


def test_this_machine_is_looked_at(capsys):
    code, found = run(capsys)
    assert (code, found["exit_code"], found["model"], found["error"]) == (0, 0, None, "")
    assert found["status"] in ("ok", "warnings")
    assert list(by_name(found["checks"])) == [
        "python",
        "processor",
        "memory",
        "allocator",
        "packages",
        "onnxruntime",
        "GPU",
        "TensorRT",
        "engine cache",
        "Prefect API",
    ]
    assert found["machine"]["packages"]["prefect"]
    assert found["runtimes"]["gpu"] is None


def test_a_person_reads_one_line_for_each_and_a_verdict(capsys, tmp_path):
    assert main(["--output", str(tmp_path / "out")]) == 0
    first, *lines, blank, last = capsys.readouterr().out.splitlines()
    assert first.startswith("Nightshift ")
    assert blank == ""
    assert last == "All is well." or "warning" in last
    assert any(line.startswith("  ok       output ") for line in lines)
    assert max(len(line) for line in lines if "/" not in line) <= 100  # a path is not broken
    assert not (tmp_path / "out").exists()


def test_a_model_is_explained_and_tested(capsys):
    code, found = run(capsys, MODEL, "--images", IMAGES)
    assert code == 0
    model = found["model"]
    assert model["model_id"].startswith("model@")
    assert {"name": "mean", "value": "0.5 0.5 0.5"}.items() <= model["settings"][5].items()
    assert (model["backend"], model["precision"]) == ("onnxruntime", "fp32")
    checks = by_name(model["checks"])
    assert {check["status"] for check in checks.values()} == {"passed"}
    assert list(checks)[-3:] == ["pixel range", "channel order", "accuracy"]
    assert checks["finite scores"]["measured"] == "all scores of 7 images are finite"


def test_without_images_the_models_behaviour_alone_is_tested(capsys):
    _, found = run(capsys, "--model", MODEL)
    assert "pixel range" not in by_name(found["model"]["checks"])


def test_classes_without_names_are_warned_of(capsys, tmp_path):
    labels = tmp_path / "labels.txt"
    labels.write_text("".join(f"LABEL_{number}\n" for number in range(10)))
    code, found = run(capsys, MODEL, "--labels", str(labels))
    assert (code, found["status"]) == (0, "warnings")
    check = by_name(found["model"]["checks"])["labels"]
    assert (check["status"], check["measured"]) == ("warning", "no names but LABEL_0, LABEL_1, ...")
    assert "--labels FILE" in check["advice"]
    _, found = run(capsys, MODEL)
    assert by_name(found["model"]["checks"])["labels"]["status"] == "passed"


def test_wrong_flags_are_warned_of_and_end_with_0(capsys):
    wrong = ["--pixel-range", "0-1", "--mean", "0", "0", "0", "--std", "1", "1", "1"]
    code, found = run(capsys, MODEL, "--images", IMAGES, *wrong)
    assert (code, found["status"]) == (0, "warnings")
    checks = by_name(found["model"]["checks"])
    assert checks["pixel range"]["status"] == checks["accuracy"]["status"] == "warning"
    assert main([MODEL, "--images", IMAGES, *wrong]) == 0
    out = capsys.readouterr().out
    assert out.endswith("\n2 warnings.\n") or "warnings." in out
    assert "→ Look at the model's documentation" in out


def test_a_model_that_fails_its_test_ends_with_1(capsys, tmp_path):
    proto = onnx.load(DIGITS / "model/model.onnx")
    scale_inside(proto)
    for file in (DIGITS / "model").glob("*.json"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    onnx.save(proto, tmp_path / "model.onnx")
    code, found = run(capsys, str(tmp_path), "--pixel-range", "0-1")
    assert (code, found["status"]) == (1, "failed")
    assert by_name(found["model"]["checks"])["images differ"]["status"] == "failed"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["/nowhere"], "no such model: /nowhere"),
        ([MODEL, "--images", "/nowhere"], "/nowhere"),
        ([MODEL, "--precision", "fp16", "--backend", "onnxruntime"], "needs TensorRT"),
        ([MODEL, "--precision", "int8", "--backend", "onnxruntime"], "calibrate"),
    ],
)
def test_what_cannot_be_used_ends_with_2_after_all_else_was_looked_at(arguments, expected, capsys):
    code, found = run(capsys, *arguments)
    assert (code, found["status"], found["model"]) == (2, "failed", None)
    assert expected in found["error"]
    assert len(found["checks"]) == 10
    assert main(arguments) == 2
    out = capsys.readouterr().out
    assert "  FAILED   model  " in out
    assert "Traceback" not in out


def test_a_directory_without_images_is_told(capsys, tmp_path):
    code, found = run(capsys, MODEL, "--images", str(tmp_path))
    assert (code, "image" in found["error"]) == (2, True)


def test_few_or_damaged_images_tell_nothing_and_do_no_harm(capsys, tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    code, found = run(capsys, MODEL, "--images", str(tmp_path))
    assert code == 0
    [last] = [c for c in found["model"]["checks"] if c["name"] == "preprocessing"]
    assert (last["status"], "0 images are too few" in last["measured"]) == ("skipped", True)


def test_wrong_usage_ends_with_2(capsys):
    assert main(["--top-k", "0"]) == 2
    assert "top_k (--top-k)" in capsys.readouterr().err


def test_help_is_quick_and_imports_nothing_heavy():
    code = (
        "import sys\n"
        "from flows.doctor_command import main\n"
        "assert main(['--help']) == 0\n"
        "heavy = 'prefect pyarrow onnx onnxruntime PIL numpy tensorrt cuda'.split()\n"
        "print([name for name in heavy if name in sys.modules], file=sys.stderr)\n"
    )
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stderr == "[]\n"
    assert time.monotonic() - started < 10
    assert "--images" in done.stdout
    assert "Exit codes" in done.stdout


def test_a_gpu_is_described_and_its_missing_tensorrt_told(install_gpu, capsys, monkeypatch):
    install_gpu()
    _, found = run(capsys)
    checks = by_name(found["checks"])
    assert checks["GPU"]["status"] == checks["TensorRT"]["status"] == "passed"
    assert "compute capability" in checks["GPU"]["measured"]
    monkeypatch.setattr("engines.runtimes.find_spec", lambda _: None)
    _, found = run(capsys)
    tensorrt = by_name(found["checks"])["TensorRT"]
    assert (tensorrt["status"], "the GPU stays idle" in tensorrt["measured"]) == ("warning", True)
