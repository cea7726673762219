from __future__ import annotations

import os
from datetime import UTC, datetime
from types import SimpleNamespace

import onnx
import pytest

from benchmarks.gpu.int8_placements import variants
from benchmarks.gpu.lint_examples import Verdict, agrees, asked, record
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
        ("zero point 3", "builder", "TensorRT only supports symmetric quantization.", False),
        ("activation by channel", "accepted", "", True),
        ("activation by channel", "builder", "whatever", False),
        ("HardSwish", "accepted", "", True),
    ],
)
def test_agreement_is_about_whether_and_why_it_is_refused(example, outcome, reason, agreement):
    findings = lint(onnx.load_model_from_string(BY_NAME[example].graph), "8.6")
    verdict = Verdict(outcome=outcome, reason=reason)
    assert agrees(findings, verdict, BY_NAME[example].says) is agreement


def test_a_refusal_without_a_reason_on_record_is_neither_agreement_nor_the_opposite():
    findings = lint(onnx.load_model_from_string(BY_NAME["zero point 3"].graph), "10")
    assert agrees(findings, Verdict(outcome="parser", reason="whatever"), says=None) is None


def test_a_record_names_version_time_graph_and_words():
    said = {"zero point 3": Verdict(outcome="parser", reason="whatever")}
    written = record("8.6.1", [BY_NAME["zero point 3"]], said)
    assert datetime.strptime(written["date"], "%Y-%m-%dT%H:%M%z") <= datetime.now(UTC)
    assert written["tensorrt"] == "8.6.1"
    graph = BY_NAME["zero point 3"].digest()
    entry = {"graph": graph, "outcome": "parser", "reason": "whatever"}
    assert written["examples"] == {"zero point 3": entry}


@pytest.mark.parametrize("version", ["8.6.1", "10.16.1", "11.4.0"])
def test_examples_go_through_parser_and_builder(install_gpu, version):
    install_gpu(version)
    examples = [BY_NAME[name] for name in ("residual block", "conv", "gemm", "HardSwish")]
    verdicts = asked(import_tensorrt(), examples, jobs=2)
    assert verdicts == {example.name: Verdict(outcome="accepted") for example in examples}


def test_a_process_that_dies_is_a_crash_and_keeps_nobody_waiting(install_gpu):
    install_gpu("8.6.1")
    trt = SimpleNamespace(Builder=lambda _: os._exit(3), ILogger=import_tensorrt().ILogger)
    [verdict] = asked(trt, [BY_NAME["conv"]], jobs=2).values()
    assert verdict.outcome == "crash"
