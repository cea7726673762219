"""Which backend runs the model, and how it is opened in each precision."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol, TypeVar

from engines.classifier import Classifier
from engines.engine import describe_engine, open_engine
from engines.errors import BackendUnavailableError
from engines.features import import_tensorrt
from engines.manifest import canonical_json
from engines.model import Model
from engines.onnx_runtime import OnnxRuntimeClassifier, processor_name
from engines.ort_session import available_cores, runtime_version
from engines.precision import apply_precision, precision_recipe
from engines.profile import parse_batch_size
from engines.quantize import Calibration
from engines.store import StoredEngine
from engines.store_entry import make_private
from tasks.doctor_settings import DoctorSettings
from tasks.engine import (
    BuildLog,
    cache_folder,
    engine_settings,
    engine_store,
    memory_limit_bytes,
)
from tasks.model_settings import ModelSettings
from tasks.settings import Settings

__all__ = [
    "Backend",
    "CpuBackend",
    "GpuBackend",
    "Opened",
    "backend_of",
    "largest_batch",
]

_log = logging.getLogger(__name__)

Loaded = TypeVar("Loaded")

Calibrate = Callable[[], Calibration]
"""Finds or makes the ranges that int8 needs; called where they are needed, and not before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A classifier, and where its engine came from.

    Attributes:
        classifier: Open; the receiver closes it.
        engine_built: Whether its engine was built by this process; None where nothing is built.
        engine_seconds: What building it, or finding it in the store, took.
    """

    classifier: Classifier
    engine_built: bool | None = None
    engine_seconds: float | None = None


class Backend(Protocol):
    """The model on one device, to be opened in any precision that the device computes in."""

    @property
    def usual(self) -> str:
        """What `auto` takes where nothing was calibrated."""

    @property
    def wider(self) -> Mapping[str, str]:
        """Each precision but fp32 to the next wider one."""

    @property
    def place(self) -> str:
        """What a speed holds for: device, batch size, threads."""

    def folder(self, precision: str) -> Path:
        """Where verdicts on a precision other than fp32 are kept; may not be there yet.

        Raises:
            SettingsError: int8, and nothing to calibrate on.
            EngineError: As `open`.
        """

    def failed_build(self, precision: str) -> str | None:
        """Why the engine could not be built of late, in words; None where that is worth a try.

        Raises:
            SettingsError: int8, and nothing to calibrate on.
            EngineError: As `open`.
        """

    def open(self, precision: str, *, logits: bool = False, embedding: bool = False) -> Opened:
        """Open the model, and build its engine where there is none.

        Args:
            precision: What it computes in.
            logits: Fetch the logits, too.
            embedding: Fetch the embedding, too.

        Raises:
            BackendUnavailableError: This backend does not compute in this precision.
            ModelError: The model does not survive its conversion.
            EngineError: The engine cannot be built, loaded or run.
        """


def largest_batch(settings: ModelSettings, batch_limit: int | None) -> int:
    """Images of a full batch: what the settings ask for, or less where that ran out of memory."""
    asked = parse_batch_size(str(settings.batch_size)).max
    return asked if batch_limit is None else min(asked, batch_limit)


def backend_of(
    settings: Settings | DoctorSettings,
    model: Model,
    calibrate: Calibrate,
    batch_limit: int | None,
) -> Backend:
    """The backend that the settings ask for; `auto` says what it chose, and why.

    Args:
        settings: backend, and everything of `ModelSettings` but what describes the model.
        model: What to run, in fp32.
        calibrate: Finds or makes the ranges for int8.
        batch_limit: Largest batch, where a larger one ran out of memory before. The engine is one
            for such batches: its activations take the memory that its largest batch needs.

    Raises:
        BackendUnavailableError: TensorRT was asked for and cannot be used here.
    """
    kind = GpuBackend if _uses_tensorrt(settings) else CpuBackend
    return kind(settings, model, calibrate, batch_limit)


def _uses_tensorrt(settings: Settings | DoctorSettings) -> bool:
    if settings.backend != "auto":
        return settings.backend == "tensorrt"
    if find_spec("tensorrt") is None:
        why = "TensorRT is not installed"
    else:
        try:
            from engines.device import device_info

            name = device_info(settings.device).name  # first: 8.6 crashes where there is no driver
            import_tensorrt()
        except BackendUnavailableError as error:
            why = str(error)
        else:
            _log.info("backend auto: TensorRT on %s", name)
            return True
    _log.info("backend auto: ONNX Runtime on the CPU, because %s", why)
    return False


class CpuBackend:
    """ONNX Runtime: fp32, or int8 where something was calibrated. See `Backend`."""

    usual = "fp32"
    wider: Mapping[str, str] = {"int8": "fp32"}

    def __init__(
        self, settings: ModelSettings, model: Model, calibrate: Calibrate, batch_limit: int | None
    ) -> None:
        self._settings = settings
        self._model = model
        self._calibrate = calibrate
        self._batch_size = largest_batch(settings, batch_limit)

    @property
    def place(self) -> str:
        """Processor, batch size and threads."""
        cores = available_cores()
        return f"{processor_name()}, {cores} threads, batches of {self._batch_size}"

    def folder(self, precision: str) -> Path:
        """A folder beside the calibrations: the graph is made anew in each process, in seconds."""
        self._check(precision)
        ingredients = {
            "graph": hashlib.sha256(self._model.graph).hexdigest(),
            "calibration": self._calibrate().digest,
            "precision": precision_recipe(precision),
            "onnxruntime": runtime_version(),
            "processor": processor_name(),
        }
        key = hashlib.sha256(canonical_json(ingredients)).hexdigest()
        folder = cache_folder(self._settings) / "calibrations" / key
        make_private(folder)
        return folder

    def failed_build(self, precision: str) -> str | None:
        """Nothing is built. See `Backend.failed_build`."""
        self._check(precision)
        return None

    def open(self, precision: str, *, logits: bool = False, embedding: bool = False) -> Opened:
        """Load the graph, rewritten for int8. See `Backend.open`."""
        self._check(precision)
        return Opened(
            classifier=OnnxRuntimeClassifier(
                self._model if precision == "fp32" else self._int8,
                batch_size=self._batch_size,
                precision=precision,
                logits=logits,
                embedding=embedding,
            )
        )

    def _check(self, precision: str) -> None:
        if precision not in ("fp32", "int8"):
            raise BackendUnavailableError(
                f"--precision {precision} needs TensorRT, and ONNX Runtime on the CPU was chosen: "
                "use --precision fp32, int8 or auto, or --backend tensorrt on a machine with a GPU."
            )

    @cached_property
    def _int8(self) -> Model:
        graph = apply_precision(
            self._model.graph, "int8", calibration=self._calibrate(), target="onnxruntime"
        )
        return replace(self._model, graph=graph)


class GpuBackend:
    """TensorRT: an engine in the store for each precision. See `Backend`."""

    usual = "fp16"
    wider: Mapping[str, str] = {"int8": "fp16", "fp16": "fp32", "bf16": "fp32"}

    def __init__(
        self,
        settings: ModelSettings,
        model: Model,
        calibrate: Calibrate,
        batch_limit: int | None = None,
        *,
        rebuild: bool = False,
    ) -> None:
        """Open nothing yet.

        Args:
            settings: What describes the engine.
            model: What it is built from.
            calibrate: Finds or makes the ranges for int8.
            batch_limit: Largest batch, where a larger one ran out of memory before.
            rebuild: Build each engine once more, when it is first needed.
        """
        self._settings = settings
        self._model = model
        self._calibrate = calibrate
        self._batch_limit = batch_limit
        self._rebuild = rebuild
        self._built: dict[str, tuple[float, tuple[str, ...]]] = {}
        """Seconds of each build by this process, and why it was built."""
        self._told: set[str] = set()

    @property
    def place(self) -> str:
        """GPU and batch size."""
        from engines.device import device_info

        batch = largest_batch(self._settings, self._batch_limit)
        return f"{device_info(self._settings.device).name}, batches of {batch}"

    def folder(self, precision: str) -> Path:
        """The engine's folder in the store."""
        if self._rebuild and precision not in self._built:
            self.load(precision, StoredEngine.close)  # what is known of the old one counts no more
        return engine_store(self._settings).folder(self._key(precision))

    def failed_build(self, precision: str) -> str | None:
        """What the store knows of the last try. See `Backend.failed_build`."""
        if self._rebuild:
            return None
        found = engine_store(self._settings).failure(self._key(precision))
        return None if found is None else str(found)

    def _key(self, precision: str) -> str:
        """The engine's key in the store."""
        from engines.device import device_info

        version = str(import_tensorrt().__version__)
        manifest = describe_engine(
            self._model,
            engine_settings(self._settings, self._model, self._batch_limit, precision=precision),
            device_info(self._settings.device),
            version,
            self._calibration(precision),
        )
        return manifest.key()

    def open(self, precision: str, *, logits: bool = False, embedding: bool = False) -> Opened:
        """Load the engine, built where there is none. See `Backend.open`."""
        from engines.tensorrt_runner import TensorRTClassifier

        def load(engine: StoredEngine) -> Opened:
            with engine:
                classifier = TensorRTClassifier(
                    engine.plan,
                    batch_size=largest_batch(self._settings, self._batch_limit),
                    image_size=(self._model.input_height, self._model.input_width),
                    precision=precision,
                    classes=self._model.classes,
                    device=self._settings.device,
                    memory_limit_bytes=memory_limit_bytes(self._settings),
                    engine_key=engine.key,
                    logits=logits,
                    embedding=embedding,
                )
            self._tell(precision, engine)
            if precision in self._built:
                self._show(engine.key)
            return Opened(
                classifier=classifier,
                engine_built=engine.built,
                engine_seconds=round(engine.seconds, 3),
            )

        return self.load(precision, load)

    def _tell(self, precision: str, engine: StoredEngine) -> None:
        """Say once where an engine is from: it is opened to be compared, timed, and to serve."""
        if precision not in self._told:
            self._told.add(precision)
            how = "Built" if engine.built else "Found"
            _log.info(
                "%s the %s engine %.12s in %.1f s", how, precision, engine.key, engine.seconds
            )

    def _show(self, key: str) -> None:
        """Put the page beside a new engine; once more when there is a verdict on it."""
        from tasks.engine_report import keep_findings  # loads Jinja, for what is seldom built

        keep_findings(engine_store(self._settings), key, None)

    def load(self, precision: str, load: Callable[[StoredEngine], Loaded]) -> Loaded:
        """Find the engine, or build it, and load it.

        Args:
            precision: What it computes in.
            load: As for `open_engine`. What this process built earlier, to compare it, counts as
                built when it is loaded to serve.

        Returns:
            What `load` returned.

        Raises:
            EngineError: As `open`.
        """

        def remember(engine: StoredEngine) -> Loaded:
            if engine.built:
                self._built[precision] = engine.seconds, engine.why
            if precision in self._built:
                seconds, why = self._built[precision]
                engine = replace(engine, built=True, seconds=seconds, why=why)
            return load(engine)

        return open_engine(
            self._model,
            engine_settings(self._settings, self._model, self._batch_limit, precision=precision),
            engine_store(self._settings),
            remember,
            BuildLog(),
            calibration=self._calibration(precision),
            rebuild=self._rebuild and precision not in self._built,
        )

    def _calibration(self, precision: str) -> Calibration | None:
        return self._calibrate() if precision == "int8" else None
