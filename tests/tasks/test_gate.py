"""The gate on real images, decoding and a real model, with candidates that are right or not."""

from __future__ import annotations

import logging
import os
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from engines.model import load_model
from engines.onnx_runtime import OnnxRuntimeClassifier
from engines.verdict import Thresholds, judge
from shards.decode import Limits
from tasks.decode_into import DecodeInto
from tasks.gate import Gate, GateImages
from tasks.prepare import model_request
from tasks.sample import draw, in_directory, real_paths
from tasks.settings import BuildSettings

DIGITS = Path(__file__).parent.parent.parent / "examples/digits"


@pytest.fixture(scope="module")
def model():
    return load_model(model_request(BuildSettings(model=str(DIGITS / "model"))))


def images(wanted=40, folder=DIGITS / "images", **more):
    found = in_directory(os.fsencode(folder), extensions=[".jpg", ".png"])
    sample = draw(found, front=0, back=wanted)
    values = {"candidates": sample.back, "wanted": wanted, "available": sample.available}
    return GateImages(**(values | more))


@pytest.fixture(scope="module")
def gate(model):
    with DecodeInto(model.spec.host, Limits(), workers=2) as fill:
        yield lambda model, images: Gate(model, images, fill, workers=2)


def candidate(model, batch_size=16):
    return OnnxRuntimeClassifier(model, batch_size=batch_size, logits=True)


def changed(model, change):
    """The model with other weights."""
    proto = onnx.load_model_from_string(model.graph)
    for tensor in proto.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT and len(tensor.dims) > 1:
            array = change(numpy_helper.to_array(tensor)).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    return replace(model, graph=proto.SerializeToString())


def test_the_model_agrees_with_itself_on_images_whose_labels_are_known(gate, model):
    with candidate(model) as classifier:
        evidence = gate(model, images()).evidence(classifier)
        assert classifier.acquire() is not None  # free again
    found = evidence.comparison
    assert (found.images, evidence.wanted, evidence.available, found.flips) == (40, 40, 450, 0)
    assert found.worst_error < 1e-4
    assert found.batch_difference < 1e-4
    assert found.accuracy.images == 40
    assert found.accuracy.reference == found.accuracy.candidate > 0.9


def test_a_spoilt_model_is_found_out_and_one_reference_serves_several_candidates(
    gate, model, caplog
):
    caplog.set_level(logging.INFO)
    compared = gate(model, images())
    rng = np.random.default_rng(0)
    verdicts = []
    for noise in (1e-4, 3.0):
        spoilt = changed(model, lambda w, n=noise: w + rng.normal(0, n * w.std(), w.shape))
        with candidate(spoilt) as classifier:
            evidence = compared.evidence(classifier)
        verdicts.append(judge("fp16", evidence, Thresholds.of("fp16")))
    assert [verdict.passed for verdict in verdicts] == [True, False]
    assert verdicts[1].evidence.comparison.worst_flips[0].image.endswith((".jpg", ".png"))
    assert caplog.text.count("comparing with the fp32 model") == 1


def test_damaged_images_are_passed_over_and_counted(gate, model, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    good = sorted((DIGITS / "images").rglob("*.jpg"))[:20]
    for number, path in enumerate(good):
        (tmp_path / f"{number}.jpg").write_bytes(path.read_bytes() if number % 2 else b"no image")
    with candidate(model) as classifier:
        evidence = gate(model, images(wanted=10, folder=tmp_path)).evidence(classifier)
    assert (evidence.comparison.images, evidence.comparison.accuracy) == (10, None)
    assert evidence.available == 20
    assert re.search(r"gate: ([1-9]|10) of (1\d|20) images cannot be decoded", caplog.text)


def test_without_an_image_there_is_no_evidence(gate, model, tmp_path):
    (tmp_path / "1.jpg").write_bytes(b"no image")
    with candidate(model) as classifier:
        assert gate(model, images(folder=tmp_path)).evidence(classifier) is None


def test_a_model_that_is_broken_itself_proves_nothing(gate, model, caplog):
    broken = changed(model, lambda weights: np.full_like(weights, np.nan))
    with candidate(model) as classifier:
        assert gate(broken, images(wanted=5)).evidence(classifier) is None
    assert "NaN or infinity in fp32, for every image" in caplog.text


def test_images_of_the_calibration_are_used_only_for_want_of_others(gate, model):
    every = images(wanted=300)
    half = real_paths(every.candidates[::2])
    fresh, shared = images(wanted=300, calibrated=half).in_order()
    assert (len(fresh), shared) == (225, frozenset())
    assert not real_paths(fresh) & half
    most = real_paths(every.candidates[10:])
    mixed = images(wanted=50, calibrated=most)
    with candidate(model) as classifier:
        evidence = gate(model, mixed).evidence(classifier)
    assert (evidence.comparison.images, evidence.shared) == (50, 40)
    assert [c.path for c in mixed.in_order()[0][:10]] == [c.path for c in every.candidates[:10]]
