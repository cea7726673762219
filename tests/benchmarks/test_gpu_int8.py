from __future__ import annotations

from types import SimpleNamespace

import onnx
import pytest

from benchmarks.gpu.int8_placements import variants
from benchmarks.gpu.lint_examples import Verdict, agrees, in_own_process
from engines.features import import_tensorrt
from engines.ort_session import Session
from engines.quantize.lint import lint
from tests.engines.quantize.lint_examples import EXAMPLES
from tests.engines.quantize.networks import network, photographs

BY_NAME = {example.name: example for example in EXAMPLES}


@pytest.mark.parametrize("target", ["tensorrt-8", "tensorrt-10"])
def test_every_placement_is_a_valid_graph_that_differs_from_ours(target):
    model = SimpleNamespace(
        graph=network(["max_pool", "downsample"]), input_height=32, input_width=32
    )
    graphs = variants(model, target)
    ours = graphs.pop("int8")
    assert graphs.pop("fp16") is model.graph
    for name, graph in graphs.items():
        onnx.checker.check_model(onnx.load_model_from_string(graph), full_check=True)
        Session(graph, threads=1).run(["scores"], {"images": photographs(1)})
        # The pool of this network stands behind an int8 layer and has its pair in any case.
        assert (graph == ours) == name.endswith("MaxPool"), name


@pytest.mark.parametrize(
    ("example", "outcome", "agreement"),
    [
        ("conv", "accepted", True),
        ("conv", "parser", False),
        ("zero point 3", "parser", True),
        ("zero point 3", "accepted", False),
        ("zero point 3", "crash", True),
        ("scale in fp16, data in fp16", "accepted", True),
    ],
)
def test_agreement_is_about_whether_it_is_refused_at_all(example, outcome, agreement):
    findings = lint(onnx.load_model_from_string(BY_NAME[example].graph), "8.6")
    assert agrees(findings, Verdict(outcome=outcome)) is agreement


@pytest.mark.parametrize("version", ["8.6.1", "10.16.1", "11.4.0"])
def test_an_example_goes_through_parser_and_builder(install_gpu, version):
    install_gpu(version)
    verdict = in_own_process(import_tensorrt(), BY_NAME["residual block"], build=True)
    assert verdict == Verdict(outcome="accepted")
