"""Whether the accuracy gate stops what breaks on this GPU, and lets pass what does not.

    python -m benchmarks.gpu.gate WORK [--json FILE]

Classifies the digits of the example with its model, and with two models that compute the same in
fp32: one whose activations exceed 65,504, and one whose channels differ by five decades, so that no
scale of int8 serves them all. Every case says beforehand which precision must serve in the end. Its
engines are tiny, and kept in WORK: to decide everything anew, use an empty one.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter

from benchmarks.gpu.commands import CommandFailed, command
from benchmarks.machine import facts
from tests.models.brittle import break_fp16, break_int8, broken_folder

DIGITS = Path(__file__).parent.parent.parent / "examples/digits"
IMAGES = DIGITS / "images"
PACKAGES = ("numpy", "onnx", "onnxruntime", "cuda-python")

BROKEN = {"overflow": break_fp16, "decades": break_int8}

CALIBRATED = ("--calibration-images", str(IMAGES))

app = App(help=__doc__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One run of the command.

    Attributes:
        model: 'digits', or one of `BROKEN`.
        precision: Asked for.
        calibrated: Whether calibration images are given.
        served: What must serve in the end.
        failed: Candidates that the gate must have stopped.
    """

    model: str
    precision: str
    calibrated: bool = False
    served: tuple[str, ...]
    failed: tuple[str, ...] = ()


CASES = (
    Case(model="digits", precision="auto", served=("fp16",)),
    Case(model="digits", precision="int8", calibrated=True, served=("int8",)),
    # Whichever is faster on networks so small; both pass, and the figures are told.
    Case(model="digits", precision="auto", calibrated=True, served=("int8", "fp16")),
    Case(model="overflow", precision="auto", served=("fp32",), failed=("fp16",)),
    Case(model="overflow", precision="fp16", served=("fp32",), failed=("fp16",)),
    Case(model="decades", precision="int8", calibrated=True, served=("fp16",), failed=("int8",)),
    Case(model="decades", precision="auto", calibrated=True, served=("fp16",), failed=("int8",)),
)


@app.default
def main(
    work: Path,
    *,
    batch_size: int = 64,
    seconds: float = 1.0,
    json_file: Annotated[Path | None, Parameter(name="--json")] = None,
) -> None:
    """Run every case, and print a table.

    Args:
        work: Folder for models, engines and outputs; made where there is none.
        batch_size: Images in a batch.
        seconds: How long `build_engine` measures the engine that it finds.
        json_file: Where everything goes that the commands said.
    """
    work.mkdir(parents=True, exist_ok=True)
    results = [run(work, case, batch_size) for case in CASES]
    report = {
        **facts(PACKAGES),
        "cases": results,
        "build_engine": ahead(work, batch_size, seconds),
    }
    if json_file is not None:
        json_file.write_text(json.dumps(report, indent=2) + "\n")
    print_table(report)
    sys.exit(any(result["missed"] for result in [*results, report["build_engine"]]))


def run(work: Path, case: Case, batch_size: int) -> dict[str, Any]:
    """Run the command once; what it decided, and what of that is not as it must be."""
    name = f"{case.model}-{case.precision}" + "-calibrated" * case.calibrated
    line = [str(IMAGES), "--output", str(work / "out" / name), "--overwrite", "--direct"]
    line += [*options(work, case.model, batch_size), "--precision", case.precision]
    line += [*CALIBRATED] if case.calibrated else []
    result: dict[str, Any] = {"model": case.model, "asked": case.precision}
    result["calibrated"] = case.calibrated
    try:
        summary = command("flows.classify_dir", line)
    except CommandFailed as error:
        return result | {"missed": [str(error)]}
    stopped = tuple(t["precision"] for t in summary["gate"]["trials"] if not t["passed"])
    missed = []
    if summary["precision"] not in case.served:
        missed.append(f"{summary['precision']} serves, expected {' or '.join(case.served)}")
    if stopped != case.failed:
        missed.append(f"stopped: {stopped or 'nothing'}, expected {case.failed or 'nothing'}")
    return result | {
        "served": summary["precision"],
        "gate": summary["gate"],
        "engine_built": summary["engine"]["built"],
        "missed": missed,
    }


def ahead(work: Path, batch_size: int, seconds: float) -> dict[str, Any]:
    """The same decision by build_engine: the verdict of the runs above holds."""
    line = [*options(work, "overflow", batch_size), "--precision", "fp16"]
    result: dict[str, Any] = {"model": "overflow", "asked": "fp16, by build_engine"}
    try:
        summary = command("flows.build_engine", [*line[1:], "--seconds", str(seconds)])
    except CommandFailed as error:
        return result | {"missed": [str(error)]}
    served = summary["precision"]
    missed = [] if served == "fp32" else [f"{served} was built, expected fp32"]
    return result | {"served": served, "gate": summary["gate"], "missed": missed}


def options(work: Path, model: str, batch_size: int) -> list[str]:
    """What all commands are given; the model first, after its option."""
    folder = DIGITS / "model"
    if model in BROKEN:
        target = work / "models" / model
        folder = target if target.exists() else broken_folder(folder, target, BROKEN[model])
    return [
        "--model",
        str(folder),
        "--engine-cache",
        str(work / "engines"),
        "--batch-size",
        f"1:{batch_size}:{batch_size}",
    ]


def print_table(report: dict[str, Any]) -> None:
    """A short Markdown table, and the reasons under it."""
    print(f"{report['gpu'] or report['processor']}, {report['date']}\n")
    print("| model | asked for | served | gate | top-1 agreement with fp32, worst logit error |")
    print("| --- | --- | --- | --- | --- |")
    results = [*report["cases"], report["build_engine"]]
    for result in results:
        asked = result["asked"] + ", calibrated" * result.get("calibrated", False)
        if "gate" not in result:
            print(f"| {result['model']} | {asked} | failed | | |")
            continue
        found = "; ".join(
            f"{t['precision']} {t['top1_agreement']:.1%}, {t['worst_error'] or 0:.3g}"
            for t in result["gate"]["trials"]
        )
        gate = result["gate"]["status"]
        print(f"| {result['model']} | {asked} | {result['served']} | {gate} | {found} |")
    print()
    for result in results:
        if result.get("gate", {}).get("why"):
            print(f"- {result['model']}, {result['asked']}: {result['gate']['why']}")
        for text in result["missed"]:
            print(f"- {result['model']}, {result['asked']}: MISSED: {text}")


if __name__ == "__main__":
    app()
