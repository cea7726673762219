"""What calibration and gate are given to work on, and what one's refusal means for the other."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import tasks.proof
from engines.errors import CalibrationError, ModelError
from engines.model import load_model
from shards.decode import Limits
from tasks.decode_into import DecodeInto
from tasks.prepare import model_request
from tasks.proof import Proof
from tasks.sample import in_directory
from tasks.settings import BuildSettings

DIGITS = Path(__file__).parent.parent.parent / "examples/digits"


@pytest.fixture
def proof(tmp_path):
    model = load_model(model_request(BuildSettings(model=str(DIGITS / "model"))))
    with DecodeInto(model.spec.host, Limits(), workers=2) as fill:
        yield Proof(
            model,
            fill,
            cache=tmp_path,
            extensions=[".jpg"],
            precision="auto",
            calibration_images=str(DIGITS / "images"),
            method="entropy",
            gate_images=40,
            gate_from=lambda: in_directory(os.fsencode(DIGITS / "images"), extensions=[".jpg"]),
        )


def refuse(error):
    def calibrated(*given, **named):
        raise error

    return calibrated


def test_a_model_that_int8_cannot_serve_is_still_compared_in_fp16(proof, monkeypatch):
    monkeypatch.setattr(tasks.proof, "calibrated", refuse(ModelError("no convolution")))
    with pytest.raises(ModelError, match="no convolution"):
        _ = proof.calibrated
    assert proof.gate is not None


def test_images_that_cannot_be_used_end_the_run(proof, monkeypatch):
    monkeypatch.setattr(tasks.proof, "calibrated", refuse(CalibrationError("all alike")))
    with pytest.raises(CalibrationError, match="all alike"):
        _ = proof.gate
