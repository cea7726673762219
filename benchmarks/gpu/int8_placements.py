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
import onnx
from cyclopts import App, Parameter
from onnx import ModelProto, helper, numpy_helper

from engines.build_report import BuildEvent
from engines.engine import prepare_engine
from engines.errors import EngineError
from engines.half_precision import to_fp16
from engines.layer_times import measure_layers
from engines.model import Model, ModelRequest, load_model
from engines.precision import apply_precision
from engines.profile import Profile, ShapeRange
from engines.quantize.apply import SCHEMES
from engines.quantize.calibrate import calibrate
from engines.quantize.calibration import Calibration
from engines.quantize.for_tensorrt import place_for_tensorrt
from engines.quantize.insert import insert_pairs
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
PREFIX = "nightshift/"

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

    def int8(
        change: Change, *, first: bool = False, clip: bool = False, graph: bytes = model.graph
    ) -> bytes:
        return _quantized(graph, ranges, target, change, first=first, clip=clip)

    return {
        "fp16": model.graph,
        "int8": apply_precision(model.graph, "int8", calibration=ranges, target=target),
        "int8, first conv as it is": int8(_nothing, first=True),
        "int8, first conv behind Clip": int8(_nothing, first=True, clip=True),
        "int8, first conv, normalized in NHWC": int8(
            _nothing, first=True, graph=_normalized_before_transpose(model.graph)
        ),
        "int8, normalized in NHWC": int8(_nothing, graph=_normalized_before_transpose(model.graph)),
        "int8, pair before the first MaxPool": int8(_pair_before_max_pool),
        "int8, average pool in fp16": int8(_average_pool_in_fp16),
        "int8, both sides of each sum": int8(_both_sides),
        "int8, skip connections in fp16": int8(_no_sums),
        "int8, last product in int8": int8(_last_product),
    }


def _quantized(
    graph: bytes,
    calibration: Calibration,
    target: Target,
    change: Change,
    *,
    first: bool,
    clip: bool,
) -> bytes:
    """As `engines.quantize.apply.quantize`, with a change to the placement."""
    opset = 19 if target == "tensorrt-10" else 13
    model = with_opset(simplify(graph), opset, "int8")
    wiring = Wiring(model.graph)
    placement = place_for_tensorrt(wiring, first_convolution=first)
    change(wiring, placement)
    ranges = dict(calibration.ranges)
    for edge in placement.edges:  # one that ours never reads
        ranges.setdefault(wiring.tensor(edge), (-8.0, 8.0))
    insert_pairs(model, placement, ranges, SCHEMES[target])
    if clip:
        _clip_first(model, calibration)
    if target == "tensorrt-10":
        to_fp16(model)
    serialized: bytes = model.SerializeToString()
    return serialized


def _nothing(_wiring: Wiring, _placement: Placement) -> None:
    pass


def _pair_before_max_pool(wiring: Wiring, placement: Placement) -> None:
    for node in wiring.nodes.values():
        if node.op_type == "MaxPool":
            placement.edges.add(Edge(node.name, 0))
            placement.same_range[node.output[0]] = node.input[0]


def _average_pool_in_fp16(wiring: Wiring, placement: Placement) -> None:
    pools = {node.name for node in wiring.nodes.values() if node.op_type == "GlobalAveragePool"}
    placement.edges -= {edge for edge in placement.edges if edge.node in pools}


def _both_sides(wiring: Wiring, placement: Placement) -> None:
    for node in _sums(wiring):
        placement.edges |= {Edge(node, 0), Edge(node, 1)}


def _no_sums(wiring: Wiring, placement: Placement) -> None:
    for node in _sums(wiring):
        placement.edges -= {Edge(node, 0), Edge(node, 1)}


def _sums(wiring: Wiring) -> list[str]:
    return [node.name for node in wiring.nodes.values() if node.op_type == "Add"]


def _last_product(wiring: Wiring, placement: Placement) -> None:
    for node in wiring.nodes.values():
        if node.op_type == "Gemm":
            placement.add_weighted(node)


def _clip_first(model: ModelProto, calibration: Calibration) -> None:
    """A Clip in front of the first pair, at the ends of its range: changes no number."""
    index, first = next(
        (index, node)
        for index, node in enumerate(model.graph.node)
        if node.op_type == "QuantizeLinear" and node.input[0] in _own_outputs(model)
    )
    low, high = calibration.ranges[first.input[0]]
    limit = np.float32(max(-low, high))
    for name, value in (("clip.low", -limit), ("clip.high", limit)):
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
    clip = helper.make_node("Clip", [first.input[0], "clip.low", "clip.high"], ["clipped"], "clip")
    first.input[0] = "clipped"
    model.graph.node.insert(index, clip)


def _own_outputs(model: ModelProto) -> set[str]:
    own = (node for node in model.graph.node if node.name.startswith(PREFIX))
    return {name for node in own for name in node.output}


def _normalized_before_transpose(graph: bytes) -> bytes:
    """Cast, Sub, Mul, Transpose instead of Cast, Transpose, Sub, Mul."""
    model = onnx.load_model_from_string(graph)
    nodes = {node.name: node for node in model.graph.node if node.name.startswith(PREFIX)}
    transpose, subtract, multiply = (
        nodes[PREFIX + name] for name in ("transpose", "subtract", "multiply")
    )
    pixels, normalized = transpose.input[0], multiply.output[0]
    subtract.input[0], multiply.output[0] = pixels, "normalized.nhwc"
    transpose.input[0], transpose.output[0] = "normalized.nhwc", normalized
    constants = {subtract.input[1], multiply.input[1]}
    for tensor in model.graph.initializer:
        if tensor.name in constants:
            del tensor.dims[:]
            tensor.dims.append(3)
    order = list(model.graph.node)
    order.insert(order.index(multiply), order.pop(order.index(transpose)))
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in order]
    del model.graph.node[:]
    model.graph.node.extend(copies)
    onnx.checker.check_model(model, full_check=True)
    serialized: bytes = model.SerializeToString()
    return serialized


def _report(event: BuildEvent) -> None:
    print(event.text, file=sys.stderr)


if __name__ == "__main__":
    app()
