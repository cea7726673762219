"""Proves that labels from the GPU are right: tables of classify_dir against ONNX Runtime's logits.

    python -m benchmarks.gpu.classify WORK [--models resnet18] [--precisions fp16] [--json FILE]

For each model and precision `flows.build_engine` builds the engine, `flows.classify_dir` classifies
thousands of JPEGs with it, and the Parquet that it wrote is read: one row for each image, and the
scores of all classes. The same images, decoded the same way, go through ONNX Runtime on the CPU in
fp32. The exit code is 1 if a requirement below is missed. Images, models, engines and reference are
made in WORK where they are missing, so the command can be stopped and started again.

The models have random weights, but a last layer made for this: see `whiten_last_layer`.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from cyclopts import App, Parameter
from numpy.typing import NDArray

from benchmarks.gpu.agreement import (
    CLASSES,
    LOGIT_BOUNDS,
    Comparison,
    compare,
    read_table,
    shortcomings,
)
from benchmarks.gpu.commands import CommandFailed, command
from benchmarks.images import write_images
from benchmarks.machine import facts
from benchmarks.models import RANDOM_WEIGHTS, whiten_last_layer, write_model_folder
from benchmarks.resnet import Architecture
from engines.model import ModelRequest, load_model
from engines.onnx_runtime import OnnxRuntimeClassifier
from engines.streaming import stream
from shards.allocator import tune_allocator
from shards.decode import Limits
from shards.stored import Stored
from tasks.decode_into import DecodeInto

Precision = Literal["fp32", "fp16"]
Logits = NDArray[np.float32]
PACKAGES = ("numpy", "onnx", "onnxruntime", "pillow", "pyarrow", "cuda-python")
REFERENCE_BATCH = 32
MADE_BY = ("model_id", "backend", "precision", "engine_key", "device", "versions")

app = App(help=__doc__)


@dataclass(slots=True, kw_only=True)
class Case:
    """One model in one precision.

    Attributes:
        model: Name of its folder.
        precision: What the engine computes in.
        rows: Rows of the table.
        missed: Requirements that were missed, in words.
        seconds: What each step took.
        engine: What build_engine said.
        run: What classify_dir said.
        footer: What the table says of how it was made.
        comparison: None where it did not come to that.
    """

    model: str
    precision: str
    rows: int = 0
    missed: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    engine: dict[str, Any] = field(default_factory=dict)
    run: dict[str, Any] = field(default_factory=dict)
    footer: dict[str, Any] = field(default_factory=dict)
    comparison: Comparison | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """What all cases share.

    Attributes:
        photos: Folder of the JPEGs.
        images: How many there are.
        batch_size: Images in a batch.
        cache: Where engines are kept.
        seconds: How long each loop of build_engine's measurement lasts.
        tables: Where tables are written, each in a folder of its own.
    """

    photos: Path
    images: int
    batch_size: int
    cache: Path
    seconds: float
    tables: Path


@app.default
def main(
    work: Path,
    *,
    models: list[Architecture] | None = None,
    precisions: list[Precision] | None = None,
    images: int = 4096,
    reference_images: int = 2048,
    batch_size: int = 256,
    engine_cache: Path | None = None,
    seconds: float = 2.0,
    json_file: Annotated[Path | None, Parameter(name="--json")] = None,
) -> int:
    """Classify, compare, and print a table.

    Args:
        work: Folder for everything that is made.
        models: Which ResNets; both by default.
        precisions: Which precisions; fp16 and fp32 by default.
        images: How many JPEGs are classified.
        reference_images: How many of them the CPU computes, too.
        batch_size: Images in a batch.
        engine_cache: Where engines are kept; WORK/engines by default.
        seconds: How long each loop of build_engine's measurement lasts.
        json_file: Where every figure goes, again after each model and precision. Those of others
            that it holds already are kept.
    """
    tune_allocator()
    work = work.resolve()
    ground = Ground(
        photos=work / f"images-{images}",
        images=images,
        batch_size=batch_size,
        cache=(engine_cache or work / "engines").resolve(),
        seconds=seconds,
        tables=work / "tables",
    )
    photos = ground.photos
    with step("images"):
        if sum(1 for _ in photos.rglob("*.jpg")) != images:
            write_images(photos, images)
    cases = earlier_cases(json_file)
    for name in models or ["resnet18", "resnet50"]:
        folder = work / "models" / name
        with step(f"{name}: model"):
            make_model(name, folder, photos)
        reference = reference_logits(folder, photos, reference_images, work / "reference")
        for precision in precisions or ["fp16", "fp32"]:
            case = Case(model=name, precision=precision)
            prove(case, folder, reference, ground)
            cases[name, precision] = asdict(case)
            report = facts(PACKAGES) | {"cases": list(cases.values())}
            if json_file is not None:
                json_file.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print_table(report)
    return 1 if any(case["missed"] for case in cases.values()) else 0


def earlier_cases(json_file: Path | None) -> dict[tuple[str, str], dict[str, Any]]:
    """The cases that a report holds already, by model and precision."""
    if json_file is None or not json_file.exists():
        return {}
    report = json.loads(json_file.read_text(encoding="utf-8"))
    return {(case["model"], case["precision"]): case for case in report["cases"]}


def make_model(name: Architecture, folder: Path, photos: Path) -> None:
    """Write a ResNet whose labels differ between images, if there is none yet."""
    if folder.exists():
        return
    unfinished = folder.with_name(f"{name}.unfinished")
    write_model_folder(name, unfinished, classes=CLASSES)
    whiten_last_layer(unfinished, photos, 512)
    unfinished.rename(folder)


def reference_logits(folder: Path, photos: Path, count: int, kept_in: Path) -> dict[str, Logits]:
    """The logits of the first `count` images in fp32 on the CPU, by file name; kept in a file."""
    model = load_model(ModelRequest(path=folder))
    kept = kept_in / f"{model.model_id}-{count}.npy"
    paths = sorted(photos.rglob("*.jpg"))[:count]
    if not kept.exists():
        unfinished = kept_in / "unfinished.npy"
        kept_in.mkdir(parents=True, exist_ok=True)
        with (
            step(f"{folder.name}: reference"),
            OnnxRuntimeClassifier(model, batch_size=REFERENCE_BATCH, logits=True) as classifier,
            DecodeInto(model.spec.host, Limits()) as fill,
            ThreadPoolExecutor(fill.workers) as decoders,
        ):
            items = (Stored(os.fsencode(path)) for path in paths)
            batches = stream(items, fill, classifier, decoders)
            logits = np.concatenate([batch.predictions.logits for batch in batches])
            np.save(unfinished, logits)
        unfinished.rename(kept)
    names = (path.relative_to(photos).as_posix() for path in paths)
    return dict(zip(names, np.load(kept), strict=True))


def prove(case: Case, folder: Path, reference: dict[str, Logits], ground: Ground) -> None:
    """Build, classify, read and compare; fills the case in."""
    title = f"{case.model} {case.precision}"
    shared = ["--precision", case.precision, "--batch-size", str(ground.batch_size)]
    shared += ["--engine-cache", str(ground.cache), "--top-k", str(CLASSES), *RANDOM_WEIGHTS]
    build = [str(folder), *shared, "--seconds", str(ground.seconds)]
    out = ground.tables / f"{case.model}-{case.precision}"
    shutil.rmtree(out, ignore_errors=True)
    run = [str(ground.photos), "--model", str(folder), "--output", str(out), *shared]
    run += ["--backend", "tensorrt", "--direct", "--no-progress"]
    try:
        with step(f"{title}: engine", case.seconds):
            case.engine = command("flows.build_engine", build)
        with step(f"{title}: classify_dir", case.seconds):
            case.run = command("flows.classify_dir", run)
    except CommandFailed as error:
        case.missed.append(str(error))
        return
    with step(f"{title}: comparison", case.seconds):
        names, scores, footer = read_table(out / "predictions")
        case.footer = {name: footer[name] for name in MADE_BY}
        case.rows = len(names)
        check_table(case, names, ground)
        row = {name: index for index, name in enumerate(names)}
        if not reference.keys() <= row.keys():
            return
        served = scores[[row[name] for name in reference]]
        case.comparison = compare(
            served, np.stack(list(reference.values())), LOGIT_BOUNDS[case.precision]
        )
        case.missed += shortcomings(case.comparison, case.precision)


def check_table(case: Case, names: Sequence[str], ground: Ground) -> None:
    """One row for each image, all labelled, by the engine that was built."""
    photos = ground.photos
    files = sorted(path.relative_to(photos).as_posix() for path in photos.rglob("*.jpg"))
    if sorted(names) != files or len(files) != ground.images:
        case.missed.append(f"{len(names)} rows for {len(files)} images, expected one for each")
    if case.run["ok"] != ground.images:
        case.missed.append(f"{case.run['ok']} of {ground.images} images have a label")
    made_by = {name: case.footer[name] for name in ("backend", "precision", "engine_key")}
    expected = {
        "backend": "tensorrt",
        "precision": case.precision,
        "engine_key": case.engine["engine"]["key"],
    }
    if made_by != expected:
        case.missed.append(f"the table was made by {made_by}, expected {expected}")
    if case.run["engine"]["built"]:
        case.missed.append("classify_dir built an engine instead of taking the one from the store")


@contextmanager
def step(name: str, seconds: dict[str, float] | None = None) -> Iterator[None]:
    """Say how long something took, and note it."""
    started = time.perf_counter()
    yield
    elapsed = round(time.perf_counter() - started, 2)
    print(f"{name}: {elapsed} s", file=sys.stderr, flush=True)
    if seconds is not None:
        seconds[name.rpartition(": ")[2]] = elapsed


def print_table(report: dict[str, Any]) -> None:
    """A short Markdown table, and what was missed."""
    print(f"{report['gpu']}, {report['date']}\n")
    print(
        "| model | precision | build, s | engine alone / with transfers, images/s | rows "
        "| logit bound | left out | top-1 agreement | of all "
        "| worst / median logit difference | classes |"
    )
    print("| --- | --- |" + 9 * " ---: |")
    for case in report["cases"]:
        print(
            f"| {case['model']} | {case['precision']} | {built(case)} | {case['rows']:,} ", end=""
        )
        if (found := case["comparison"]) is not None:
            print(
                f"| {found['bound']} | {found['left_out']:.2%} | {found['agreement']:.3%} "
                f"| {found['agreement_of_all']:.3%} | {found['worst_difference']:.5f} / "
                f"{found['median_difference']:.5f} | {found['classes']} ",
                end="",
            )
        print("|")
    for case in report["cases"]:
        for missed in case["missed"]:
            print(f"\nMISSED: {case['model']} {case['precision']}: {missed}")


def built(case: dict[str, Any]) -> str:
    """Two cells: what building took, and what was built."""
    if not case["engine"]:
        return "failed |"
    engine, throughput = case["engine"]["engine"], case["engine"]["throughput"]
    seconds = f"{engine['seconds']:.0f}" if engine["built"] else "kept"
    rates = (throughput[name] for name in ("compute_only", "with_transfers"))
    return f"{seconds} | " + " / ".join(f"{rate:,.0f}" for rate in rates)


if __name__ == "__main__":
    raise SystemExit(app())
