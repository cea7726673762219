"""A line through measurements, and a small run of all of them."""

import json
import subprocess
import sys

import pytest

from benchmarks.reliability.extrapolate import STEPS, line


def test_a_line_goes_through_what_lies_on_it():
    found = line({100: 1.2, 300: 1.6, 1000: 3.0})
    assert [found(size) for size in (0, 10_000)] == pytest.approx([1.0, 21.0])


def test_a_line_heeds_relative_errors():
    """One second too many at the largest size weighs less than it would at the smallest."""
    found = line({100: 1.0, 1_000: 10.0, 10_000: 101.0})
    assert found(100) == pytest.approx(1.0, rel=0.01)


def test_every_step_is_measured_at_every_size(tmp_path):
    code = (
        "from benchmarks.reliability import extrapolate as e; from pathlib import Path; "
        f"e.main(sizes=(20, 60), check=(100,), rounds=1, json_file=Path({str(tmp_path / 'j')!r}))"
    )
    command = [sys.executable, "-c", code]
    answer = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout
    report = json.loads((tmp_path / "j").read_text())
    assert list(report["measured"]) == ["20", "60", "100"]
    assert all(list(steps) == list(STEPS) for steps in report["measured"].values())
    assert "| 10,000,000 by the line |" in answer
