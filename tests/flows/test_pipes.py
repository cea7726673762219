"""Readers that go away (`| head -1`), and errors of a command line as JSON."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.flows.conftest import FAKE_RUN, clean_environment

ROOT = Path(__file__).parent.parent.parent
RUN = (str(FAKE_RUN), "photos", "-m", "model", "-o")


def start(
    arguments: tuple[str, ...], home: Path, gone: str, **variables: str
) -> subprocess.CompletedProcess[bytes]:
    """Run Python with streams that nobody reads any more."""
    reader, writer = os.pipe()
    os.close(reader)
    streams = {name: writer if name in gone else subprocess.PIPE for name in ("stdout", "stderr")}
    try:
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=ROOT,
            env=clean_environment(home) | variables,
            timeout=60,
            **streams,
        )
    finally:
        os.close(writer)


@pytest.mark.parametrize(
    ("arguments", "exit_code"),
    [
        (("-m", "flows.inspect_engine", "--help"), 0),
        (("-m", "flows.inspect_engine", "--version"), 0),
        (("-m", "flows.inspect_engine", "none", "--engine-cache", "{}", "--json"), 2),
        ((*RUN, "{}", "--direct"), 0),
        ((*RUN, "{}", "--direct", "--json"), 0),
    ],
)
@pytest.mark.parametrize("gone", ["stdout", "stderr", "stdout stderr"])
def test_a_command_ends_as_ever_when_its_reader_has_gone(arguments, exit_code, gone, tmp_path):
    arguments = tuple(text.format(tmp_path / "out") for text in arguments)
    done = start(arguments, tmp_path / "home", gone)
    assert done.returncode == exit_code
    assert b"Traceback" not in (done.stderr or b"")
    assert b"BrokenPipe" not in (done.stderr or b"")


def test_an_unexpected_error_is_told_without_its_reader(tmp_path):
    fake = json.dumps({"raises": {"plan": "unexpected"}})
    assert (
        start((*RUN, str(tmp_path), "--direct"), tmp_path / "home", "stderr", FAKE=fake).returncode
        == 1
    )


@pytest.mark.parametrize("value", ["1", "true", "Yes"])
def test_a_mistake_is_told_as_json_where_the_variable_asks_for_it(value, tmp_path):
    done = start(("-m", "flows.inspect_engine", "--nope"), tmp_path, "", NIGHTSHIFT_JSON=value)
    assert done.returncode == 2
    assert "--nope" in json.loads(done.stdout)["error"]
