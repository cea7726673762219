"""Does the lint of Q/DQ graphs agree with the real parser?

    python -m benchmarks.gpu.lint_examples [--build] [--json FILE]

Every example of tests/engines/quantize goes through this machine's ONNX parser, each in a process
of its own, as a parser may crash on what it does not expect. Those of which the lint says that only
the builder refuses them are built, with the least optimization; `--build` builds the others, too.
Ends with 1 where the two disagree.
"""

from __future__ import annotations

import json
import multiprocessing
import tempfile
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from types import ModuleType
from typing import Annotated

import onnx
from cyclopts import App, Parameter

from engines.build_log import BuildLog
from engines.features import import_tensorrt, probe
from engines.profile import ShapeRange
from engines.quantize.lint import Finding, Parser, lint
from tests.engines.quantize.lint_examples import EXAMPLES, Example

__all__ = ["Verdict", "agrees", "ask", "parser_of"]

BATCHES = ShapeRange(1, 2, 4)
REASON_LENGTH = 120

app = App(help=__doc__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What became of an example.

    Attributes:
        outcome: 'accepted', 'parser', 'builder' (who refused it) or 'crash'.
        reason: TensorRT's words; '' where it was accepted.
    """

    outcome: str
    reason: str = ""


@app.default
def main(
    *,
    build: bool = False,
    json_file: Annotated[Path | None, Parameter(name="--json")] = None,
) -> int:
    """Ask the parser, and print a table.

    Args:
        build: Build every example that the parser accepts.
        json_file: Where everything goes that was said.
    """
    trt = import_tensorrt()  # before the processes part, so that it is loaded once
    parser = parser_of(trt)
    rows = []
    print(f"TensorRT {trt.__version__}, rules of {parser}")
    print(f"{'example':38} {'lint':24} {'TensorRT':9} agree  reason")
    for example in EXAMPLES:
        findings = lint(onnx.load_model_from_string(example.graph), parser)
        needs_build = build or "builder" in {finding.stage for finding in findings}
        verdict = in_own_process(trt, example, needs_build)
        agree = agrees(findings, verdict)
        rules = sorted({finding.rule for finding in findings})
        rows.append({"name": example.name, "rules": rules, "agree": agree, **asdict(verdict)})
        print(
            f"{example.name:38} {', '.join(rules) or 'accepts':24} {verdict.outcome:9} "
            f"{'yes' if agree else 'NO':5}  {verdict.reason[:REASON_LENGTH]}",
            flush=True,
        )
    disagreements = sum(not row["agree"] for row in rows)
    print(f"{len(rows) - disagreements} of {len(rows)} agree")
    if json_file is not None:
        text = json.dumps({"tensorrt": str(trt.__version__), "examples": rows}, indent=2)
        json_file.write_text(text + "\n", encoding="utf-8")
    return 1 if disagreements else 0


def parser_of(trt: ModuleType) -> Parser:
    """Which rules hold for a TensorRT."""
    major = str(trt.__version__).partition(".")[0]
    if major == "8":
        return "8.6"
    return "10" if major == "10" else "11"


def agrees(findings: Iterable[Finding], verdict: Verdict) -> bool:
    """Whether TensorRT did as the lint says.

    What nobody refuses is accepted. Whether the parser refuses it or the builder, as the lint says,
    makes no difference; a crash is as good as a refusal, for those who do not want one.
    """
    refused = any(finding.stage != "nobody" for finding in findings)
    return refused == (verdict.outcome != "accepted")


def in_own_process(trt: ModuleType, example: Example, build: bool) -> Verdict:
    """Ask in a child of this process."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_answer, args=(trt, example, build, sender))
    child.start()
    sender.close()
    try:
        return receiver.recv()
    except EOFError:
        child.join()
        return Verdict(outcome="crash", reason=f"exit code {child.exitcode}")
    finally:
        child.join()


def _answer(trt: ModuleType, example: Example, build: bool, sender: Connection) -> None:
    sender.send(ask(trt, example, build))


def ask(trt: ModuleType, example: Example, build: bool) -> Verdict:
    """Put an example through the parser, and through the builder if asked for."""
    features = probe(trt)
    with tempfile.TemporaryFile("w") as lines:
        log = BuildLog(trt, lines)
        builder = trt.Builder(log.sink)
        network = builder.create_network(features.network_flags)
        parser = trt.OnnxParser(network, log.sink)
        if not parser.parse(example.graph):
            reasons = [parser.get_error(index).desc() for index in range(parser.num_errors)]
            return Verdict(outcome="parser", reason=_line("; ".join(reasons)))
        if not build:
            return Verdict(outcome="accepted")
        config = builder.create_builder_config()
        config.builder_optimization_level = 0
        for name in (*features.fp16_flags, *features.int8_flags):
            config.set_flag(getattr(trt.BuilderFlag, name))
        profile = builder.create_optimization_profile()
        shape = tuple(network.get_input(0).shape)[1:]
        batches = (BATCHES.min, BATCHES.opt, BATCHES.max)
        profile.set_shape("x", *((batch, *shape) for batch in batches))
        config.add_optimization_profile(profile)
        if builder.build_serialized_network(network, config) is None:
            return Verdict(outcome="builder", reason=_line(log.take_errors()))
    return Verdict(outcome="accepted")


def _line(text: str) -> str:
    return " ".join(text.split())


if __name__ == "__main__":
    raise SystemExit(app())
