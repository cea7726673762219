"""How fast a model is in each precision, measured in turns, and what in an engine is int8.

    python -m benchmarks.gpu.precisions MODEL... --calibration-images DIR --engine-cache CACHE

Each model is built in fp16 and in int8, calibrated on the images, as `flows.build_engine` does it:
engines and calibrations come from the cache and stay there. The accuracy gate is off: speed does
not depend on it. Then bare loops, in which nothing is copied, run in turns, so that a GPU that
warms up or is shared does not favour one of them; the median of each counts. Last, the layers are
timed one by one, which says how much of the time is spent in int8.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Annotated, Any, Literal

from cyclopts import App, Parameter

from benchmarks.machine import facts
from engines.measure import bare_loop
from engines.model import ModelRequest, load_model
from engines.store import EngineStore, StoredEngine
from engines.store_entry import LAYERS_FILE, read_entry
from tasks.build_engine import build_engine
from tasks.inspect_engine import inspect_engine
from tasks.inspect_settings import InspectSettings
from tasks.settings import BuildSettings

__all__ = ["Case"]

Precision = Literal["fp32", "fp16", "int8"]

BASE: Precision = "fp16"
"""What the others are compared with."""

PACKAGES = ("numpy", "onnx", "onnxruntime", "cuda-python")

app = App(help=__doc__)


@dataclass(slots=True, kw_only=True)
class Case:
    """One model in one precision.

    Attributes:
        model: Its identity.
        precision: What its engine computes in.
        key: Of the engine.
        tensorrt: Version that built it.
        build_seconds: How long TensorRT took to build it, whenever that was.
        plan_bytes: Size of the plan.
        batch_size: Images of a batch.
        rounds: Images a second of each turn.
        images_per_second: Median of them.
        of_base: As a part of what the model does in fp16; None without fp16.
        shares: Of the time of all layers, by what they compute in.
        layers: What the inspector said of them; a file.
        page: The report on the engine; a file.
    """

    model: str
    precision: str
    key: str
    tensorrt: str
    build_seconds: float
    plan_bytes: int
    batch_size: int
    rounds: list[float] = field(default_factory=list)
    images_per_second: float = 0.0
    of_base: float | None = None
    shares: dict[str, float] = field(default_factory=dict)
    layers: str = ""
    page: str | None = None


@app.default
def main(
    *models: Path,
    calibration_images: Path,
    engine_cache: Path,
    precisions: list[Precision] | None = None,
    batch_size: int = 256,
    rounds: int = 3,
    seconds: float = 2.0,
    json_file: Annotated[Path | None, Parameter(name="--json")] = None,
) -> None:
    """Build, measure, and print a table.

    Args:
        models: Model folders.
        calibration_images: Directory of images that int8 is calibrated on.
        engine_cache: Where engines are kept.
        precisions: Which ones; fp16 and int8 by default.
        batch_size: Images of a batch; the engines serve 1 to this, and are tuned for it.
        rounds: Turns of each engine.
        seconds: How long each turn lasts, about.
        json_file: Where every figure goes, again after each model.
    """
    report: dict[str, Any] = facts(PACKAGES) | {"cases": []}
    for model in models:
        cases = [
            built(model, precision, calibration_images, engine_cache, batch_size)
            for precision in precisions or ("fp16", "int8")
        ]
        measure_in_turns(model, cases, EngineStore(engine_cache), rounds, seconds)
        for case in cases:
            look_inside(case, engine_cache, seconds)
        report["cases"] += [asdict(case) for case in cases]
        if json_file is not None:
            json_file.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print_table(report)


def built(
    model: Path, precision: Precision, calibration_images: Path, engine_cache: Path, batch_size: int
) -> Case:
    """Find the engine, or build it."""
    settings = BuildSettings(
        model=str(model),
        precision=precision,
        calibration_images=str(calibration_images) if precision == "int8" else None,
        gate_images=0,
        batch_size=str(batch_size),
        engine_cache=str(engine_cache),
        measure=False,
    )
    summary = build_engine(settings)
    print("\n".join(summary.lines()), file=sys.stderr, flush=True)
    with loaded(EngineStore(engine_cache), summary.engine.key) as engine:
        return Case(
            model=summary.model_id,
            precision=summary.precision,
            key=engine.key,
            tensorrt=engine.manifest.tensorrt_version,
            build_seconds=round(read_entry(engine.folder).seconds, 1),
            plan_bytes=len(engine.plan),
            batch_size=batch_size,
            layers=str(engine.folder / LAYERS_FILE),
        )


def loaded(store: EngineStore, key: str) -> StoredEngine:
    """An engine that is there."""
    engine = store.load(key)
    if engine is None:
        raise SystemExit(f"the engine {key} is gone")
    return engine


def measure_in_turns(
    model: Path, cases: list[Case], store: EngineStore, rounds: int, seconds: float
) -> None:
    """One bare loop after the other, each engine once in a round."""
    found = load_model(ModelRequest(path=model))
    for _ in range(rounds):
        for case in cases:
            with loaded(store, case.key) as engine:
                timing = bare_loop(
                    engine.plan,
                    batch_size=case.batch_size,
                    image_size=(found.input_height, found.input_width),
                    seconds=seconds,
                )
            case.rounds.append(round(timing.images_per_second, 1))
    base = next((median(case.rounds) for case in cases if case.precision == BASE), None)
    for case in cases:
        case.images_per_second = median(case.rounds)
        case.of_base = None if base is None else round(case.images_per_second / base, 3)


def look_inside(case: Case, engine_cache: Path, seconds: float) -> None:
    """Time the layers, and write the report on the engine."""
    summary = inspect_engine(
        InspectSettings(
            model=case.key, engine_cache=str(engine_cache), profile=True, seconds=seconds
        )
    )
    case.shares = {share.group: round(share.share, 4) for share in summary.shares}
    case.page = summary.page


def print_table(report: dict[str, Any]) -> None:
    """A short Markdown table."""
    print(f"{report['gpu']}, {report['date']}\n")
    print(
        "| model | precision | images/s | of fp16 | lowest to highest | build, s | plan, MiB "
        "| int8, of the time |"
    )
    print("| --- | --- |" + 6 * " ---: |")
    for case in report["cases"]:
        ratio = "" if case["of_base"] is None else f"{case['of_base']:.3f}"
        print(
            f"| {case['model']} | {case['precision']} | {case['images_per_second']:,.0f} | {ratio} "
            f"| {min(case['rounds']):,.0f} to {max(case['rounds']):,.0f} "
            f"| {case['build_seconds']:.0f} | {case['plan_bytes'] / 2**20:,.1f} "
            f"| {case['shares'].get('int8', 0):.1%} |"
        )


if __name__ == "__main__":
    app()
