"""What TensorRT 8.6.1 said of a real int8 engine: its layers, where nodes went, what was timed."""

from __future__ import annotations

import gzip
from collections import Counter
from pathlib import Path

import pytest

from engines.report.fates import find_fates
from engines.report.layers import Layer, parse_layers
from engines.report.nodes import parse_nodes
from engines.report.shares import group_of
from engines.report.steps import StepReader, Steps, said
from engines.report.tuning import Tuning, TuningReader

GOLDEN = Path(__file__).parent.parent / "golden/engine_report"
NAME = "resnet50-int8-8.6.1"


@pytest.fixture(scope="module")
def layers() -> tuple[Layer, ...]:
    return parse_layers((GOLDEN / f"{NAME}.layers.json").read_text())


@pytest.fixture(scope="module")
def log() -> tuple[Steps, Tuning]:
    steps, tuning = StepReader(), TuningReader()
    with gzip.open(GOLDEN / f"{NAME}.build.log.gz", "rt") as lines:
        for line in lines:
            steps.take(said(line))
            tuning.take(said(line))
    return steps.result(), tuning.result()


def test_layers_have_the_precision_of_their_kernels(layers):
    groups = {layer.name.rpartition(" + ")[2]: group_of(layer) for layer in layers}
    assert groups["maxpool"] == "int8"  # with conv1 and its ReLU: one layer
    assert groups["layer1.0.add.relu"] == "int8"
    assert groups["fc"] == groups["avgpool"] == "fp16"
    assert groups["nightshift/top_k"] == "fp32"
    assert groups["PWN(nightshift/subtract, nightshift/multiply)"] == "fp16"  # writes int8
    assert Counter(map(group_of, layers)) == {
        "int8": 6,
        "fp16": 4,
        "fp32": 1,
        "reformat": 5,
        "no kernel": 5,
    }


def test_nodes_are_found_in_the_layers_that_they_were_fused_into(layers, log):
    nodes = parse_nodes((GOLDEN / f"{NAME}.nodes.json").read_text()).nodes
    fates = {fate.node.name: fate for fate in find_fates(nodes, layers, log[0].removals)}

    def layer_of(name: str) -> str:
        return layers[fates[name].layers[0]].name.rpartition(" + ")[2]

    for name in ("conv1", "conv1.relu", "maxpool", "quantize/conv1.weight/QuantizeLinear"):
        assert layer_of(name) == "maxpool"
    for name in ("layer1.0.conv3", "layer1.0.add", "layer1.0.add.relu"):
        assert layer_of(name) == "layer1.0.add.relu"
    gone = {name: fate.why for name, fate in fates.items() if not fate.layers}
    assert gone.pop("features") == "removed (ShuffleErasure)"
    assert all(name.startswith("quantize/") for name in gone)


def test_combinations_that_nothing_was_timed_for_are_the_hits_of_the_timing_cache(log):
    tuning = log[1]
    assert tuning.cache == "global"
    assert tuning.hits == 471 == tuning.reused + tuning.reformats_reused
    assert (tuning.reused, tuning.candidates) == (118, 101)
    transpose = tuning.layers["nightshift/transpose"]
    assert transpose.candidates > 0
    assert tuning.seconds == 28.235


def test_a_layer_that_is_named_once_has_the_combinations_before_that_as_well(log):
    layers = log[1].layers
    tuned = layers["{ForeignNode[nightshift/cast]}"]
    assert (tuned.combinations, tuned.reused, tuned.candidates) == (7, 0, 7)
    [known] = [tuned for name, tuned in layers.items() if name.endswith("layer1.0.conv1.relu")]
    assert known.reused == known.combinations > 0
    assert known.fastest_ms is None


def test_fusions_are_counted(log):
    steps = log[0]
    assert steps.fusions["ConstWeightsQuantizeFusion"] == 53  # every convolution
    assert steps.fusions["ConvEltwiseSumFusion"] == 16  # every block
    assert steps.layers_left[0] == ("Original", 624)
