"""The decoders' side of a slot: images in files in, rows of pixels out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Self

import numpy as np
from numpy.typing import NDArray

from engines.model import Model
from engines.ort_session import available_cores
from shards.closing import Closing
from shards.decode import Decoded, Limits
from shards.decode_pool import CONTENT_BYTES, DecodePool
from shards.decode_process import DecodeServer
from shards.errors import ImageError
from shards.stored import Item, Stored
from shards.transform import Transform
from tasks.settings import Settings
from tasks.values import bytes_of

__all__ = ["DecodeInto", "Decoding"]

Decoding = Decoded | ImageError


class DecodeInto(Closing):
    """Fills rows of a slot, in processes of its own that end when it is closed.

    An image that cannot be decoded is an ImageError, never a crash and never a hang.

    Attributes:
        transform: The host's part of the preprocessing.
        limits: What one image may cost.
        workers: Most processes; as many threads keep them busy.
    """

    def __init__(
        self,
        transform: Transform,
        limits: Limits,
        *,
        workers: int | None = None,
        timeout_s: float = 10.0,
        memory_bytes: int = 1 << 30,
        server: DecodeServer | None = None,
    ) -> None:
        """Start nothing yet.

        Args:
            transform: The host's part of the preprocessing.
            limits: What one image may cost in pixels and bytes.
            workers: Most processes; None for one a core.
            timeout_s: What it may cost in time.
            memory_bytes: What it may cost in memory.
            server: Makes the processes, where it was started before; the caller's.
        """
        self.transform = transform
        self.limits = limits
        self.workers = workers or available_cores()
        self._pool = DecodePool(
            transform,
            limits,
            workers=self.workers,
            timeout_s=timeout_s,
            memory_bytes=memory_bytes,
            server=server,
        )

    @classmethod
    def of(cls, settings: Settings, model: Model, server: DecodeServer | None = None) -> Self:
        """The decoders of one run."""
        return cls(
            model.spec.host,
            Limits(max_pixels=settings.max_pixels),
            workers=settings.workers,
            timeout_s=settings.decode_timeout,
            memory_bytes=bytes_of(settings.max_image_memory),
            server=server,
        )

    def __call__(self, items: Sequence[Item], images: NDArray[np.uint8]) -> list[Decoding]:
        """Decode items[i] into images[i], uint8 [height, width, 3]; thread-safe.

        What cannot even be looked for is an item that is an error already, and stays one. Items
        that are on their way are waited for; a thread holds some of their bytes at a time.

        Raises:
            DecodersError: Processes cannot be started.
        """
        outcomes: list[Decoding] = []
        for some in _arrived(items):
            if isinstance(some, ImageError):
                outcomes.append(some)
            else:
                rows = slice(len(outcomes), len(outcomes) + len(some))
                outcomes += self._pool.decode(some, images[rows])
        return outcomes

    def close(self) -> None:
        """End the processes; nothing may be decoding. Idempotent."""
        self._pool.close()


def _arrived(items: Sequence[Item]) -> Iterator[list[Stored] | ImageError]:
    """Yield runs of what can be decoded, cut where they carry much, and errors; in order."""
    run: list[Stored] = []
    carried = 0
    for item in items:
        found = item if isinstance(item, Stored | ImageError) else item.taken()
        size = 0 if isinstance(found, ImageError) else len(found.content or b"")
        if run and (isinstance(found, ImageError) or carried + size > CONTENT_BYTES):
            yield run
            run, carried = [], 0
        if isinstance(found, ImageError):
            yield found
        else:
            run.append(found)
            carried += size
    if run:
        yield run
