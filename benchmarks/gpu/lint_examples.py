"""Does the lint of Q/DQ graphs agree with the real parser and builder?

    python -m benchmarks.gpu.lint_examples [--jobs 13] [--json FILE]

Every example of tests/engines/quantize goes through this machine's ONNX parser and, with the least
optimization, through its builder, each in a process of its own, as TensorRT may crash on what it
does not expect. An example that must be refused agrees only where the one refuses it of whom the
lint says so, and, with TensorRT 8.6, for the reason that is on record for it. Ends with 1 where the
two disagree. What --json writes has the form of tests/golden/lint_8_6.json, to which tests hold the
lint where there is no GPU.
"""

from __future__ import annotations

import json
import multiprocessing
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkProcess
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

import onnx
from cyclopts import App, Parameter

from engines.build_log import BuildLog
from engines.features import import_tensorrt, probe
from engines.profile import ShapeRange
from engines.quantize.apply import holds_pairs
from engines.quantize.lint import Finding, Parser, lint
from tests.engines.quantize.lint_examples import EXAMPLES, Example

__all__ = ["Row", "Verdict", "agrees", "ask", "asked", "examined", "parser_of", "record"]

BATCHES = ShapeRange(1, 2, 4)
REASON_LENGTH = 120
WORDS = {True: "yes", False: "NO", None: "new"}

app = App(help=__doc__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What became of an example.

    Attributes:
        outcome: 'accepted', 'parser' or 'builder' (who refused it), or 'crash'.
        reason: TensorRT's words; '' where it was accepted.
    """

    outcome: str
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """An example, and what lint and TensorRT say of it.

    Attributes:
        name: Of the example.
        rules: That it breaks.
        verdict: What became of it.
        agree: Whether the two agree; None where it is refused for a reason not yet on record.
    """

    name: str
    rules: tuple[str, ...]
    verdict: Verdict
    agree: bool | None


@app.default
def main(
    *,
    jobs: int = 4,
    json_file: Annotated[Path | None, Parameter(name="--json")] = None,
) -> int:
    """Ask parser and builder, and print a table.

    Args:
        jobs: Examples at once; each takes about 4 GB of memory, and 1 GB of the GPU's.
        json_file: Where the record of what was said goes.
    """
    trt = import_tensorrt()  # before the processes part, so that it is loaded once
    parser = parser_of(trt)
    verdicts = asked(trt, EXAMPLES, jobs)
    rows = [examined(example, verdicts[example.name], parser) for example in EXAMPLES]
    print(f"TensorRT {trt.__version__}, rules of {parser}")
    print(f"{'example':48} {'lint':24} {'TensorRT':9} agree  reason")
    for row in rows:
        print(
            f"{row.name:48} {', '.join(row.rules) or 'accepts':24} {row.verdict.outcome:9} "
            f"{WORDS[row.agree]:5}  {row.verdict.reason[:REASON_LENGTH]}"
        )
    if json_file is not None:
        content = record(str(trt.__version__), EXAMPLES, verdicts)
        json_file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    for title, agree in (("agree", True), ("refused, reason not on record", None)):
        names = [row.name for row in rows if row.agree is agree]
        print(f"{title}: {len(names)} of {len(rows)}: {'; '.join(names)}")
    disagree = [row.name for row in rows if row.agree is False]
    print(f"DISAGREE: {len(disagree)} of {len(rows)}: {'; '.join(disagree) or 'none'}")
    return 1 if disagree else 0


def record(
    version: str, examples: Iterable[Example], verdicts: dict[str, Verdict]
) -> dict[str, Any]:
    """What a version of TensorRT said, when, and of which graphs; for JSON."""
    return {
        "tensorrt": version,
        "date": datetime.now(UTC).strftime("%Y-%m-%dT%H:%MZ"),
        "examples": {
            example.name: {"graph": example.digest(), **asdict(verdicts[example.name])}
            for example in examples
        },
    }


def examined(example: Example, verdict: Verdict, parser: Parser) -> Row:
    """Compare what the lint says of an example with what became of it."""
    findings = lint(onnx.load_model_from_string(example.graph), parser)
    return Row(
        name=example.name,
        rules=tuple(sorted({finding.rule for finding in findings})),
        verdict=verdict,
        agree=agrees(findings, verdict, example.says if parser == "8.6" else None),
    )


def parser_of(trt: ModuleType) -> Parser:
    """Which rules hold for a TensorRT."""
    major = str(trt.__version__).partition(".")[0]
    if major == "8":
        return "8.6"
    return "10" if major == "10" else "11"


def agrees(findings: Iterable[Finding], verdict: Verdict, says: str | None) -> bool | None:
    """Whether TensorRT did as the lint says; None where nothing is known of the reason.

    What nobody refuses is accepted. What parser and builder would refuse is refused by the parser,
    which comes first. A crash is as good as a refusal, for those who do not want one.
    """
    stages = {finding.stage for finding in findings}
    refuser = next((stage for stage in ("parser", "builder") if stage in stages), None)
    if refuser is None:
        return verdict.outcome == "accepted"
    if verdict.outcome == "crash":
        return True
    if verdict.outcome != refuser:
        return False
    return None if says is None else says in verdict.reason


def asked(trt: ModuleType, examples: Sequence[Example], jobs: int) -> dict[str, Verdict]:
    """What becomes of each example, by its name; so many at once in children of this process."""
    context = multiprocessing.get_context("fork")
    waiting, verdicts = list(reversed(examples)), {}
    running: dict[Connection, tuple[str, ForkProcess]] = {}
    while waiting or running:
        while waiting and len(running) < jobs:
            example = waiting.pop()
            receiver, sender = context.Pipe(duplex=False)
            child = context.Process(target=_answer, args=(trt, example, sender))
            child.start()
            sender.close()
            running[receiver] = example.name, child
        for ready in wait(list(running)):
            assert isinstance(ready, Connection)
            name, child = running.pop(ready)
            try:
                verdicts[name] = Verdict(**ready.recv())
            except EOFError:
                child.join()
                verdicts[name] = Verdict(outcome="crash", reason=f"exit code {child.exitcode}")
            child.join()
    return verdicts


def _answer(trt: ModuleType, example: Example, sender: Connection) -> None:
    sender.send(asdict(ask(trt, example)))


def ask(trt: ModuleType, example: Example) -> Verdict:
    """Put an example through the parser, and through the builder if that accepts it."""
    features = probe(trt)
    with tempfile.TemporaryFile("w") as lines:
        log = BuildLog(trt, lines)
        builder = trt.Builder(log.sink)
        network = builder.create_network(features.network_flags)
        parser = trt.OnnxParser(network, log.sink)
        if not parser.parse(example.graph):
            reasons = [parser.get_error(index).desc() for index in range(parser.num_errors)]
            return Verdict(outcome="parser", reason=_line("; ".join(reasons)))
        config = builder.create_builder_config()
        config.builder_optimization_level = 0
        # As the product does: 8.6 with INT8 and no pairs looks for a calibrator, and fails.
        quantized = holds_pairs(onnx.load_model_from_string(example.graph))
        for name in (*features.fp16_flags, *(features.int8_flags if quantized else ())):
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
