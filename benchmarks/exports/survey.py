"""Which exports of real architectures are taken, and what has to be done to them?

    python -m benchmarks.exports.survey FOLDER [--json FILE]

FOLDER is what benchmarks.exports.make wrote. Each model is wrapped and made to take any batch;
three images at once must then score as they do alone in the graph as it was exported. Then the
graph is written for TensorRT 8.6, and must give the same scores again. Where TensorRT is installed,
its own parser reads it, too. Ends with 1 where scores differ.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import onnx
from cyclopts import App, Parameter
from numpy.typing import NDArray
from onnx import ModelProto

from benchmarks.machine import facts
from engines.batching import free_batch
from engines.errors import BackendUnavailableError, ModelError
from engines.features import import_tensorrt, probe
from engines.graph import inspect
from engines.opset import fit_operators
from engines.opset_runtime import settle_operators
from engines.ort_session import Session, available_cores
from engines.preprocess import HostTransform, PreprocessSpec
from engines.prune import drop_unused
from engines.wrap import IMAGES, LOGITS, wrap
from tests.models.importers import TENSORRT_8_6

__all__ = ["Outcome", "survey"]

TOLERANCE = 1e-4
"""Of the largest logit: fp32, another order of sums."""

app = App(help=__doc__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of an export.

    Attributes:
        name: Architecture and exporter.
        opset: It came in.
        batch: What `free_batch` says, or why it refused.
        taken: Whether it did not refuse.
        error: Largest difference of a logit from the graph as exported, of the largest logit.
        spread: How much the images differ in a logit, of the largest logit: with none, the error
            says nothing.
        lowered: 'yes', or why the graph cannot be written for TensorRT 8.6.
        parser: What TensorRT's own parser says; '' where there is none.
    """

    name: str
    opset: int
    batch: str
    taken: bool
    error: float = 0.0
    spread: float = 0.0
    lowered: str = ""
    parser: str = ""


@app.default
def main(
    folder: Path, *, json_file: Annotated[Path | None, Parameter(name="--json")] = None
) -> int:
    """Survey a folder of exports, and print a table.

    Args:
        folder: Holds .onnx files that take one image.
        json_file: Where every figure goes.
    """
    outcomes = []
    for path in sorted(folder.glob("*.onnx")):
        outcomes.append(survey(path))
        print(outcomes[-1], flush=True)
    wrong = [
        outcome.name
        for outcome in outcomes
        if outcome.taken and (outcome.error > TOLERANCE or outcome.spread < 10 * TOLERANCE)
    ]
    counts = Counter(
        "refused" if not o.taken else "rewritten" if "rewritten" in o.batch else "as it is"
        for o in outcomes
    )
    lowered = sum(outcome.lowered == "yes" for outcome in outcomes)
    print("\n| exports | as they are | rewritten | refused | for TensorRT 8.6 | wrong |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: |")
    print(
        f"| {len(outcomes)} | {counts['as it is']} | {counts['rewritten']} | {counts['refused']} "
        f"| {lowered} | {len(wrong)} |"
    )
    if json_file is not None:
        packages = ["onnx", "onnxruntime", "numpy", "tensorrt"]
        rows = [asdict(outcome) for outcome in outcomes]
        json_file.write_text(json.dumps({**facts(packages), "outcomes": rows}, indent=1) + "\n")
    return int(bool(wrong))


def survey(path: Path) -> Outcome:
    """Take one export."""
    model = onnx.load(path)
    settle_operators(model)
    name = model.graph.output[0].name  # the newer exporter keeps GoogLeNet's other heads
    info = inspect(model, output_name=name)
    side, classes = info.height, info.classes
    assert side is not None and classes is not None  # noqa: PT018 - both, or not ours
    wrap(model, info, _plain(side), classes=classes, activation="softmax", top_k=5)
    drop_unused(model.graph)
    images = np.random.default_rng(0).integers(0, 256, (3, side, side, 3), np.uint8)
    alone = np.concatenate([_logits(model, images[i : i + 1]) for i in range(3)])
    try:
        batch = free_batch(model, info, side, side)
    except ModelError as error:
        return Outcome(name=path.stem, opset=info.opset, batch=str(error), taken=False)
    largest = np.abs(alone).max()
    errors = [np.abs(_logits(model, images) - alone).max() / largest]
    lowered, parser = "yes", ""
    try:
        parser = _parse(model)
        fit_operators(model, supports=TENSORRT_8_6.__contains__, opset=17, parser="TensorRT 8.6")
        errors.append(np.abs(_logits(model, images) - alone).max() / largest)
    except ModelError as error:
        lowered = str(error)
    return Outcome(
        name=path.stem,
        opset=info.opset,
        batch=batch,
        taken=True,
        error=float(max(errors)),
        spread=float(np.ptp(alone, axis=0).max() / largest),
        lowered=lowered,
        parser=parser,
    )


def _plain(side: int) -> PreprocessSpec:
    host = HostTransform(
        height=side,
        width=side,
        resize="exact",
        resize_height=side,
        resize_width=side,
        interpolation="bilinear",
    )
    return PreprocessSpec(
        host=host, scale=1 / 255, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)
    )


def _logits(model: ModelProto, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    session = Session(model.SerializeToString(), threads=available_cores(), optimise=False)
    [logits] = session.run([LOGITS], {IMAGES: images})
    return logits


def _parse(model: ModelProto) -> str:
    """Put the graph through the parser of the TensorRT that is installed, if one is."""
    try:
        trt = import_tensorrt()
    except BackendUnavailableError:
        return ""
    features = probe(trt)
    logger = trt.Logger(trt.Logger.ERROR)
    network = trt.Builder(logger).create_network(features.network_flags)
    parser = trt.OnnxParser(network, logger)
    fitted = ModelProto()
    fitted.CopyFrom(model)
    fit_operators(
        fitted, supports=parser.supports_operator, opset=features.opset, parser="TensorRT"
    )
    if parser.parse(fitted.SerializeToString()):
        return f"TensorRT {features.version} accepts it"
    errors = (parser.get_error(index).desc() for index in range(parser.num_errors))
    return f"TensorRT {features.version} refuses it: {'; '.join(errors)}"


if __name__ == "__main__":
    raise SystemExit(app())
