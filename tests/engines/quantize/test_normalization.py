from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import ModelProto

from engines.graph import inspect
from engines.ort_session import Session
from engines.quantize.normalization import normalize_before_transpose
from engines.wrap import wrap
from tests.models.tiny import Tiny, spec_for

IMAGES = np.random.default_rng(1).integers(0, 256, (5, 4, 6, 3), np.uint8)


def wrapped(tiny: Tiny, order: str) -> ModelProto:
    model = tiny.proto()
    spec = spec_for(tiny.size, channel_order=order)
    wrap(model, inspect(model), spec, classes=tiny.classes, activation="softmax", top_k=5)
    return model


def own(model: ModelProto) -> list[str]:
    """Operators between the pixels and the model."""
    names = [node.op_type for node in model.graph.node if node.name.startswith("nightshift/")]
    return names[: names.index("Cast", 1)]


def logits(model: ModelProto) -> np.ndarray:
    session = Session(model.SerializeToString(), threads=1, optimise=False)
    return session.run(["logits"], {"images": IMAGES})[0]


@pytest.mark.parametrize(
    ("order", "before", "after"),
    [
        ("rgb", ["Transpose", "Sub", "Mul"], ["Sub", "Mul", "Transpose"]),
        ("bgr", ["Transpose", "Sub", "Mul", "Gather"], ["Gather", "Sub", "Mul", "Transpose"]),
    ],
)
def test_the_model_gets_the_same_numbers_to_the_last_bit(order, before, after):
    model = wrapped(Tiny(), order)
    assert own(model) == ["Cast", *before]
    expected = logits(model)
    normalize_before_transpose(model)
    assert own(model) == ["Cast", *after]
    onnx.checker.check_model(model, full_check=True)
    np.testing.assert_array_equal(logits(model), expected)


@pytest.mark.parametrize(
    "tiny", [Tiny(layout="nhwc"), Tiny(dtype="uint8")], ids=["takes NHWC", "normalises by itself"]
)
def test_what_has_no_normalisation_behind_a_transpose_stays_as_it_is(tiny):
    for order in ("rgb", "bgr"):
        model = wrapped(tiny, order)
        kept = model.SerializeToString()
        normalize_before_transpose(model)
        assert model.SerializeToString() == kept
