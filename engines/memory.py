"""Device and page-locked host memory, each block with one owner, and the copies between them."""

from __future__ import annotations

import ctypes
from math import prod
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from engines.cuda import CudaResource, Stream, check, cuda_runtime

__all__ = ["DeviceBuffer", "PinnedBuffer", "copy_to_device", "copy_to_host"]


class DeviceBuffer(CudaResource):
    """A block of device memory; `handle` is its address.

    Raises:
        DeviceMemoryError: The device has too little free memory.
    """

    def __init__(self, nbytes: int) -> None:
        super().__init__(int(check("cudaMalloc", _at_least_one(nbytes))))
        self.nbytes = nbytes

    def _release(self, handle: int) -> None:
        check("cudaFree", handle)


class PinnedBuffer(CudaResource):
    """A block of page-locked host memory, which the copy engines reach without the CPU.

    Raises:
        CudaError: The system locks no more pages.
    """

    def __init__(self, nbytes: int) -> None:
        super().__init__(int(check("cudaMallocHost", _at_least_one(nbytes))))
        self.nbytes = nbytes

    def array(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """See the block's first bytes as an array: no copy, and valid only until `close`.

        Raises:
            ValueError: The block is smaller than the array.
        """
        nbytes = prod(shape) * np.dtype(dtype).itemsize
        if nbytes > self.nbytes:
            raise ValueError(f"{shape} of {np.dtype(dtype)} exceeds the block's {self.nbytes} B")
        block = (ctypes.c_uint8 * nbytes).from_address(self.handle)
        return np.ctypeslib.as_array(block).view(dtype).reshape(shape)

    def _release(self, handle: int) -> None:
        check("cudaFreeHost", handle)


def copy_to_device(
    target: DeviceBuffer, source: PinnedBuffer, nbytes: int, *, stream: Stream
) -> None:
    """Queue a copy of the first bytes; returns at once.

    Args:
        target: Belongs to `stream` until the copy is done.
        source: Must not be written until then.
        nbytes: Bytes to copy, at most the size of either.
        stream: Orders the copy.
    """
    _copy(target, source, nbytes, "cudaMemcpyHostToDevice", stream)


def copy_to_host(
    target: PinnedBuffer, source: DeviceBuffer, nbytes: int, *, stream: Stream
) -> None:
    """Queue a copy of the first bytes; returns at once.

    Args:
        target: Must be neither read nor written until the copy is done.
        source: Belongs to `stream` until then.
        nbytes: Bytes to copy, at most the size of either.
        stream: Orders the copy.
    """
    _copy(target, source, nbytes, "cudaMemcpyDeviceToHost", stream)


def _copy(
    target: DeviceBuffer | PinnedBuffer,
    source: DeviceBuffer | PinnedBuffer,
    nbytes: int,
    kind: str,
    stream: Stream,
) -> None:
    if not 0 < nbytes <= min(target.nbytes, source.nbytes):
        raise ValueError(f"cannot copy {nbytes} B of {source.nbytes} into {target.nbytes}")
    direction = getattr(cuda_runtime().cudaMemcpyKind, kind)
    check("cudaMemcpyAsync", target.handle, source.handle, nbytes, direction, stream.handle)


def _at_least_one(nbytes: int) -> int:
    if nbytes < 1:
        raise ValueError(f"a block holds at least one byte, not {nbytes}")
    return nbytes
