"""Build an engine and measure it: what `trtexec --onnx --saveEngine` does, through the store."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from engines.device import device_info
from engines.manifest import Manifest
from engines.measure import Throughput, measure
from engines.model import Model, load_model
from engines.store import StoredEngine
from shards.decode import Limits
from tasks.backends import GpuBackend
from tasks.candidates import Candidates
from tasks.decision import Decision, gate_lines
from tasks.decode_into import DecodeInto
from tasks.engine import engine_settings, engine_store, memory_limit_bytes
from tasks.engine_report import keep_findings
from tasks.errors import SettingsError
from tasks.prepare import check_image_folders, model_request
from tasks.proof import proof_for_build
from tasks.settings import BuildSettings, Settings

__all__ = ["BuildSummary", "KeptEngine", "build_engine"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptEngine:
    """An engine in the store.

    Attributes:
        key: Its name there.
        built: Whether it was built just now.
        seconds: What building it, or finding it, took.
        why: Why it was built, one sentence each; empty where it was not.
        path: Of its plan.
        plan_bytes: Size of its plan.
        report: The page that shows what TensorRT made of the model; None where it was not written.
    """

    key: str
    built: bool
    seconds: float
    why: tuple[str, ...]
    path: str
    plan_bytes: int
    report: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildSummary:
    """An engine, and what it does; the one JSON object that `--json` prints.

    Attributes:
        status: 'built' or 'found'.
        exit_code: What the command returns: 0.
        model_id: Of the model.
        backend: 'tensorrt'.
        precision: What the engine computes in.
        requested_precision: What --precision asked for.
        gate: What the accuracy gate found: `status`, `why`, `trials`.
        engine: Where it is.
        batch: Batch sizes that it serves, as '1:64:64'.
        height: Image heights, pixels.
        width: Image widths, pixels.
        device: The GPU by name.
        versions: Library name to version, and the GPU's compute capability.
        throughput: What was measured; None where nothing was.
    """

    status: str
    exit_code: int
    model_id: str
    backend: str
    precision: str
    requested_precision: str
    gate: Mapping[str, Any]
    engine: KeptEngine
    batch: str
    height: str
    width: str
    device: str
    versions: dict[str, str]
    throughput: Throughput | None

    def lines(self) -> list[str]:
        """The summary for a person."""
        engine = self.engine
        return [
            f"{self.status.capitalize()} the {self.precision} engine of {self.model_id} in "
            f"{engine.seconds:.1f} s: batches of {self.batch}, images of {self.height}x{self.width}"
            f", {self.device}, TensorRT {self.versions['tensorrt']}.",
            *([f"Why: {'; '.join(engine.why)}"] if engine.why else []),
            f"Plan: {engine.path} ({engine.plan_bytes / 2**20:,.1f} MiB)",
            *([f"Report: {engine.report}"] if engine.report else []),
            *gate_lines(self.precision, self.gate),
            *([] if self.throughput is None else _table(self.throughput)),
        ]


def build_engine(settings: BuildSettings) -> BuildSummary:
    """Find the engine in the store, or build it there, compare it with fp32, and measure it.

    Where a reduced precision does not agree with fp32, the engine is of the next wider one.

    Starts CUDA in this process, and builds in a child of it that dies with this call.

    Raises:
        SettingsError: The settings do not fit together, TensorRT is not installed, or int8 lacks
            images.
        SourceError, NoImagesError: A folder of images cannot be read, or holds none.
        EngineError: The model cannot be used, or the engine not be built, loaded or run.
    """
    if find_spec("tensorrt") is None:
        raise SettingsError(
            "building an engine needs TensorRT, and the Python package tensorrt is not installed. "
            "Install nightshift[gpu], or use the container; without an NVIDIA GPU, classify_dir "
            "runs the model as it is, on ONNX Runtime."
        )
    check_image_folders(settings, gate_from=settings.gate_from)
    device_info(settings.device)  # before the model is read, which takes seconds
    model = load_model(model_request(settings))

    # classify_dir's own limit: the same images give the same calibration, found by both.
    limits = Limits(max_pixels=Settings.model_fields["max_pixels"].default)
    with DecodeInto(model.spec.host, limits) as fill:
        proof = proof_for_build(settings, model, fill)
        backend = GpuBackend(
            settings, model, lambda: proof.calibrated.calibration, rebuild=settings.rebuild
        )
        decision = Candidates(settings, backend, proof).decide()

    def load(engine: StoredEngine) -> BuildSummary:
        with engine:
            how = "Built" if engine.built else "Found"
            _log.info("%s %s in %.1f s", how, engine.folder, engine.seconds)
            throughput = _measure(engine, settings, model) if settings.measure else None
            page = keep_findings(engine_store(settings), engine.key, throughput)
            return _summary(engine, model, decision, throughput, page)

    return backend.load(decision.precision, load)


def _measure(engine: StoredEngine, settings: BuildSettings, model: Model) -> Throughput:
    """Measure the largest batch, which is what classify_dir runs, at the size it would run."""
    batch_size = engine_settings(settings, model).builder.profile.batch.max
    _log.info("Measuring batches of %d, three times %g s", batch_size, settings.seconds)
    return measure(
        engine.plan,
        batch_size=batch_size,
        image_size=(model.input_height, model.input_width),
        device=settings.device,
        seconds=settings.seconds,
        memory_limit_bytes=memory_limit_bytes(settings),
    )


def _summary(
    engine: StoredEngine,
    model: Model,
    decision: Decision,
    throughput: Throughput | None,
    page: Path | None,
) -> BuildSummary:
    manifest = engine.manifest
    return BuildSummary(
        status="built" if engine.built else "found",
        exit_code=0,
        model_id=model.model_id,
        backend="tensorrt",
        precision=manifest.computes_in,
        requested_precision=decision.requested,
        gate=decision.record(),
        engine=KeptEngine(
            key=engine.key,
            built=engine.built,
            seconds=round(engine.seconds, 3),
            why=engine.why,
            path=str(engine.folder / "engine.plan"),
            plan_bytes=len(engine.plan),
            report=None if page is None else str(page),
        ),
        batch=manifest.batch,
        height=manifest.height,
        width=manifest.width,
        device=manifest.gpu_name,
        versions=_versions(manifest),
        throughput=throughput,
    )


def _versions(manifest: Manifest) -> dict[str, str]:
    return {
        "tensorrt": manifest.tensorrt_version,
        "cuda_runtime": manifest.cuda_version,
        "cuda_driver": manifest.driver_version,
        "compute_capability": manifest.compute_capability,
    }


def _table(found: Throughput) -> list[str]:
    height, width = found.image_size
    graph = ", as a CUDA graph" if found.cuda_graph else ""
    latency = found.latency_ms
    return [
        f"Measured with batches of {found.batch_size:,} images of {height}x{width}{graph}:",
        f"  compute only     {found.compute_only:>10,.0f} images/s",
        f"  with transfers   {found.with_transfers:>10,.0f} images/s",
        f"  latency of a batch by itself, with transfers: p50 {latency.p50:.2f} ms, "
        f"p90 {latency.p90:.2f} ms, p99 {latency.p99:.2f} ms",
    ]
