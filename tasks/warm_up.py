"""The slow start of a GPU, while the model is read."""

from __future__ import annotations

from contextlib import suppress
from importlib.util import find_spec
from threading import Thread

from engines.device import device_info
from engines.features import import_tensorrt
from tasks.settings import Settings

__all__ = ["warm_up"]


def warm_up(settings: Settings) -> Thread:
    """Start CUDA and load TensorRT in a thread, if TensorRT may be what runs the model.

    Returns:
        To be joined before the device is used. Says nothing of errors: whoever uses the device
        meets them again, and reports them.
    """
    # Daemonic, so that a driver that hangs does not keep a process that has failed.
    thread = Thread(target=_start, args=(settings,), name="warm-up", daemon=True)
    thread.start()
    return thread


def _start(settings: Settings) -> None:
    if settings.backend == "onnxruntime" or find_spec("tensorrt") is None:
        return
    with suppress(Exception):
        device_info(settings.device)
        import_tensorrt()
