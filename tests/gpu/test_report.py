"""What a real TensorRT says of its engines is what the report reads."""

from __future__ import annotations

import io

import pytest

from engines.build_log import BuildLog
from engines.builder import build_plan
from engines.features import import_tensorrt
from engines.layer_times import measure_layers
from engines.precision import apply_precision
from engines.profile import Profile, ShapeRange
from engines.report.fates import find_fates
from engines.report.layers import parse_layers
from engines.report.nodes import list_nodes, parse_nodes
from engines.report.steps import StepReader, said
from engines.report.tuning import TuningReader
from engines.settings import BuilderSettings
from engines.timing_cache import TimingCacheFile
from tests.engines.wrapped_graphs import wrapped_cnn

SIDE = ShapeRange.fixed(16)
PROFILE = Profile(batch=ShapeRange(1, 8, 8), height=SIDE, width=SIDE)


@pytest.fixture(scope="module", params=["fp32", "fp16"])
def built(request, gpu, tmp_path_factory):
    """A dynamic engine, its nodes and its log; the second build finds the first one's timings."""
    trt = import_tensorrt()
    fp32 = wrapped_cnn()
    graph = apply_precision(fp32, request.param)
    folder = tmp_path_factory.mktemp("timings")
    logs = []
    for _ in range(2):
        log = io.StringIO()
        plan = build_plan(
            graph,
            BuilderSettings(precision=request.param, profile=PROFILE),
            trt=trt,
            log=BuildLog(trt, log),
            timings=TimingCacheFile(folder, version=trt.__version__, gpu=gpu.name),
            progress=lambda phase, step, steps: None,
        )
        logs.append(log.getvalue())
    return plan, parse_nodes(list_nodes(graph, fp32_graph=fp32)), logs


def test_a_dynamic_engine_tells_its_dtypes_and_most_nodes_their_layer(built):
    plan, nodes, logs = built
    layers = parse_layers(plan.layers)
    working = [layer for layer in layers if not layer.idle]
    # Where shapes are dynamic the inspector tells no formats: only kernels' names and weights tell.
    kernels = [layer for layer in working if layer.kind.startswith("Cask")]
    assert {"pool", "conv1", "conv2", "fc"} <= {node for layer in kernels for node in layer.onnx}
    assert all(layer.precision for layer in kernels), kernels
    assert any(tensor.dtype for layer in working for tensor in layer.outputs)
    steps = StepReader()
    for line in logs[0].splitlines():
        steps.take(said(line))
    fates = find_fates(nodes.nodes, layers, steps.result().removals)
    lost = [fate.node.name for fate in fates if not fate.layers and fate.node.op != "Flatten"]
    assert len(lost) <= 1, lost


def test_kernels_are_timed_once_and_remembered(built):
    _, _, logs = built
    found = []
    for log in logs:
        reader = TuningReader()
        for line in log.splitlines():
            reader.take(said(line))
        found.append(reader.result())
    first, second = found
    assert first.candidates > second.candidates
    assert second.reused >= first.reused


def test_the_profiler_names_layers_of_the_inspector(built):
    plan, _, _ = built
    times = measure_layers(plan.plan, batch_size=8, image_size=(16, 16), seconds=0.1)
    known = {layer.name for layer in parse_layers(plan.layers)}
    assert set(times.names) <= known
    assert times.total_ms > 0
    assert times.batch_ms > 0
