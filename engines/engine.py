"""From a model to its engine: described, looked up in the store, built where it has to be."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeVar

import onnx
import onnxruntime

from engines.build_process import build_in_child
from engines.build_report import BuildEvent, Report, silent
from engines.build_request import BuildRequest
from engines.builder import RECIPE_VERSION
from engines.device import DeviceInfo, device_info
from engines.errors import PlanError
from engines.features import import_tensorrt, probe
from engines.manifest import Manifest
from engines.precision import precision_recipe
from engines.quantize import Calibration
from engines.settings import EngineSettings
from engines.store import EngineStore, StoredEngine

__all__ = ["BuildableModel", "describe_engine", "open_engine", "prepare_engine"]

Loaded = TypeVar("Loaded")


class BuildableModel(Protocol):
    """The part of a model that an engine is built from."""

    @property
    def name(self) -> str:
        """The same for every version of a model."""

    @property
    def model_id(self) -> str:
        """Name and digest."""

    @property
    def graph(self) -> bytes:
        """The wrapped ONNX graph, weights inside."""


def prepare_engine(
    model: BuildableModel,
    settings: EngineSettings,
    store: EngineStore,
    report: Report = silent,
    *,
    calibration: Calibration | None = None,
    rebuild: bool = False,
) -> StoredEngine:
    """Return the model's engine for this GPU and this TensorRT; build it where there is none.

    Starts CUDA on the GPU in this process, and builds in a child of it.

    Args:
        model: The model.
        settings: What to build, and where.
        store: Where engines are kept.
        report: Called in this thread; every few seconds while something is waited for.
        calibration: Ranges of the model's graph; int8 needs them, other precisions ignore them.
        rebuild: Build it even where there is one.

    Returns:
        The engine, in use until it is closed.

    Raises:
        BackendUnavailableError: TensorRT, CUDA, the GPU or a setting is not available.
        EngineBuildError: The build failed, crashed or ran out of time.
        DeviceMemoryError: The GPU has too little free memory for a build.
        ModelError: The model does not survive the conversion to the precision asked for, or the
            calibration is another model's.
        PlanError: The store cannot keep the engine.
        CudaError: The GPU does not answer.
    """
    version = probe(import_tensorrt()).version
    device = device_info(settings.device)
    if settings.builder.precision != "int8":
        calibration = None
    elif calibration is not None:
        calibration.require_graph(model.graph)
    manifest = describe_engine(model, settings, device, version, calibration)

    def build(folder: Path) -> None:
        request = BuildRequest(
            folder=folder,
            settings=settings.builder,
            device=settings.device,
            timings=store.timings if settings.timing_cache else None,
            gpu=f"{device.name} {device.compute_capability}",
        )
        build_in_child(
            model.graph,
            request,
            calibration=calibration,
            deadline_s=settings.deadline_s,
            report=report,
        )

    return store.get_or_build(manifest, build, rebuild=rebuild, report=report)


def open_engine(
    model: BuildableModel,
    settings: EngineSettings,
    store: EngineStore,
    load: Callable[[StoredEngine], Loaded],
    report: Report = silent,
    *,
    calibration: Calibration | None = None,
    rebuild: bool = False,
) -> Loaded:
    """Prepare an engine and load it; one that does not load is set aside and built once more.

    Args:
        model: The model.
        settings: What to build, and where.
        store: Where engines are kept.
        load: Deserializes `plan` and closes the engine when it is done with it; raises PlanError
            where TensorRT refuses the plan.
        report: As in `prepare_engine`.
        calibration: As in `prepare_engine`.
        rebuild: As in `prepare_engine`.

    Raises:
        PlanError: The engine does not load even when it was just built.
        EngineError: As in `prepare_engine`, or what `load` raised.
    """
    engine = prepare_engine(
        model, settings, store, report, calibration=calibration, rebuild=rebuild
    )
    try:
        return _load(engine, store, load)
    except PlanError as error:
        if engine.built:
            raise
        report(BuildEvent(text=f"The stored engine does not load and is built again: {error}"))
    engine = prepare_engine(model, settings, store, report, calibration=calibration)
    return _load(engine, store, load)


def _load(
    engine: StoredEngine, store: EngineStore, load: Callable[[StoredEngine], Loaded]
) -> Loaded:
    try:
        return load(engine)
    except BaseException as error:
        engine.close()
        if isinstance(error, PlanError):
            store.quarantine(engine.key)
        raise


def describe_engine(
    model: BuildableModel,
    settings: EngineSettings,
    device: DeviceInfo,
    tensorrt_version: str,
    calibration: Calibration | None = None,
) -> Manifest:
    """State every ingredient of the engine that `settings` ask for."""
    builder = settings.builder
    return Manifest(
        graph_digest=hashlib.sha256(model.graph).hexdigest(),
        precision=precision_recipe(builder.precision),
        calibration_digest=None if calibration is None else calibration.digest,
        batch=str(builder.profile.batch),
        height=str(builder.profile.height),
        width=str(builder.profile.width),
        workspace_bytes=builder.workspace_bytes,
        optimization_level=builder.optimization_level,
        tf32=builder.tf32,
        max_aux_streams=builder.max_aux_streams,
        version_compatible=builder.version_compatible,
        hardware_compatibility=builder.hardware_compatibility,
        recipe_version=RECIPE_VERSION,
        tensorrt_version=tensorrt_version,
        gpu_name=device.name,
        compute_capability=device.compute_capability,
        model=model.name,
        model_id=model.model_id,
        gpu_memory_bytes=device.total_bytes,
        driver_version=device.driver_version,
        cuda_version=device.runtime_version,
        onnx_version=onnx.__version__,
        onnxruntime_version=onnxruntime.__version__,
    )
