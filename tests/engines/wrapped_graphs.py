"""Small wrapped graphs, made by hand: what the model loader hands to the engine builder."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FLOAT, FLOAT16, INT32, UINT8 = (
    TensorProto.FLOAT,
    TensorProto.FLOAT16,
    TensorProto.INT32,
    TensorProto.UINT8,
)
CLASSES = 7


def wrapped_cnn(
    *,
    height: int | str = 16,
    width: int | str = 16,
    seed: int = 0,
    largest_weight: float | None = None,
    opset: int = 17,
    logits: bool = False,
) -> bytes:
    """Cast, Transpose, Sub, Mul, two convolutions, Clip, pooling, Gemm, Softmax, TopK."""
    random = np.random.default_rng(seed)
    weights = {
        "conv1": random.normal(size=(8, 3, 3, 3)).astype(np.float32) / 5,
        "conv2": random.normal(size=(8, 8, 3, 3)).astype(np.float32) / 8,
        "fc": random.normal(size=(CLASSES, 8)).astype(np.float32),
        "low": np.zeros((), np.float32),
        "high": np.full((), np.finfo(np.float32).max, np.float32),
        "nightshift/mean": np.array([123.0, 116, 103], np.float32).reshape(1, 3, 1, 1),
        "nightshift/scale": np.full((1, 3, 1, 1), 1 / 58, np.float32),
        "nightshift/k": np.array([5], np.int64),
    }
    if largest_weight is not None:
        weights["conv1"][0, 0, 0, 0] = largest_weight
    node = helper.make_node
    nodes = [
        node("Cast", ["images"], ["n.float"], "nightshift/cast", to=FLOAT),
        node("Transpose", ["n.float"], ["n.nchw"], "nightshift/transpose", perm=[0, 3, 1, 2]),
        node("Sub", ["n.nchw", "nightshift/mean"], ["n.centred"], "nightshift/sub"),
        node("Mul", ["n.centred", "nightshift/scale"], ["x"], "nightshift/mul"),
        node("Conv", ["x", "conv1"], ["c1"], "conv1", pads=[1, 1, 1, 1]),
        node("Clip", ["c1", "low", "high"], ["r1"], "clip"),
        node("Conv", ["r1", "conv2"], ["c2"], "conv2", pads=[1, 1, 1, 1]),
        node("Add", ["c2", "r1"], ["sum"], "add"),
        node("GlobalAveragePool", ["sum"], ["pooled"], "pool"),
        node("Flatten", ["pooled"], ["flat"], "flatten"),
        node("Gemm", ["flat", "fc"], ["logits"], "fc", transB=1),
        node("Softmax", ["logits"], ["n.probabilities"], "nightshift/softmax", axis=1),
        node("TopK", ["n.probabilities", "nightshift/k"], ["scores", "n.ids"], "nightshift/topk"),
        node("Cast", ["n.ids"], ["label_ids"], "nightshift/ids", to=INT32),
    ]
    outputs = [
        helper.make_tensor_value_info("scores", FLOAT, ["batch", 5]),
        helper.make_tensor_value_info("label_ids", INT32, ["batch", 5]),
    ]
    if logits:
        outputs.append(helper.make_tensor_value_info("logits", FLOAT, ["batch", CLASSES]))
    graph = helper.make_graph(
        nodes,
        "cnn",
        [helper.make_tensor_value_info("images", UINT8, ["batch", height, width, 3])],
        outputs,
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


def images(count: int, height: int = 16, width: int = 16) -> np.ndarray:
    """uint8 [count, height, width, 3] noise."""
    return np.random.default_rng(1).integers(0, 256, (count, height, width, 3), np.uint8)
