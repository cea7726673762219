"""The command build_engine, in real processes, on a simulated GPU."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from flows.build_command import COMMAND, main
from tasks.settings import BuildSettings
from tests.flows.conftest import clean_environment, processes_with, wait_for
from tests.simulators.installed import simulated_environment

ROOT = Path(__file__).parent.parent.parent
MODEL = ROOT / "examples/digits/model"


def start(
    tmp_path: Path, *options: str, variables: dict[str, str] | None = None, **settings: object
) -> subprocess.Popen[str]:
    gpu = simulated_environment("10.16.1", **settings)
    mine = {name: gpu[name] for name in ("PYTHONPATH", "SIMULATED_GPU")}
    return subprocess.Popen(
        [sys.executable, "-m", "flows.build_engine", MODEL, "--engine-cache", tmp_path, *options],
        cwd=ROOT,
        env=clean_environment(tmp_path / "home") | mine | (variables or {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def engines(cache: Path) -> list[str]:
    """Everything that the store holds besides locks and logs of failures."""
    root = cache / "engines"
    kept = [path for path in root.iterdir() if not path.name.startswith(".")]
    return [path.name for path in (*kept, *(root / ".staging").iterdir())]


def test_stdout_has_the_summary_and_stderr_the_rest(tmp_path):
    with start(tmp_path, "--seconds", "0.02") as process:
        stdout, stderr = process.communicate(timeout=100)
    assert process.returncode == 0, stderr
    lines = stdout.splitlines()
    assert lines[0].startswith("Built the fp16 engine of model@")
    assert lines[1] == "Why: the store holds no fp16 engine of model"
    assert "p99" in lines[-1]
    assert "Building the engine" in stderr
    assert "Measuring batches of 64" in stderr
    assert len(engines(tmp_path)) == 1
    with start(tmp_path, "--no-measure", "--json", "--quiet") as process:
        stdout, stderr = process.communicate(timeout=100)
    answer = json.loads(stdout)
    assert (answer["status"], answer["throughput"], stderr) == ("found", None, "")


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_build_and_leaves_nothing_half_built(tmp_path, signum):
    with start(tmp_path, "--json", build_seconds=60) as process:
        said = next(line for line in process.stderr if "Building the engine" in line)
        assert "the store holds no fp16 engine of model" in said
        next(line for line in process.stderr if "simulated network" in line)
        mine = processes_with(str(tmp_path))
        assert len(set(mine).intersection(processes_with("build_child"))) == 1
        started = time.monotonic()
        os.killpg(process.pid, signum)
        stdout, stderr = process.communicate(timeout=30)
    assert process.returncode == 128 + signum
    assert time.monotonic() - started < 10
    answer = json.loads(stdout)
    assert answer["status"] == "interrupted"
    assert answer["error"].startswith(f"stopped by {signum.name} before it was done; nothing half")
    assert "Traceback" not in stderr
    assert engines(tmp_path) == []
    wait_for(lambda: processes_with(str(tmp_path)) == [], timeout_s=10)


def test_a_build_that_takes_too_long_is_given_up(tmp_path):
    with start(tmp_path, "--build-timeout", "2", build_seconds=60) as process:
        stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stdout) == (1, "")
    assert "error: the build was killed at its deadline of 2 s" in stderr
    assert "Traceback" not in stderr
    assert engines(tmp_path) == []


def test_without_a_gpu_it_says_so_and_what_to_do(tmp_path):
    with start(tmp_path, device_count=0) as process:
        stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stdout) == (2, "")
    assert len(stderr.splitlines()) == 1
    assert stderr.startswith("error: no NVIDIA GPU can be used here")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--seconds", "0"), "seconds (--seconds): 0.0 given, expected a finite number above 0"),
        (("--workspace", "4"), "expected a size with its unit"),
        (("--images", "photos"), "Unknown option"),
        (("--direct",), "Unknown option"),
    ],
)
def test_a_mistake_is_told_in_words(options, expected, capsys):
    assert main(["model", *options]) == 2
    assert expected in capsys.readouterr().err


def test_the_model_is_asked_for_by_name(capsys):
    assert main([]) == 2
    assert "model (--model): no value given" in capsys.readouterr().err


def test_options_come_from_flags_variables_and_files_of_either_command(tmp_path, monkeypatch):
    config = tmp_path / "nightly.toml"
    config.write_text(
        'images = "photos"\nmodel = "file"\noutput = "out"\ndirect = true\nprogress = false\n'
        "shard_size = 5\nbuilder_optimization_level = 1\ntop_k = 1\nretries = 1\n"
    )
    monkeypatch.setenv("NIGHTSHIFT_TOP_K", "2")
    monkeypatch.setenv("NIGHTSHIFT_OUTPUT", "out")
    settings = COMMAND.read(["m", "--config", str(config), "--tf32", "--no-measure"]).settings
    assert (settings.model, settings.top_k, settings.builder_optimization_level) == ("m", 2, 1)
    assert (settings.tf32, settings.measure, settings.rebuild) == (True, False, False)
    assert COMMAND.read(["--config", str(config)]).settings.model == "file"
    config.write_text("sharp_size = 5\n")
    assert main(["m", "--config", str(config)]) == 2


def test_a_variable_that_no_command_knows_is_named(tmp_path):
    variables = {"NIGHTSHIFT_SHARD_SIZE": "5", "NIGHTSHIFT_SHARP_SIZE": "5"}
    with start(tmp_path, "--no-measure", variables=variables) as process:
        _, stderr = process.communicate(timeout=60)
    assert "the variable NIGHTSHIFT_SHARP_SIZE is set, but there is no such option" in stderr
    assert "SHARD_SIZE" not in stderr


def test_help_is_quick_and_imports_nothing_heavy():
    code = (
        "import sys\n"
        "from flows.build_command import main\n"
        "assert main(['--help']) == 0\n"
        "heavy = 'prefect pyarrow onnx onnxruntime PIL numpy tensorrt cuda'.split()\n"
        "print([name for name in heavy if name in sys.modules], file=sys.stderr)\n"
    )
    seconds = []
    for _ in range(3):
        started = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
        )
        seconds.append(time.monotonic() - started)
    assert done.stderr == "[]\n"
    assert min(seconds) < 2, seconds
    for word in (
        "MODEL",
        "--workspace",
        "--rebuild",
        "TensorRT engine",
        "This build",
        "Exit codes",
    ):
        assert word in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_every_option_that_the_page_on_engines_names_exists():
    page = (ROOT / "docs/engines.md").read_text()
    table = re.findall(r"^\| (?!trtexec|---).*? \| (.*?) \|$", page, re.MULTILINE)
    named = set(re.findall(r"`--([a-z0-9-]+)", "\n".join(table)))
    options = {name.replace("_", "-") for name in BuildSettings.model_fields}
    negative = {f"no-{option}" for option in options}
    assert len(named) >= 13
    assert named <= options | negative
