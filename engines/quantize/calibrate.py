"""Measures the range of every activation that may be quantized, on the user's own images."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto

from engines.errors import CalibrationError, ModelError
from engines.ort_session import Session
from engines.quantize.calibration import CALIBRATION_RECIPE, Calibration
from engines.quantize.for_cpu import place_for_cpu
from engines.quantize.for_tensorrt import place_for_tensorrt
from engines.quantize.histogram import Histogram, Method
from engines.quantize.normalization import normalize_before_transpose
from engines.quantize.placement import Placement
from engines.quantize.simplify import simplify
from engines.quantize.wiring import Wiring
from engines.wrap import IMAGES

__all__ = ["MIN_IMAGES", "Progress", "calibrate"]

MIN_IMAGES = 32
"""Fewer say little of what the activations can be."""

IMAGES_AT_ONCE = 4
"""All activations of so many images are in memory together: 270 MB for ResNet-50 at 224x224."""

Progress = Callable[[int], None]
"""Called with the number of images done."""

Images = NDArray[np.uint8]


def calibrate(
    graph: bytes,
    batches: Iterable[Images],
    *,
    method: Method,
    threads: int,
    progress: Progress = lambda _: None,
) -> Calibration:
    """Run the fp32 model on images and choose the range of each activation.

    Args:
        graph: The wrapped fp32 graph.
        batches: Images as the model gets them, uint8 [n, height, width, 3]; all of one size.
        method: How to choose, see `engines.quantize.histogram`.
        threads: Threads that compute.
        progress: Told how far it is.

    Raises:
        CalibrationError: There are fewer than 32 different images, or they make activations that
            are infinite or not a number.
        ModelError: The model holds nothing that can be quantized.
    """
    model = simplify(graph)
    tensors = _measured(graph, model)
    session = Session(_with_outputs(model, tensors), threads=threads)
    histograms = {name: Histogram() for name in tensors}
    seen: list[bytes] = []
    for images in _in_pieces(batches):
        seen += [hashlib.sha256(image.tobytes()).digest() for image in images]
        for name, values in zip(tensors, session.run(tensors, {IMAGES: images}), strict=True):
            try:
                histograms[name].add(values)
            except ValueError as error:
                raise CalibrationError(f"tensor {name!r} of the fp32 model {error}") from error
        progress(len(seen))
    if len(set(seen)) < MIN_IMAGES:
        raise CalibrationError(
            f"calibration needs {MIN_IMAGES} different images, there are {len(set(seen))}: give "
            "more of the kind that will be classified; some hundreds are enough"
        )
    return Calibration(
        method=method,
        images=len(seen),
        images_digest=hashlib.sha256(b"".join(seen)).hexdigest(),
        graph_digest=hashlib.sha256(graph).hexdigest(),
        recipe=CALIBRATION_RECIPE,
        ranges={name: histogram.range(method) for name, histogram in histograms.items()},
    )


def _measured(graph: bytes, model: ModelProto) -> list[str]:
    """Tensors that a pair may be put on, for whatever backend, in the graph's order."""
    for_tensorrt = simplify(graph)
    normalize_before_transpose(for_tensorrt)
    wiring, theirs = Wiring(model.graph), Wiring(for_tensorrt.graph)
    wanted = {
        *_ranged(theirs, place_for_tensorrt(theirs)),
        *_ranged(wiring, place_for_cpu(wiring)),
    }
    if not wanted:
        raise ModelError(
            "the model has no convolution and no product that int8 could serve: use fp16 or fp32"
        )
    order = [name for node in wiring.nodes.values() for name in node.output]
    return [name for name in order if name in wanted]


def _ranged(wiring: Wiring, placement: Placement) -> Iterator[str]:
    for edge in placement.edges:
        yield wiring.tensor(edge)
    yield from placement.same_range.values()


def _with_outputs(model: ModelProto, tensors: list[str]) -> bytes:
    present = {output.name for output in model.graph.output}
    model.graph.output.extend(
        onnx.helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
        for name in tensors
        if name not in present
    )
    measured: bytes = model.SerializeToString()
    return measured


def _in_pieces(batches: Iterable[Images]) -> Iterator[Images]:
    for batch in batches:
        for start in range(0, len(batch), IMAGES_AT_ONCE):
            yield batch[start : start + IMAGES_AT_ONCE]
