from __future__ import annotations

import os
from types import SimpleNamespace

import onnx
import pytest

from benchmarks.gpu.int8_placements import variants
from benchmarks.gpu.lint_examples import Verdict, agrees, asked
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
        assert graph != ours, name


@pytest.mark.parametrize(
    ("example", "outcome", "reason", "agreement"),
    [
        ("conv", "accepted", "", True),
        ("conv", "parser", "", False),
        ("zero point 3", "parser", "TensorRT only supports symmetric quantization.", True),
        ("zero point 3", "parser", "checkSpatialDims", False),
        ("zero point 3", "accepted", "", False),
        ("zero point 3", "crash", "exit code -11", True),
        ("activation by channel", "builder", "whatever", None),
        ("scale in fp16, data in fp16", "accepted", "", True),
    ],
)
def test_agreement_is_about_whether_and_why_it_is_refused(example, outcome, reason, agreement):
    findings = lint(onnx.load_model_from_string(BY_NAME[example].graph), "8.6")
    verdict = Verdict(outcome=outcome, reason=reason)
    assert agrees(findings, verdict, BY_NAME[example].says) is agreement


@pytest.mark.parametrize("version", ["8.6.1", "10.16.1", "11.4.0"])
def test_examples_go_through_parser_and_builder(install_gpu, version):
    install_gpu(version)
    examples = [BY_NAME[name] for name in ("residual block", "conv", "gemm")]
    verdicts = asked(import_tensorrt(), examples, jobs=2)
    assert verdicts == {example.name: Verdict(outcome="accepted") for example in examples}


def test_a_process_that_dies_is_a_crash_and_keeps_nobody_waiting(install_gpu):
    install_gpu("8.6.1")
    trt = SimpleNamespace(Builder=lambda _: os._exit(3), ILogger=import_tensorrt().ILogger)
    [verdict] = asked(trt, [BY_NAME["conv"]], jobs=2).values()
    assert verdict.outcome == "crash"
