from __future__ import annotations

import onnx
import pytest

from engines.quantize.lint import PARSERS, RULES, lint
from tests.engines.quantize.lint_examples import EXAMPLES, Example


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
