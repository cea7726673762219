"""Which backend runs the model, and with what."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from importlib.util import find_spec

from engines.classifier import Classifier
from engines.engine import open_engine
from engines.errors import BackendUnavailableError
from engines.features import import_tensorrt
from engines.model import Model
from engines.onnx_runtime import OnnxRuntimeClassifier
from engines.profile import parse_batch_size
from engines.store import StoredEngine
from tasks.engine import BuildLog, engine_settings, engine_store, memory_limit_bytes
from tasks.settings import Settings

__all__ = ["Opened", "largest_batch", "open_classifier"]

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


def largest_batch(settings: Settings, batch_limit: int | None) -> int:
    """Images of a full batch: what the settings ask for, or less where that ran out of memory."""
    asked = parse_batch_size(str(settings.batch_size)).max
    return asked if batch_limit is None else min(asked, batch_limit)


def open_classifier(settings: Settings, model: Model, batch_limit: int | None) -> Opened:
    """Open the classifier that the settings ask for, in this process.

    Args:
        settings: backend, and everything of `ModelSettings` but what describes the model.
        model: What to run.
        batch_limit: Largest batch, where a larger one ran out of memory before. The engine is one
            for such batches: its activations take the memory that its largest batch needs.

    Raises:
        BackendUnavailableError: TensorRT was asked for and cannot be used here.
        EngineError: The engine cannot be built, loaded or run.
    """
    if _uses_tensorrt(settings):
        return _open_tensorrt(settings, model, batch_limit)
    if settings.precision not in ("auto", "fp32"):
        raise BackendUnavailableError(
            f"--precision {settings.precision} needs TensorRT, and ONNX Runtime on the CPU was "
            "chosen: use --precision fp32 or auto, or --backend tensorrt on a machine with a GPU."
        )
    return Opened(
        classifier=OnnxRuntimeClassifier(
            model,
            batch_size=largest_batch(settings, batch_limit),
            logits=settings.save_logits,
            embedding=settings.save_embedding,
        )
    )


def _uses_tensorrt(settings: Settings) -> bool:
    """Whether TensorRT serves; `auto` says what it chose, and why."""
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


def _open_tensorrt(settings: Settings, model: Model, batch_limit: int | None) -> Opened:
    from engines.tensorrt_runner import TensorRTClassifier

    wanted = engine_settings(settings, model, batch_limit)
    if settings.precision == "auto":
        _log.info(
            "precision auto: %s on a GPU; --precision fp32 computes as the model was exported",
            wanted.builder.precision,
        )
    found: list[StoredEngine] = []

    def load(engine: StoredEngine) -> TensorRTClassifier:
        found.append(engine)
        with engine:
            return TensorRTClassifier(
                engine.plan,
                batch_size=wanted.builder.profile.batch.max,
                image_size=(model.input_height, model.input_width),
                precision=wanted.builder.precision,
                device=settings.device,
                memory_limit_bytes=memory_limit_bytes(settings),
                engine_key=engine.key,
                logits=settings.save_logits,
                embedding=settings.save_embedding,
            )

    classifier = open_engine(model, wanted, engine_store(settings), load, BuildLog())
    engine = found[-1]
    how = "Built" if engine.built else "Found"
    _log.info("%s the engine %.12s in %.1f s", how, engine.key, engine.seconds)
    return Opened(
        classifier=classifier, engine_built=engine.built, engine_seconds=round(engine.seconds, 3)
    )
