"""The example's trained model and its images, prepared rightly or as wrongly as a test wants."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, helper, numpy_helper
from PIL import Image

from engines.graph import inspect
from engines.model import Model, ModelRequest, load_model
from engines.preprocess import PreprocessSpec
from engines.wrap import wrap

ROOT = Path(__file__).parent.parent.parent / "examples/digits"


@cache
def right_model() -> Model:
    """As its own files describe it: pixels of -1 to 1."""
    return load_model(ModelRequest(path=ROOT / "model"))


def model_with(*, scaling_inside: bool = False, **device: object) -> Model:
    """The model with another device part of the preprocessing.

    Args:
        scaling_inside: Let the graph bring pixels of 0 to 255 to -1 to 1 by itself.
        device: Fields of `PreprocessSpec`; none of them is applied unless given.
    """
    right = right_model()
    spec = PreprocessSpec(host=right.spec.host, **{"scale": 1.0, **device})
    proto = onnx.load(ROOT / "model/model.onnx")
    if scaling_inside:
        scale_inside(proto)
    info = inspect(proto)
    wrap(proto, info, spec, classes=10, activation="softmax", top_k=5)
    return replace(right, spec=spec, graph=proto.SerializeToString())


def scale_inside(proto: ModelProto) -> None:
    """Put x / 127.5 - 1 before everything else, as Keras' Rescaling layer does."""
    graph = proto.graph
    name = graph.input[0].name
    for node in graph.node:
        node.input[:] = ["scaled" if given == name else given for given in node.input]
    constants = {"factor": np.float32(1 / 127.5), "one": np.float32(1)}
    graph.initializer.extend(numpy_helper.from_array(np.array(v), n) for n, v in constants.items())
    graph.node.insert(0, helper.make_node("Mul", [name, "factor"], ["doubled"]))
    graph.node.insert(1, helper.make_node("Sub", ["doubled", "one"], ["scaled"]))


@cache
def images() -> tuple[NDArray[np.uint8], tuple[int, ...]]:
    """All 450 images as the model gets them, uint8 [450, 32, 32, 3], and their labels' ids."""
    files = sorted((ROOT / "images").glob("*/*"))
    pixels = []
    for file in files:
        with Image.open(file) as image:
            small = image.convert("RGB").resize((32, 32), Image.Resampling.BILINEAR)
        pixels.append(np.asarray(small))
    labels = right_model().labels
    return np.stack(pixels), tuple(labels.index(file.parent.name) for file in files)


def some(count: int = 64, label: int | None = None) -> tuple[NDArray[np.uint8], list[int]]:
    """Images drawn at random, of all labels or of one, and their labels' ids."""
    pixels, ids = images()
    candidates = [i for i, label_id in enumerate(ids) if label in (None, label_id)]
    chosen = np.random.default_rng(0).permutation(candidates)[:count]
    return pixels[chosen], [ids[index] for index in chosen]
