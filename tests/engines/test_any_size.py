"""One graph for several resolutions."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from engines.errors import ModelError
from engines.model import ModelRequest, load_model
from engines.ort_session import Session
from engines.preprocess import PreprocessOverrides


def pooling_model(path, size=("height", "width")):
    """Mean of each channel times known weights: any size will do."""
    weights = np.arange(12, dtype=np.float32).reshape(3, 4)
    nodes = [
        helper.make_node("GlobalAveragePool", ["x"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weights"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "pooling",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, *size])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 4])],
        [numpy_helper.from_array(weights, "weights")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)
    return path


def request(path, size, **options):
    overrides = PreprocessOverrides(input_size=(size, size))
    return ModelRequest(path=path, preprocess="torchvision-v1", overrides=overrides, **options)


def test_the_graph_is_the_same_for_every_size_and_runs_at_each(tmp_path):
    path = pooling_model(tmp_path / "model.onnx")
    small, large = (load_model(request(path, size, any_size=True)) for size in (16, 48))
    assert small.graph == large.graph
    assert small.model_id != large.model_id
    session = Session(small.graph, threads=1)
    grey = [np.full((2, size, size, 3), 100, np.uint8) for size in (16, 48)]
    first, second = (session.run(["scores"], {"images": images})[0] for images in grey)
    np.testing.assert_allclose(first, second, rtol=1e-5)


def test_without_it_the_size_is_part_of_the_graph(tmp_path):
    path = pooling_model(tmp_path / "model.onnx")
    small, large = (load_model(request(path, size)) for size in (16, 48))
    assert small.graph != large.graph


def test_a_model_of_one_size_is_refused(tmp_path):
    path = pooling_model(tmp_path / "model.onnx", size=(32, 32))
    with pytest.raises(ModelError, match=r"--image-size: the graph of .* takes images of 32x32"):
        load_model(request(path, 32, any_size=True))
