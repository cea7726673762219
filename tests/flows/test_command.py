from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from flows.classify_command import COMMAND, main
from flows.usage import UsageError

read = COMMAND.read

ROOT = Path(__file__).parent.parent.parent
ASKED = ("photos", "-m", "model", "-o", "out")


@pytest.fixture(autouse=True)
def no_variables(monkeypatch):
    for name in [name for name in os.environ if name.startswith("NIGHTSHIFT_")]:
        monkeypatch.delenv(name)


# option, value or values, what the text must say beside the field and the value
BAD = [
    ("--top-k", "0", "from 1 to 1000"),
    ("--top-k", "1001", "from 1 to 1000"),
    ("--top-k", "five", "from 1 to 1000"),
    ("--top-k", "2.5", "from 1 to 1000"),
    ("--limit", "0", "at least 1"),
    ("--workers", "-1", "from 1 to 1024"),
    ("--device", "-1", "from 0 to 63"),
    ("--shard-size", "0", "from 1 to 1000000"),
    ("--max-pixels", "0", "from 1 to 2000000000"),
    ("--retries", "11", "from 0 to 10"),
    ("--max-error-rate", "nan", "from 0 to 1"),
    ("--max-error-rate", "1.5", "from 0 to 1"),
    ("--max-error-rate", "-0.1", "from 0 to 1"),
    ("--crop-pct", "0", "above 0 and at most 1"),
    ("--crop-pct", "inf", "above 0 and at most 1"),
    ("--crop-mode", "middle", "one of center, squash, border"),
    ("--interpolation", "cubic", "nearest, bilinear, bicubic, lanczos, box, hamming"),
    ("--pixel-range", "0-2", "one of auto, 0-1, 0-255, -1-1"),
    ("--channel-order", "grb", "one of auto, rgb, bgr"),
    ("--alpha", "black", "one of auto, drop, white"),
    ("--activation", "relu", "one of auto, softmax, sigmoid, none"),
    ("--backend", "cpu", "one of auto, tensorrt, onnxruntime"),
    ("--precision", "fp8", "one of auto, fp32, fp16"),
    ("--mean", "1 2", "3 finite numbers"),
    ("--mean", "1 nan 2", "3 finite numbers"),
    ("--std", "1 0 1", "3 numbers above 0"),
    ("--batch-size", "0", "integers from 1 to 4096"),
    ("--batch-size", "8:4:16", "rising integers from 1 to 4096"),
    ("--batch-size", "8:16", "N or min:opt:max"),
    ("--image-size", "big", "N or min:opt:max"),
    ("--input-size", "224x", "N or HEIGHTxWIDTH"),
    ("--resize-size", "0x3", "integers from 1 to 16384"),
    ("--workspace", "4", "a size with its unit, from 1MiB to 4096GiB"),
    ("--builder-optimization-level", "6", "from 0 to 5"),
    ("--max-aux-streams", "-1", "from 0 to 64"),
    ("--hardware-compatibility", "ampere+", "one of none, same_compute_capability, ampere_plus"),
    ("--build-timeout", "0", "from 1 to 604800"),
    ("--extensions", "jpg", "a dot with letters or digits"),
    ("--run-id", "../up", "letters, digits, dots"),
    ("--recursive=maybe", "", "true or false"),
    ("--labels", " ", "not empty"),
    ("--log-level", "loud", '"debug", "info", "warning", "error"'),
]


@pytest.mark.parametrize(("option", "values", "expected"), BAD)
def test_a_bad_value_is_refused_with_field_value_and_range(option, values, expected, capsys):
    given = [values] if values == " " else values.split()

    assert main([*ASKED, option, *given]) == 2

    stdout, stderr = capsys.readouterr()
    name, _, attached = option.partition("=")
    bad = [value for value in [*given, attached] if value]
    assert stdout == ""
    assert name in stderr
    assert any(value in stderr for value in bad)
    assert expected in stderr
    assert "Traceback" not in stderr


def test_empty_paths_are_refused(capsys):
    assert main(["", "-m", "model", "-o", "out"]) == 2
    assert main(["photos", "-m", "", "-o", "out"]) == 2
    assert main(["photos", "-m", "model", "-o", ""]) == 2

    assert capsys.readouterr().err.count("expected a text that is not empty") == 3


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--crop-pct", "0.9", "--resize-size", "256"), "give one of them"),
        (("--image-size", "64:96:128", "--input-size", "224"), "sides from 64 to 128"),
        (("--mena", "1"), "Did you mean --mean?"),
        (("--top-k",), "top_k (--top-k): no value given"),
        (("--config", "missing.toml"), "missing.toml cannot be read"),
    ],
)
def test_what_does_not_fit_is_refused(options, expected, capsys):
    assert main([*ASKED, *options]) == 2
    assert expected in capsys.readouterr().err


@pytest.mark.parametrize("left_out", ["photos", "-m", "-o"])
def test_what_is_required_is_asked_for_by_name(left_out, capsys):
    arguments = {"photos": [], "-m": ["-m", "model"], "-o": ["-o", "out"]}
    arguments["photos"] = ["photos"]
    arguments[left_out] = []

    assert main([part for parts in arguments.values() for part in parts]) == 2

    field = {"photos": "images", "-m": "model", "-o": "output"}[left_out]
    assert f"{field} (--{field}): no value given" in capsys.readouterr().err


def test_a_usage_error_in_json_is_one_object(capsys):
    assert main([*ASKED, "--top-k", "0", "--json"]) == 2

    answer = json.loads(capsys.readouterr().out)
    assert answer["status"] == "failed"
    assert answer["exit_code"] == 2
    assert "0 given, expected an integer from 1 to 1000" in answer["error"]


def test_flags_win_over_variables_and_variables_over_the_file(tmp_path, monkeypatch):
    config = tmp_path / "nightly.toml"
    config.write_text('model = "file"\noutput = "file"\ntop_k = 1\nretries = 1\nlimit = 1\n')
    monkeypatch.setenv("NIGHTSHIFT_TOP_K", "2")
    monkeypatch.setenv("NIGHTSHIFT_RETRIES", "2")

    request = read(["photos", "--config", str(config), "--retries", "3"])

    settings = request.settings
    assert (settings.limit, settings.top_k, settings.retries) == (1, 2, 3)
    assert settings.model == "file"


def test_a_file_gives_everything_and_keeps_its_types(tmp_path):
    config = tmp_path / "nightly.toml"
    config.write_text(
        'images = ["a dir", "b"]\nmodel = "m"\noutput = "o"\nrecursive = false\n'
        'extensions = [".PNG"]\nmean = [0.1, 0.2, 0.3]\nbatch_size = "1:8:16"\njson = true\n'
    )

    request = read(["--config", str(config)])

    assert request.settings.sources == ("a dir", "b")
    assert request.settings.recursive is False
    assert request.settings.extensions == [".png"]
    assert request.settings.mean == (0.1, 0.2, 0.3)
    assert request.settings.batch_size == "1:8:16"
    assert request.manners.json is True


def test_one_directory_in_a_file_may_hold_spaces(tmp_path):
    config = tmp_path / "nightly.toml"
    config.write_text('images = "my photos"\nmodel = "m"\noutput = "o"\n')

    assert read(["--config", str(config)]).settings.sources == ("my photos",)


def test_directories_in_a_variable_are_separated_as_in_path(monkeypatch):
    monkeypatch.setenv("NIGHTSHIFT_IMAGES", os.pathsep.join(["my photos", "more"]))

    assert read(["-m", "m", "-o", "o"]).settings.sources == ("my photos", "more")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("top_k = 0", "top_k (--top-k): 0 given, expected an integer from 1 to 1000 (from "),
        ("top_q = 1", "Unknown option"),
        ("top_k = ", "cannot be read"),
    ],
)
def test_a_mistake_in_the_file_names_the_file(tmp_path, text, expected):
    config = tmp_path / "nightly.toml"
    config.write_text(text)

    with pytest.raises(UsageError, match=r"nightly\.toml") as caught:
        read([*ASKED, "--config", str(config)])
    assert expected in str(caught.value)


def test_a_file_may_hold_the_options_of_other_commands(tmp_path):
    config = tmp_path / "nightly.toml"
    config.write_text('model = "m"\noutput = "o"\nseconds = 1.0\nrebuild = true\ntop_k = 3\n')

    assert read(["photos", "--config", str(config)]).settings.top_k == 3


def test_a_mistake_in_a_variable_names_the_variable(monkeypatch):
    monkeypatch.setenv("NIGHTSHIFT_TOP_K", "many")

    with pytest.raises(UsageError, match="NIGHTSHIFT_TOP_K"):
        read(ASKED)


def test_a_range_that_begins_with_a_dash_is_a_value():
    assert read([*ASKED, "--pixel-range", "-1-1"]).settings.pixel_range == "-1-1"
    assert read([*ASKED, "--mean", "-1", "-2.5", "0"]).settings.mean == (-1, -2.5, 0)


def test_help_is_quick_and_imports_nothing_heavy():
    code = (
        "import sys\n"
        "from flows.classify_command import main\n"
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
    for word in ("IMAGES", "--model", "--output", "Preprocessing", "Exit codes", "--direct"):
        assert word in done.stdout


@pytest.mark.parametrize("columns", [80, 120])
def test_help_fits_the_terminal(columns):
    done = subprocess.run(
        [sys.executable, "-m", "flows.classify_dir", "--help"],
        cwd=ROOT,
        env=os.environ | {"COLUMNS": str(columns)},
        capture_output=True,
        text=True,
        check=True,
    )

    assert max(map(len, done.stdout.splitlines())) <= columns


def test_version_is_one_line(capsys):
    assert main(["--version"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1
