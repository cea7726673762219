"""How fast an int8 engine is with Q/DQ pairs in other places than ours.

    python -m benchmarks.gpu.int8_placements MODEL --engines CACHE [--only WORD] [--json FILE]

Builds the model in fp16, in int8 as `engines.quantize` places the pairs, and in int8 with one thing
done differently at a time; prints the throughput of each and the layers that take most of it. Speed
does not depend on the ranges, so they are measured on noise: the labels of these engines mean
nothing.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from cyclopts import App, Parameter

from engines.build_report import BuildEvent
from engines.engine import prepare_engine
from engines.errors import EngineError
from engines.half_precision import to_fp16
from engines.layer_times import measure_layers
from engines.model import Model, ModelRequest, load_model
from engines.precision import apply_precision
from engines.profile import Profile, ShapeRange
from engines.quantize.apply import MIN_OPSET, SCHEMES
from engines.quantize.calibrate import calibrate
from engines.quantize.calibration import Calibration
from engines.quantize.for_tensorrt import place_for_tensorrt
from engines.quantize.insert import insert_pairs
from engines.quantize.normalization import normalize_before_transpose
from engines.quantize.opset import with_opset
from engines.quantize.placement import Placement
from engines.quantize.simplify import simplify
from engines.quantize.target import Target
from engines.quantize.wiring import Edge, Wiring
from engines.report.times import LayerTimes
from engines.settings import BuilderSettings, EngineSettings
from engines.store import EngineStore

IMAGES = 32
SLOWEST = 12

app = App(help=__doc__)

Change = Callable[[Wiring, Placement], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """What an engine is built from, as `prepare_engine` wants it."""

    name: str
    model_id: str
    graph: bytes


@app.default
def main(
    model: Path,
    *,
    engines: Path,
    only: str = "",
    batch_size: int = 256,
    target: Target = "tensorrt-8",
    seconds: float = 3.0,
    json_file: Annotated[Path | None, Parameter(name="--json")] = None,
) -> None:
    """Build, measure, and print a table.

    Args:
        model: A model folder.
        engines: Folder of the engine store.
        only: Variants whose name holds this; fp16 in any case.
        batch_size: Images in a batch, and the only size that the engines serve.
        target: tensorrt-8 or tensorrt-10.
        seconds: How long one measurement lasts, about.
        json_file: Where every figure goes.
    """
    loaded = load_model(ModelRequest(path=model))
    figures: dict[str, dict[str, object]] = {}
    for name, graph in variants(loaded, target).items():
        if name != "fp16" and only not in name:
            continue
        try:
            times = measured(loaded, name, graph, engines, batch_size, seconds)
        except EngineError as error:
            print(f"{name}: {str(error).splitlines()[0]}")
            continue
        figures[name] = times.to_json()
        rate = times.images_per_second
        print(f"\n{name}: {rate:,.0f} images/s, {times.batch_ms:.3f} ms")
        slowest = sorted(zip(times.milliseconds, times.names, strict=True), reverse=True)
        for milliseconds, layer in slowest[:SLOWEST]:
            print(f"  {milliseconds:7.3f} ms  {layer[:110]}", flush=True)
    print("\n| variant | images/s | of fp16 |\n| --- | ---: | ---: |")
    for name, found in figures.items():
        ratio = figures["fp16"]["batch_ms"] / found["batch_ms"] if "fp16" in figures else np.nan
        print(f"| {name} | {1000 * batch_size / found['batch_ms']:,.0f} | {ratio:.3f} |")
    if json_file is not None:
        json_file.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def measured(
    model: Model, name: str, graph: bytes, engines: Path, batch_size: int, seconds: float
) -> LayerTimes:
    """Build an engine for one batch size, and time its layers."""
    sides = (model.input_height, model.input_width)
    profile = Profile(
        batch=ShapeRange.fixed(batch_size),
        height=ShapeRange.fixed(sides[0]),
        width=ShapeRange.fixed(sides[1]),
    )
    # A graph that holds pairs is built as it is, whatever the precision says.
    settings = EngineSettings(
        builder=BuilderSettings(precision="fp16" if name == "fp16" else "int8", profile=profile)
    )
    subject = Graph(name=model.name, model_id=f"{model.model_id} {name}", graph=graph)
    with prepare_engine(subject, settings, EngineStore(engines), _report) as engine:
        return measure_layers(engine.plan, batch_size=batch_size, image_size=sides, seconds=seconds)


def variants(model: Model, target: Target) -> dict[str, bytes]:
    """Graphs by name: fp16 from fp32, which the build converts, and int8 ones ready to be built."""
    noise = np.random.default_rng(0).integers(
        0, 256, (IMAGES, model.input_height, model.input_width, 3), np.uint8
    )
    ranges = calibrate(model.graph, [noise], method="minmax", threads=4)

    def int8(change: Change, *, nhwc: bool = True) -> bytes:
        return _quantized(model.graph, ranges, target, change, nhwc=nhwc)

    return {
        "fp16": model.graph,
        "int8": apply_precision(model.graph, "int8", calibration=ranges, target=target),
        "int8, first conv in fp16": int8(_first_in_fp16),
        "int8, first conv in fp16, normalized in NCHW": int8(_first_in_fp16, nhwc=False),
        "int8, both sides of each sum": int8(_both_sides),
        "int8, last product in int8": int8(_last_product),
    }


def _quantized(
    graph: bytes, calibration: Calibration, target: Target, change: Change, *, nhwc: bool
) -> bytes:
    """As `engines.quantize.apply.quantize`, with a change to the placement."""
    model = with_opset(simplify(graph), MIN_OPSET[target], "int8")
    if nhwc:
        normalize_before_transpose(model)
    wiring = Wiring(model.graph)
    placement = place_for_tensorrt(wiring)
    change(wiring, placement)
    ranges = dict(calibration.ranges)
    for edge in placement.edges:  # one that ours never reads
        ranges.setdefault(wiring.tensor(edge), (-8.0, 8.0))
    insert_pairs(model, placement, ranges, SCHEMES[target])
    if target == "tensorrt-10":
        to_fp16(model)
    serialized: bytes = model.SerializeToString()
    return serialized


def _first_in_fp16(wiring: Wiring, placement: Placement) -> None:
    first = next(node for node in wiring.nodes.values() if node.op_type == "Conv")
    placement.edges -= {Edge(first.name, 0)}
    placement.weights.pop(Edge(first.name, 1), None)


def _both_sides(wiring: Wiring, placement: Placement) -> None:
    for node in _sums(wiring):
        placement.edges |= {Edge(node, 0), Edge(node, 1)}


def _sums(wiring: Wiring) -> list[str]:
    return [node.name for node in wiring.nodes.values() if node.op_type == "Add"]


def _last_product(wiring: Wiring, placement: Placement) -> None:
    for node in wiring.nodes.values():
        if node.op_type == "Gemm":
            placement.add_weighted(node)


def _report(event: BuildEvent) -> None:
    print(event.text, file=sys.stderr)


if __name__ == "__main__":
    app()
