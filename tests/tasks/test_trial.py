from __future__ import annotations

import json
import logging

import pytest

from engines.errors import ModelError
from engines.onnx_runtime import OnnxRuntimeClassifier
from tasks.trial import try_out
from tests.models import digits


def tried(model):
    with OnnxRuntimeClassifier(model, batch_size=8, logits=True) as classifier:
        return try_out(model, classifier)


def test_a_sound_model_is_let_through_in_one_line(caplog):
    caplog.set_level(logging.INFO, "tasks")
    assert {check.status for check in tried(digits.right_model())} == {"passed"}
    [record] = caplog.records
    assert record.levelno == logging.INFO
    assert record.getMessage().startswith("self-test: 6 checks passed (")


def test_a_doubtful_one_is_let_through_with_a_warning(caplog):
    caplog.set_level(logging.INFO, "tasks")
    tried(digits.model_with(scale=1.0))
    warning, summary = caplog.records
    assert warning.levelno == logging.WARNING
    assert "self-test: size of logits: as large as" in warning.getMessage()
    assert summary.getMessage().startswith("self-test: 5 checks passed, 1 warning (")


def test_one_that_cannot_be_right_is_refused_with_the_ways_out():
    with pytest.raises(ModelError) as caught:
        tried(digits.model_with(scaling_inside=True, scale=1 / 255))
    assert caught.value.exit_code == 2
    text = str(caught.value)
    assert text.startswith("the model's self-test failed. images differ: logits of 4 different")
    for way in ("--pixel-range 0-255", "python -m flows.doctor --model", "--no-self-test"):
        assert way in text
    json.dumps(text)
