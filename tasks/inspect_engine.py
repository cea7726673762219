"""Show what TensorRT made of a model: a summary, a table, and a page beside the engine."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path

from engines.errors import PlanError
from engines.layer_times import measure_layers
from engines.profile import parse_batch_size, parse_image_size
from engines.report.shares import Share
from engines.store import EngineStore, StoredEngine
from engines.store_entry import PROFILE_FILE, write_beside
from tasks.engine import engine_store
from tasks.engine_choice import choose
from tasks.engine_comparison import ComparedEngine
from tasks.engine_report import ShownEngine, write_report
from tasks.engine_table import summary_lines
from tasks.errors import SettingsError
from tasks.inspect_settings import InspectSettings

__all__ = ["InspectSummary", "ShownLayer", "inspect_engine"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownLayer:
    """A layer of the engine.

    Attributes:
        name: TensorRT's.
        kind: TensorRT's type of it, as 'CaskConvolution'.
        group: What it computes in, or 'reformat', 'no kernel', 'not told'.
        nodes: ONNX nodes in it, as 'conv1 (Conv)'.
        tactic: Name of its kernel.
        milliseconds: None where the engine was not profiled.
        share: Of the time, 0 to 1.
        kernels_tried: None where the build log does not say.
    """

    name: str
    kind: str
    group: str
    nodes: tuple[str, ...]
    tactic: str
    milliseconds: float | None
    share: float | None
    kernels_tried: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class InspectSummary:
    """What is known of an engine; the one JSON object that `--json` prints.

    Attributes:
        status: 'found'.
        exit_code: What the command returns: 0.
        model_id: Of the model.
        key: Of the engine.
        precision: What was asked for.
        device: The GPU that it was built on.
        tensorrt: Version that built it.
        nodes: ONNX nodes that TensorRT was given; None where they were not listed.
        gone: Nodes that are in no layer, and why.
        layers: In the order of execution.
        shares: How much of the engine each precision is.
        profiled: Whether shares are of the time; else they are of the layers.
        kernels_tried: In all layers; None where there is no build log.
        combinations: Combinations of formats considered.
        combinations_reused: Of these, answered from the timing cache.
        comparison: Engines of the same model on the same GPU, fp32 first.
        remarks: What should not be overlooked.
        missing: What could not be read.
        page: The HTML page.
    """

    status: str
    exit_code: int
    model_id: str
    key: str
    precision: str
    device: str
    tensorrt: str
    nodes: int | None
    gone: dict[str, str]
    layers: tuple[ShownLayer, ...]
    shares: tuple[Share, ...]
    profiled: bool
    kernels_tried: int | None
    combinations: int | None
    combinations_reused: int | None
    comparison: tuple[ComparedEngine, ...]
    remarks: tuple[str, ...]
    missing: tuple[str, ...]
    page: str | None

    def lines(self) -> list[str]:
        """The summary for a person."""
        return summary_lines(self)


def inspect_engine(settings: InspectSettings) -> InspectSummary:
    """Read an engine's files, and those of the engines to compare it with; write its page.

    Needs no GPU, unless `profile` is set: then the engine is loaded and run in this process.

    Raises:
        SettingsError: There is no such engine.
        EngineError: The store cannot be read, or the engine not be run.
    """
    store = engine_store(settings)
    key = choose(store, settings.model, settings.precision).manifest.key()
    if settings.profile:
        _profile(store, key, settings)
    shown = write_report(store, key)
    page = shown.kept
    if settings.html is not None:
        page = Path(settings.html)
        _write(page, shown.page)
    return _summary(shown, page)


def _profile(store: EngineStore, key: str, settings: InspectSettings) -> None:
    """Run the engine's largest batch at the image size that it is tuned for."""
    engine = store.load(key)
    if engine is None:
        raise PlanError(f"the engine {key} is gone")
    with engine:
        batch, image_size = _sizes(engine)
        _log.info("Timing the layers with batches of %d, twice %g s", batch, settings.seconds)
        times = measure_layers(
            engine.plan,
            batch_size=batch,
            image_size=image_size,
            device=settings.device,
            seconds=settings.seconds,
        )
        content = json.dumps(times.to_json(), indent=1).encode() + b"\n"
        write_beside(engine.folder, PROFILE_FILE, content)


def _sizes(engine: StoredEngine) -> tuple[int, tuple[int, int]]:
    manifest = engine.manifest
    height, width = (parse_image_size(text)[0].opt for text in (manifest.height, manifest.width))
    return parse_batch_size(manifest.batch).max, (height, width)


def _write(path: Path, page: str) -> None:
    try:
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise SettingsError(f"html (--html): {path} cannot be written: {error}") from error


def _summary(shown: ShownEngine, page: Path | None) -> InspectSummary:
    report = shown.report
    manifest, tuning = report.entry.manifest, report.tuning
    return InspectSummary(
        status="found",
        exit_code=0,
        model_id=manifest.model_id,
        key=report.key,
        precision=report.precision,
        device=manifest.gpu_name,
        tensorrt=manifest.tensorrt_version,
        nodes=None if report.nodes is None else len(report.nodes.nodes),
        gone={fate.node.name: fate.why for fate in report.gone},
        layers=tuple(
            ShownLayer(
                name=row.layer.name,
                kind=row.layer.kind,
                group=row.group,
                nodes=tuple(f"{node.name} ({node.op})" for node in row.nodes),
                tactic=row.layer.tactic,
                milliseconds=row.milliseconds,
                share=row.share,
                kernels_tried=None if row.tuning is None else row.tuning.candidates,
            )
            for row in report.layers
        ),
        shares=report.shares,
        profiled=report.times is not None,
        kernels_tried=None if tuning is None else tuning.candidates,
        combinations=None if tuning is None else tuning.combinations,
        combinations_reused=None if tuning is None else tuning.reused,
        comparison=shown.compared,
        remarks=shown.remarks,
        missing=report.missing,
        page=None if page is None else str(page),
    )
