"""Which GPU, what it is called, and how much of its memory is free."""

from __future__ import annotations

from dataclasses import dataclass

from engines.cuda import MEMORY_ALLOCATION, check
from engines.errors import BackendUnavailableError, CudaError, DeviceMemoryError

__all__ = [
    "DeviceInfo",
    "MemoryBudget",
    "device_count",
    "device_info",
    "require_memory",
    "select_device",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceInfo:
    """A GPU, as far as an engine depends on it.

    Attributes:
        name: As 'NVIDIA H200'.
        compute_capability: As '9.0'.
        total_bytes: Its memory.
        free_bytes: What of it was free when asked, other processes counted.
        driver_version: Newest CUDA version that the driver serves, as '13.0'.
        runtime_version: CUDA version of the runtime in the bindings, as '12.9'.
    """

    name: str
    compute_capability: str
    total_bytes: int
    free_bytes: int
    driver_version: str
    runtime_version: str


def device_count() -> int:
    """Count the GPUs that this process may use.

    Raises:
        BackendUnavailableError: There is none, no driver, or none that serves this CUDA.
    """
    try:
        return int(check("cudaGetDeviceCount"))
    except CudaError as error:
        raise BackendUnavailableError(
            f"no NVIDIA GPU can be used here: {error}. Check `nvidia-smi`, in a container also "
            "`--gpus all`; to run on the CPU use --backend onnxruntime."
        ) from error


def select_device(device: int) -> None:
    """Direct the CUDA calls of this thread to a GPU.

    Raises:
        BackendUnavailableError: There is no such GPU.
    """
    count = device_count()
    if not 0 <= device < count:
        raise BackendUnavailableError(
            f"GPU {device} was asked for, but this machine shows {count}, numbered from 0: "
            "choose another --device or check CUDA_VISIBLE_DEVICES."
        )
    check("cudaSetDevice", device)


def device_info(device: int = 0) -> DeviceInfo:
    """Describe a GPU; selects it for this thread, which starts CUDA on it.

    Raises:
        BackendUnavailableError: There is no such GPU.
        CudaError: It does not answer.
    """
    select_device(device)
    properties = check("cudaGetDeviceProperties", device)
    free_bytes, total_bytes = check("cudaMemGetInfo")
    return DeviceInfo(
        name=properties.name.decode(),
        compute_capability=f"{properties.major}.{properties.minor}",
        total_bytes=int(total_bytes),
        free_bytes=int(free_bytes),
        driver_version=_version(check("cudaDriverGetVersion")),
        runtime_version=_version(check("cudaRuntimeGetVersion")),
    )


def require_memory(nbytes: int, purpose: str, *, limit_bytes: int | None = None) -> None:
    """Refuse early what would fail half-way for want of memory on this thread's GPU.

    Args:
        nbytes: What is going to be allocated.
        purpose: What it is for, for the message.
        limit_bytes: Device memory that may still be used; None for whatever is free.

    Raises:
        DeviceMemoryError: Less is free, or allowed, than needed; the message names both figures.
    """
    free_bytes, total_bytes = check("cudaMemGetInfo")
    if limit_bytes is not None and nbytes > limit_bytes:
        bound = f"the memory limit leaves {_gibibytes(limit_bytes)}"
    elif nbytes > free_bytes:
        bound = f"{_gibibytes(free_bytes)} of {_gibibytes(total_bytes)} are free"
    else:
        return
    raise DeviceMemoryError(
        f"Reserving memory for {purpose}",
        MEMORY_ALLOCATION,
        "cudaErrorMemoryAllocation",
        f"{_gibibytes(nbytes)} are needed, {bound}; take a smaller batch or free the GPU",
        sticky=False,
    )


class MemoryBudget:
    """What one classifier may use of its GPU; asked before every allocation of some size.

    Args:
        limit_bytes: Device memory in all; None for whatever is free.
    """

    def __init__(self, limit_bytes: int | None = None) -> None:
        self._left_bytes = limit_bytes

    def reserve(self, nbytes: int, purpose: str) -> None:
        """Take from the budget; nothing is allocated here. Arguments as for `require_memory`.

        Raises:
            DeviceMemoryError: Less is free, or left, than needed.
        """
        require_memory(nbytes, purpose, limit_bytes=self._left_bytes)
        if self._left_bytes is not None:
            self._left_bytes -= nbytes


def _version(number: int) -> str:
    """12090 is 12.9 (cuda_runtime_api.h: 1000 * major + 10 * minor)."""
    return f"{number // 1000}.{number % 1000 // 10}"


def _gibibytes(nbytes: int) -> str:
    return f"{nbytes / 2**30:,.3f} GiB"
