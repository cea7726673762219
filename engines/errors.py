"""What can go wrong between an ONNX file and its scores.

    EngineError                   base; `exit_code` is what the command returns
    ├── ModelError                the model, its labels or its preprocessing cannot be used (2)
    ├── CalibrationError          the images for int8 cannot be used (2)
    ├── BackendUnavailableError   the backend or precision asked for is not on this machine (2)
    ├── EngineBuildError          TensorRT refused the network or the build failed (1)
    ├── PlanError                 a stored plan is damaged or does not load here (1)
    ├── CudaError                 a CUDA call failed; says if it is sticky (1)
    │   └── DeviceMemoryError     the device has too little memory for this batch or build (1)
    └── InferenceError            a batch could not be inferred (1)

Arguments that only a programmer can get wrong stay ValueError, TypeError and RuntimeError.
"""

from __future__ import annotations

__all__ = [
    "BackendUnavailableError",
    "CalibrationError",
    "CudaError",
    "DeviceMemoryError",
    "EngineBuildError",
    "EngineError",
    "InferenceError",
    "ModelError",
    "PlanError",
]


class EngineError(Exception):
    """Base of every error that this package raises on purpose."""

    exit_code = 1


class ModelError(EngineError):
    """The model, its labels or its preprocessing cannot be used as given."""

    exit_code = 2


class BackendUnavailableError(EngineError):
    """The backend or precision that was asked for is not available on this machine."""

    exit_code = 2


class CalibrationError(EngineError):
    """The images that int8 ranges are to be measured on are too few, or cannot be used."""

    exit_code = 2


class EngineBuildError(EngineError):
    """TensorRT refused the network, or the build failed or ran out of time."""


class PlanError(EngineError):
    """A stored plan is damaged, or this TensorRT on this GPU does not load it."""


class InferenceError(EngineError):
    """A batch could not be inferred."""


class CudaError(EngineError):
    """A CUDA call failed.

    Attributes:
        call: Name of the CUDA function.
        code: Its integer status.
        name: The status by name, as `cudaErrorMemoryAllocation`.
        sticky: Whether every later CUDA call of this process fails too.
    """

    def __init__(self, call: str, code: int, name: str, text: str, *, sticky: bool) -> None:
        super().__init__(f"{call} failed: {name} ({code}): {text}")
        self.call = call
        self.code = code
        self.name = name
        self.sticky = sticky


class DeviceMemoryError(CudaError):
    """The device has too little free memory."""
