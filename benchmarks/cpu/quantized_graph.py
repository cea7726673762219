"""Does ONNX Runtime make of an engine's int8 graph what the engine made of it?

    python -m benchmarks.cpu.quantized_graph MODEL IMAGES ENTRY

ENTRY is an int8 engine's folder in the store: its calibration gives the same Q/DQ graph again,
which is then compared with fp32 on the very images of its verdict, here, on the CPU. Where the
engine does what its graph says, both comparisons agree but for rounding.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from cyclopts import App

from engines.gate import Comparison
from engines.model import Model, ModelRequest, load_model
from engines.onnx_runtime import OnnxRuntimeClassifier
from engines.precision import apply_precision
from engines.quantize.calibration import Calibration
from engines.verdict import read
from tasks.decode_into import DecodeInto
from tasks.gate import Gate, GateImages
from tasks.sample import draw, in_directory
from tasks.settings import Settings

BATCH = 32

app = App(help=__doc__)


@app.default
def main(model: Path, images: Path, entry: Path) -> None:
    """Compare, and print a table.

    Args:
        model: The engine's model folder.
        images: The directory that the run with the verdict classified.
        entry: Folder of the engine in the store.
    """
    verdict = read(entry)
    if verdict is None or verdict.precision != "int8":
        raise SystemExit(f"{entry} holds no verdict on an int8 engine")
    loaded = load_model(ModelRequest(path=model))
    calibration = Calibration.from_json((entry / "calibration.json").read_text())
    graph = apply_precision(loaded.graph, "int8", calibration=calibration, target="tensorrt-8")
    here = compared(loaded, graph, images, verdict.evidence.comparison.images)
    rows = {"the engine": verdict.evidence.comparison, "its graph on ONNX Runtime": here}
    print("| what | images | flips | median error | worst error | noise |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for name, found in rows.items():
        errors = f"{found.median_error:.5f} | {found.worst_error:.3f} | {found.noise:.5f}"
        print(f"| {name} | {found.images} | {found.flips} | {errors} |")
    for name, found in rows.items():
        for flip in found.worst_flips:
            margins = f"{flip.reference_margin:.4f} in fp32, {flip.candidate_margin:.4f} in int8"
            print(f"{name}: {flip.image} {flip.reference} became {flip.candidate}, {margins}")


def compared(model: Model, graph: bytes, images: Path, wanted: int) -> Comparison:
    """Compare a graph with fp32 on the images that a gate takes from a directory."""
    usual = Settings(images=str(images), model=".", output=".")
    sample = draw(
        in_directory(os.fsencode(images), extensions=usual.extensions), front=0, back=wanted
    )
    chosen = GateImages(candidates=sample.back, wanted=wanted, available=sample.available)
    with (
        DecodeInto.of(usual, model) as fill,
        OnnxRuntimeClassifier(
            replace(model, graph=graph), batch_size=BATCH, logits=True, precision="int8"
        ) as classifier,
    ):
        evidence = Gate(model, chosen, fill, workers=fill.workers).evidence(classifier)
    if evidence is None:
        raise SystemExit(f"no image of {images} could be compared")
    return evidence.comparison


if __name__ == "__main__":
    app()
