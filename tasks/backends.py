"""Which backend runs the model, and with what."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from platformdirs import user_cache_path

from engines.build_report import BuildEvent
from engines.classifier import Classifier
from engines.engine import open_engine
from engines.errors import BackendUnavailableError
from engines.model import Model
from engines.onnx_runtime import OnnxRuntimeClassifier
from engines.profile import Profile, ShapeRange, parse_batch_size, parse_image_size
from engines.settings import BuilderSettings, EngineSettings
from engines.store import EngineStore, StoredEngine
from tasks.errors import SettingsError
from tasks.settings import Settings

__all__ = ["Opened", "engine_settings", "engine_store", "open_classifier"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A classifier, and where its engine came from.

    Attributes:
        classifier: Open; the receiver closes it.
        engine_built: Whether its engine was built just now; None where nothing is built.
        engine_seconds: What building it, or finding it in the store, took.
    """

    classifier: Classifier
    engine_built: bool | None = None
    engine_seconds: float | None = None


def open_classifier(settings: Settings, model: Model, batch_limit: int | None) -> Opened:
    """Open the classifier that the settings ask for, in this process.

    Args:
        settings: backend, precision, batch_size, image_size, device, engine_cache, device_memory.
        model: What to run.
        batch_limit: Largest batch, where a larger one ran out of memory before.

    Raises:
        BackendUnavailableError: TensorRT was asked for and cannot be used here.
        EngineError: The engine cannot be built, loaded or run.
    """
    batch = parse_batch_size(str(settings.batch_size))
    batch_size = batch.max if batch_limit is None else min(batch.max, batch_limit)
    if _uses_tensorrt(settings):
        return _open_tensorrt(settings, model, batch_size)
    if settings.precision not in ("auto", "fp32"):
        raise BackendUnavailableError(
            f"--precision {settings.precision} needs TensorRT, and ONNX Runtime on the CPU was "
            "chosen: use --precision fp32 or auto, or --backend tensorrt on a machine with a GPU."
        )
    return Opened(classifier=OnnxRuntimeClassifier(model, batch_size=batch_size))


def engine_settings(settings: Settings, model: Model) -> EngineSettings:
    """What engine these settings ask for."""
    return EngineSettings(
        builder=BuilderSettings(
            precision="fp16" if settings.precision == "auto" else settings.precision,
            profile=_profile(settings, model),
        ),
        device=settings.device,
    )


def engine_store(settings: Settings) -> EngineStore:
    """The store below --engine-cache, or below the user's cache directory."""
    cache = settings.engine_cache
    return EngineStore(user_cache_path("nightshift") if cache is None else Path(cache))


def _uses_tensorrt(settings: Settings) -> bool:
    """Whether TensorRT serves; `auto` says what it chose, and why."""
    if settings.backend != "auto":
        return settings.backend == "tensorrt"
    if find_spec("tensorrt") is None:
        why = "TensorRT is not installed"
    else:
        try:
            from engines.device import device_info

            name = device_info(settings.device).name
        except BackendUnavailableError as error:
            why = str(error)
        else:
            _log.info("backend auto: TensorRT on %s", name)
            return True
    _log.info("backend auto: ONNX Runtime on the CPU, because %s", why)
    return False


def _open_tensorrt(settings: Settings, model: Model, batch_size: int) -> Opened:
    from engines.tensorrt_runner import TensorRTClassifier

    wanted = engine_settings(settings, model)
    found: list[StoredEngine] = []

    def load(engine: StoredEngine) -> TensorRTClassifier:
        found.append(engine)
        with engine:
            return TensorRTClassifier(
                engine.plan,
                batch_size=batch_size,
                image_size=(model.input_height, model.input_width),
                precision=wanted.builder.precision,
                device=settings.device,
                memory_limit_bytes=_bytes(settings.device_memory),
                engine_key=engine.key,
            )

    classifier = open_engine(model, wanted, engine_store(settings), load, _BuildLog())
    engine = found[-1]
    for reason in engine.why:
        _log.info("engine built: %s", reason)
    return Opened(
        classifier=classifier, engine_built=engine.built, engine_seconds=round(engine.seconds, 3)
    )


def _profile(settings: Settings, model: Model) -> Profile:
    """Batches and resolutions that the engine serves."""
    height, width = (ShapeRange.fixed(side) for side in (model.input_height, model.input_width))
    if settings.image_size is not None:
        height, width = parse_image_size(str(settings.image_size))
        if model.input_height not in height or model.input_width not in width:
            raise SettingsError(
                f"--image-size {settings.image_size} leaves out {model.input_height}x"
                f"{model.input_width}, which the preprocessing makes: widen it, or choose "
                "--input-size inside it."
            )
    return Profile(batch=parse_batch_size(str(settings.batch_size)), height=height, width=width)


def _bytes(gib: float | None) -> int | None:
    return None if gib is None else math.floor(gib * 2**30)


class _BuildLog:
    """Logs the phases of a build, each once: a build has thousands of steps."""

    def __init__(self) -> None:
        self._last = ""

    def __call__(self, event: BuildEvent) -> None:
        if event.text != self._last:
            self._last = event.text
            _log.info("%s", event.text)
