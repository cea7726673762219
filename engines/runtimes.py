"""What can run models here: ONNX Runtime, TensorRT and the GPU, asked without harm where absent."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import onnxruntime

from engines.device import DeviceInfo, device_info
from engines.errors import BackendUnavailableError, CudaError
from engines.features import import_tensorrt

__all__ = ["Runtimes", "look_at_runtimes"]

NVIDIA_DRIVER = Path("/proc/driver/nvidia/version")


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtimes:
    """What was found.

    Attributes:
        onnxruntime: Its version.
        providers: What it could run on; only the CPU is used.
        driver: Whether an NVIDIA driver is loaded.
        gpu: The GPU; None where none can be used.
        gpu_error: Why none can be; '' where one can, or where nobody expects one.
        tensorrt: Its version; None where it is not installed or does not load.
        tensorrt_error: Why it does not load, though it is installed.
    """

    onnxruntime: str
    providers: tuple[str, ...]
    driver: bool
    gpu: DeviceInfo | None = None
    gpu_error: str = ""
    tensorrt: str | None = None
    tensorrt_error: str = ""


def look_at_runtimes(device: int) -> Runtimes:
    """Look at everything that a model could run on.

    Starts CUDA in this process, if there is any.

    Args:
        device: Index of the GPU.
    """
    driver = NVIDIA_DRIVER.exists()
    gpu, gpu_error = _gpu(device, expected=driver)
    tensorrt: str | None = None
    tensorrt_error = ""
    # 8.6 ends the process where there is no driver: it is asked only where CUDA answers.
    if gpu is not None and find_spec("tensorrt") is not None:
        try:
            tensorrt = str(import_tensorrt().__version__)
        except BackendUnavailableError as error:
            tensorrt_error = str(error)
    return Runtimes(
        onnxruntime=onnxruntime.__version__,
        providers=tuple(onnxruntime.get_available_providers()),
        driver=driver,
        gpu=gpu,
        gpu_error=gpu_error,
        tensorrt=tensorrt,
        tensorrt_error=tensorrt_error,
    )


def _gpu(device: int, *, expected: bool) -> tuple[DeviceInfo | None, str]:
    """The GPU, or why there is none though a driver or TensorRT would have one."""
    try:
        return device_info(device), ""
    except (BackendUnavailableError, CudaError) as error:
        return None, str(error) if expected or find_spec("tensorrt") is not None else ""
