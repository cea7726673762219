from __future__ import annotations

import hashlib
import json

import numpy as np
import onnx
import pytest

from engines.errors import CalibrationError, ModelError
from engines.ort_session import Session
from engines.quantize.calibrate import calibrate
from engines.quantize.calibration import Calibration
from tests.engines.quantize.networks import network, photographs

GRAPH = network(["identity", "downsample"])


def calibrated(images: np.ndarray, graph: bytes = GRAPH, method: str = "entropy") -> Calibration:
    return calibrate(graph, [images], method=method, threads=1)


def test_ranges_are_those_of_the_activations():
    images = photographs(40)
    found = calibrated(images, method="minmax")
    model = onnx.load_model_from_string(GRAPH)
    for name in found.ranges:
        model.graph.output.append(onnx.helper.make_tensor_value_info(name, 1, None))
    session = Session(model.SerializeToString(), threads=1)
    for name, values in zip(
        found.ranges, session.run(list(found.ranges), {"images": images}), strict=True
    ):
        assert found.ranges[name] == pytest.approx((values.min(), values.max()), rel=1e-5)


def test_it_says_what_it_was_made_from():
    images = photographs(40)
    found = calibrated(images)
    assert (found.method, found.images) == ("entropy", 40)
    assert found.graph_digest == hashlib.sha256(GRAPH).hexdigest()
    assert calibrated(images[::-1].copy()).images_digest != found.images_digest


def test_batches_of_any_size_give_the_same_and_progress_is_told():
    images, done = photographs(40), []
    batches = [images[:1], images[1:30], images[30:]]
    apart = calibrate(GRAPH, batches, method="entropy", threads=1, progress=done.append)
    whole = calibrated(images)
    assert apart.images_digest == whole.images_digest
    assert done[-1] == 40
    assert done == sorted(done)
    for name, bounds in whole.ranges.items():
        assert apart.ranges[name] == pytest.approx(bounds, rel=1e-4)


@pytest.mark.parametrize(
    "images", [photographs(31), np.repeat(photographs(31), 2, axis=0), np.zeros((40, 32, 32, 3))]
)
def test_fewer_than_32_different_images_are_refused(images):
    different = len(np.unique(images, axis=0))
    with pytest.raises(
        CalibrationError, match=f"needs 32 different images, there are {different}:"
    ):
        calibrated(images.astype(np.uint8))


def test_no_images_at_all_are_refused():
    with pytest.raises(CalibrationError, match="there are 0"):
        calibrate(GRAPH, [], method="minmax", threads=1)


def test_a_model_that_overflows_in_fp32_is_refused_by_the_name_of_the_tensor():
    model = onnx.load_model_from_string(GRAPH)
    for tensor in model.graph.initializer:
        if tensor.name == "w_1":
            weight = onnx.numpy_helper.to_array(tensor) * np.float32(1e38)
            tensor.CopyFrom(onnx.numpy_helper.from_array(weight, "w_1"))
    with pytest.raises(CalibrationError, match=r"tensor 'relu_\d+' of the fp32 model holds values"):
        calibrated(photographs(40), model.SerializeToString())


def test_a_model_without_layers_to_quantize_is_refused():
    model = onnx.load_model_from_string(network([]))
    weights = {"w_1", "w_2"}
    for tensor in model.graph.initializer:
        if tensor.name in weights:
            half = onnx.numpy_helper.to_array(tensor).astype(np.float64)
            tensor.CopyFrom(onnx.numpy_helper.from_array(half, tensor.name))
    with pytest.raises(ModelError, match="no convolution and no product"):
        calibrated(photographs(40), model.SerializeToString())


def test_json_gives_the_same_calibration_back():
    found = calibrated(photographs(40))
    again = Calibration.from_json(found.to_json())
    assert again == found
    assert again.digest == found.digest == hashlib.sha256(found.to_json()).hexdigest()


def test_the_digest_changes_with_any_range():
    values = json.loads(calibrated(photographs(40)).to_json())
    name = next(iter(values["ranges"]))
    digest = Calibration.from_json(json.dumps(values).encode()).digest
    values["ranges"][name][1] *= 1.001
    assert Calibration.from_json(json.dumps(values).encode()).digest != digest


@pytest.mark.parametrize(
    "change",
    [
        lambda values: values.pop("method"),
        lambda values: values.update(method="median"),
        lambda values: values.update(ranges={"x": [1.0]}),
        lambda values: values.update(ranges={"x": [2.0, 1.0]}),
        lambda values: values.update(ranges={"x": [0.0, float("inf")]}),
        lambda values: values.update(more=1),
    ],
)
def test_json_of_something_else_is_refused(change):
    values = json.loads(calibrated(photographs(40)).to_json())
    change(values)
    with pytest.raises(ValueError, match=r"calibration|range"):
        Calibration.from_json(json.dumps(values).encode())
