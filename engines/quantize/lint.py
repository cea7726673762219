"""Holds a graph with Q/DQ pairs to what TensorRT's ONNX parsers accept.

What the parser refuses it refuses by node; some things only the builder refuses, minutes later, and
some nobody: they are computed otherwise than ONNX says, or are not among what NVIDIA supports. A
finding says which.
"""

from __future__ import annotations

from dataclasses import dataclass

from onnx import ModelProto

from engines.quantize.lint_rules import RULES
from engines.quantize.lint_subject import PARSERS, Parser, Stage, Subject

__all__ = ["PARSERS", "RULES", "Finding", "Parser", "Stage", "lint"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A rule that a node breaks.

    Attributes:
        node: Its name.
        operator: Its operator.
        rule: Name of the rule.
        stage: Who would refuse it.
        text: What is wrong, in words.
    """

    node: str
    operator: str
    rule: str
    stage: Stage
    text: str


def lint(model: ModelProto, parser: Parser) -> list[Finding]:
    """Find everything that the parser of a TensorRT version would refuse or misread.

    Args:
        model: A valid ONNX model whose nodes have names.
        parser: Which version.
    """
    subject = Subject(model)
    return [
        Finding(node=node.name, operator=node.op_type, rule=rule.name, stage=rule.stage, text=text)
        for node in model.graph.node
        for rule in RULES
        if parser in rule.parsers and (text := rule.check(subject, node)) is not None
    ]
