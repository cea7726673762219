"""The command inspect_engine, in a real process, with no GPU."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from flows.inspect_command import main
from tests.flows.conftest import clean_environment
from tests.tasks.test_inspect_engine import add_real

ROOT = Path(__file__).parent.parent.parent


def test_stdout_has_the_report_and_the_page_is_written(tmp_path):
    add_real(tmp_path / "cache")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "flows.inspect_engine", "resnet50", "--json"),
            *("--engine-cache", tmp_path / "cache", "--html", tmp_path / "page.html"),
        ],
        cwd=ROOT,
        env=clean_environment(tmp_path / "home"),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert (answer["model_id"], answer["nodes"]) == ("resnet50@0123456789ab", 31)
    assert answer["page"] == str(tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text().startswith("<!doctype html>")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["resnet50"], "the store holds no engine of resnet50"),
        (["resnet50", "--seconds", "0"], "seconds (--seconds): 0.0 given"),
        (["resnet50", "--batch-size", "8"], "Unknown option"),
        ([], "model (--model): no value given"),
    ],
)
def test_a_mistake_is_told_in_words(options, expected, tmp_path, capsys):
    assert main([*options, "--engine-cache", str(tmp_path)]) == 2
    assert expected in capsys.readouterr().err
