from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from benchmarks.gpu.lint_examples import Verdict, examined
from engines.quantize.lint import PARSERS, RULES, lint
from tests.engines.quantize.lint_examples import EXAMPLES, Example

RECORD = json.loads((Path(__file__).parents[2] / "golden/lint_8_6.json").read_text())


@pytest.mark.parametrize("parser", PARSERS)
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_the_examples_break_the_rules_that_they_are_there_for(example: Example, parser):
    findings = lint(onnx.load_model_from_string(example.graph), parser)
    assert {finding.rule for finding in findings} == example.breaks.get(parser, frozenset())


def test_every_rule_has_an_example_and_every_example_a_name_of_its_own():
    shown = {rule for example in EXAMPLES for rules in example.breaks.values() for rule in rules}
    assert {rule.name for rule in RULES} - shown == set()
    assert len({example.name for example in EXAMPLES}) == len(EXAMPLES)


def test_a_finding_names_the_node_its_operator_and_who_would_refuse_it():
    [example] = [example for example in EXAMPLES if example.name == "zero point 3"]
    first, second = lint(onnx.load_model_from_string(example.graph), "8.6")
    assert (first.node, first.operator) == ("x.q", "QuantizeLinear")
    assert (second.node, second.operator) == ("x.dq", "DequantizeLinear")
    assert first.stage == "parser"
    assert "must be symmetric" in first.text


def test_the_record_is_of_the_examples_as_they_are():
    assert RECORD["tensorrt"] == "8.6.1"
    recorded = {name: said["graph"] for name, said in RECORD["examples"].items()}
    assert recorded == {example.name: example.digest() for example in EXAMPLES}


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_tensorrt_8_6_did_what_the_lint_says_of_it(example: Example):
    """Who refused it and why; nothing but `lint_examples.py` on a GPU may change the record."""
    said = RECORD["examples"][example.name]
    verdict = Verdict(outcome=said["outcome"], reason=said["reason"])
    assert examined(example, verdict, "8.6").agree is True


def test_an_example_that_changes_is_another_graph_and_the_same_one_is_not():
    [example] = [example for example in EXAMPLES if example.name == "zero point 3"]
    model = onnx.load_model_from_string(example.graph)
    model.producer_name = "another"
    assert replace(example, graph=model.SerializeToString()).digest() == example.digest()
    for weight in model.graph.initializer:
        if weight.name == "x.scale":
            weight.CopyFrom(onnx.numpy_helper.from_array(np.float32(0.06), weight.name))
    assert replace(example, graph=model.SerializeToString()).digest() != example.digest()
