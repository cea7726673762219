"""What the gate is to stop: models that compute the same in fp32, and break by our own recipes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import load_model_from_string
from onnx.reference import ReferenceEvaluator
from PIL import Image

from engines.gate import compare
from engines.model import ModelRequest, load_model
from engines.ort_session import Session
from engines.precision import apply_precision
from engines.quantize.calibrate import calibrate
from engines.verdict import Evidence, Thresholds, judge
from engines.wrap import IMAGES, LOGITS
from tests.models.brittle import break_fp16, break_int8, broken_folder

DIGITS = Path(__file__).parent.parent.parent / "examples/digits"


@pytest.fixture(scope="module")
def pictures():
    """uint8 [64, 32, 32, 3]: 64 digits, of all labels."""
    paths = sorted((DIGITS / "images").rglob("*.*"), key=lambda path: path.name)[:64]
    return np.stack(
        [np.asarray(Image.open(path).convert("RGB").resize((32, 32))) for path in paths]
    )


def graph(folder):
    return load_model(ModelRequest(path=folder)).graph


def run(model, images):
    return Session(model, threads=1).run([LOGITS], {IMAGES: images})[0]


def in_real_fp16(model, images):
    """By NumPy, whose fp16 overflows as a GPU's does; ONNX Runtime computes it in fp32 on a CPU."""
    with np.errstate(all="ignore"):
        evaluator = ReferenceEvaluator(load_model_from_string(model))
        return evaluator.run([LOGITS], {IMAGES: images})[0]


def verdict(precision, reference, candidate):
    found = compare(
        reference,
        candidate,
        images=[str(row) for row in range(len(reference))],
        labels=[str(label) for label in range(reference.shape[1])],
    )
    evidence = Evidence(comparison=found, wanted=len(reference), available=len(reference))
    return judge(precision, evidence, Thresholds.of(precision))


@pytest.mark.parametrize("broken", [break_fp16, break_int8])
def test_in_fp32_they_compute_what_the_model_did(broken, pictures, tmp_path):
    expected = run(graph(DIGITS / "model"), pictures)
    found = run(graph(broken_folder(DIGITS / "model", tmp_path / "model", broken)), pictures)
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize(
    ("broken", "passes"), [(None, True), (break_int8, True), (break_fp16, False)]
)
def test_fp16_fails_where_activations_overflow_and_only_there(broken, passes, pictures, tmp_path):
    folder = DIGITS / "model"
    if broken is not None:
        folder = broken_folder(folder, tmp_path / "model", broken)
    fp32 = graph(folder)
    few = pictures[:8]
    found = verdict("fp16", run(fp32, few), in_real_fp16(apply_precision(fp32, "fp16"), few))
    assert found.passed is passes
    if not passes:
        assert "8 of 8 images have NaN or infinity among their logits" in found.reasons[0]


@pytest.mark.parametrize(("broken", "passes"), [(None, True), (break_int8, False)])
@pytest.mark.parametrize("method", ["entropy", "percentile", "minmax"])
def test_int8_fails_where_one_scale_cannot_serve_all_channels(
    broken, passes, method, pictures, tmp_path
):
    folder = DIGITS / "model"
    if broken is not None:
        folder = broken_folder(folder, tmp_path / "model", broken)
    fp32 = graph(folder)
    ranges = calibrate(fp32, [pictures[:40]], method=method, threads=1)
    int8 = apply_precision(fp32, "int8", calibration=ranges, target="onnxruntime")
    found = verdict("int8", run(fp32, pictures), run(int8, pictures))
    assert found.passed is passes
    if not passes:
        assert "get another label than in fp32" in found.reasons[0]
        assert found.evidence.comparison.top1_agreement < 0.5
