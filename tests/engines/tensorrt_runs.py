"""What the tests of the runner share: a linear graph with exact arithmetic, and its plans."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from engines.classifier import Predictions
from engines.tensorrt_runner import TensorRTClassifier
from tests.simulators.plans import build_plan

__all__ = ["HEIGHT", "WIDTH", "infer", "linear_graph", "open_linear", "same"]

HEIGHT, WIDTH, CLASSES, COLUMNS = 2, 3, 5, 3


def linear_graph(*, logits: bool = False, id_type: int = TensorProto.INT32) -> bytes:
    """Cast, Flatten, MatMul, TopK: no softmax, and sums of integers, which no order changes."""
    weights = np.random.default_rng(0).integers(-9, 10, (HEIGHT * WIDTH * 3, CLASSES))
    node, value = helper.make_node, helper.make_tensor_value_info
    nodes = [
        node("Cast", ["images"], ["float"], to=TensorProto.FLOAT),
        node("Flatten", ["float"], ["flat"]),
        node("MatMul", ["flat", "weights"], ["logits"]),
        node("TopK", ["logits", "k"], ["scores", "ids"], axis=1),
        node("Cast", ["ids"], ["label_ids"], to=id_type),
    ]
    outputs = [
        value("scores", TensorProto.FLOAT, ["batch", COLUMNS]),
        value("label_ids", id_type, ["batch", COLUMNS]),
        *([value("logits", TensorProto.FLOAT, ["batch", CLASSES])] if logits else []),
    ]
    graph = helper.make_graph(
        nodes,
        "linear",
        [value("images", TensorProto.UINT8, ["batch", HEIGHT, WIDTH, 3])],
        outputs,
        [
            numpy_helper.from_array(weights.astype(np.float32), "weights"),
            numpy_helper.from_array(np.array([COLUMNS]), "k"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return model.SerializeToString()


def open_linear(
    graph: bytes | None = None, *, batch_size: int = 4, smallest: int = 1, **options: object
) -> TensorRTClassifier:
    """An open classifier over the linear graph, or over another of its image size."""
    plan = build_plan(
        linear_graph() if graph is None else graph,
        batch=(smallest, batch_size, batch_size),
        size=(HEIGHT, WIDTH),
    )
    return TensorRTClassifier(
        plan, batch_size=batch_size, image_size=(HEIGHT, WIDTH), precision="fp32", **options
    )


def infer(classifier: TensorRTClassifier, images: np.ndarray) -> Predictions:
    """One batch, start to end."""
    slot = classifier.acquire()
    slot.images[: len(images)] = images
    classifier.submit(slot, len(images))
    return classifier.collect()


def same(one: Predictions, other: Predictions) -> bool:
    """Equal bit for bit."""
    return np.array_equal(one.label_ids, other.label_ids) and np.array_equal(
        one.scores, other.scores
    )
