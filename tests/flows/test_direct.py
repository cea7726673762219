from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest

from flows.direct import run_directly
from flows.session import Session
from tasks import classify, device_process
from tasks.settings import Settings
from tests.flows.conftest import ROOT, clean_environment, processes_with


def test_the_summary_is_on_stdout_and_the_rest_on_stderr(command):
    done = command.run("--direct")

    assert done.returncode == 0
    assert done.stdout == "100 images\nstatus done\n"


def test_json_is_one_object_and_nothing_else(command):
    done = command.run("--direct", "--json", fake={"prints": True})

    assert json.loads(done.stdout) == {
        "run_id": "fake",
        "status": "done",
        "images": 100,
        "exit_code": 0,
    }
    assert "a library prints" in done.stderr


def test_prefect_is_never_imported(command, tmp_path):
    modules = tmp_path / "modules"

    assert command.run("--direct", fake={"modules": str(modules)}).returncode == 0

    names = modules.read_text().splitlines()
    assert "flows.direct" in names
    assert not [name for name in names if name.split(".")[0] == "prefect"]
    assert list(command.home.iterdir()) == []


@pytest.mark.parametrize(("error", "code"), [("refused", 2), ("empty", 4)])
def test_an_expected_error_is_one_line_and_its_exit_code(command, error, code):
    done = command.run("--direct", fake={"raises": {"prepare": error}})

    assert done.returncode == code
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.splitlines()) == 1


def test_an_unexpected_error_shows_where_it_happened(command):
    done = command.run("--direct", "--json", fake={"raises": {"classify": "unexpected"}})

    assert done.returncode == 1
    assert json.loads(done.stdout) == {
        "status": "failed",
        "error": "ZeroDivisionError: what nobody thought of",
        "exit_code": 1,
    }
    assert "Traceback" in done.stderr


def test_too_many_errors_still_give_the_summary(command):
    done = command.run("--direct", "--json", fake={"exit_code": 3})

    assert done.returncode == 3
    assert json.loads(done.stdout)["images"] == 100


def test_an_error_that_passes_is_tried_again(command):
    done = command.run(
        "--direct", "--retries", "1", fake={"raises": {"plan": "transient"}, "times": 1}
    )

    assert done.returncode == 0
    assert "trying again in 1 s" in done.stderr


def test_an_error_that_the_user_has_to_mend_is_not_tried_again(command):
    command.run("--direct", fake={"raises": {"plan": "empty"}})

    assert len((command.out / "plan").read_text().splitlines()) == 1


def test_quiet_leaves_the_summary_only(command):
    command.environment["NIGHTSHIFT_TOPK"] = "3"
    loud = command.run("--direct")
    quiet = command.run("--direct", "--quiet")

    assert "the variable NIGHTSHIFT_TOPK is set, but there is no such option" in loud.stderr
    assert "planned" in loud.stderr
    assert "planned" not in quiet.stderr
    assert quiet.stdout == "100 images\nstatus done\n"


@pytest.mark.parametrize(("options", "code"), [(["--top-k", "no"], 2), ([], 2), (["--help"], 0)])
def test_the_process_that_was_started_early_ends_with_a_refused_command(tmp_path, options, code):
    line = [sys.executable, "-m", "flows.classify_dir", "photos", "-m", "none", "-o", "out"]
    done = subprocess.run(
        [*line, "--direct", *options],
        cwd=ROOT,
        env=clean_environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert done.returncode == code
    assert "Traceback" not in done.stderr
    assert processes_with(str(tmp_path)) == []


def test_a_finished_job_starts_no_device_process(tmp_path, monkeypatch):
    started = []

    class Counted(device_process.DeviceProcess):
        def __init__(self, settings=None):
            started.append(settings)
            super().__init__(settings)

    for module in (device_process, classify):
        monkeypatch.setattr(module, "DeviceProcess", Counted)
    example, images = ROOT / "examples/digits", tmp_path / "images"
    shutil.copytree(example / "images/five", images)
    settings = Settings(
        images=str(images), model=str(example / "model"), output=str(tmp_path / "out")
    )

    assert run_directly(settings, Session()).rows_written > 0
    assert len(started) == 1
    assert run_directly(settings, Session()).rows_written == 0
    assert len(started) == 1
    shutil.copyfile(next((example / "images/four").iterdir()), images / "new.png")
    assert run_directly(settings, Session()).rows_written == 1
    assert len(started) == 2
