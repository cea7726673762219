"""The process that decodes: one request after the other, until its connection is closed.

Untrusted bytes are parsed here and nowhere else. Whatever that does to the process, a crash, a loop
without end, gigabytes, the pool loses one image by it.
"""

from __future__ import annotations

import mmap
import os
import socket
import time
from collections.abc import Sequence
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from shards.confine import confine
from shards.decode import Limits, decode, read_stored
from shards.decode_wire import HEADER, Outcome, Setup, receive, receive_items, send_outcomes
from shards.errors import ImageError
from shards.stored import Stored
from shards.transform import Transform

__all__ = ["decode_stored", "work"]


def decode_stored(
    item: Stored, out: NDArray[np.uint8], transform: Transform, limits: Limits
) -> Outcome:
    """Read and decode one image; whatever is wrong with it is returned, never raised.

    Args:
        item: Where its bytes lie.
        out: uint8 [transform.height, transform.width, 3], the caller's; of any content after an
            error.
        transform: Resize and crop.
        limits: What it may cost.
    """
    try:
        return decode(read_stored(item, limits), out, transform, limits)
    except ImageError as error:
        return error


def work(channel: socket.socket, memory: int) -> NoReturn:
    """Serve one connection, then end the process.

    Args:
        channel: To the pool; the first frame is a `Setup`.
        memory: Descriptor of the memory that is shared with the pool, `Setup.shared_bytes` long.
    """
    try:
        setup = Setup.from_json(receive(channel))
        shared = mmap.mmap(memory, setup.shared_bytes)
        rows = np.frombuffer(shared, np.uint8, offset=HEADER.size)
        height, width = setup.transform.height, setup.transform.width
        images = rows.reshape(setup.rows, height, width, 3)
        confine(setup.memory_bytes)
        while True:
            items = receive_items(channel)
            send_outcomes(channel, _decode_all(items, images, shared, setup))
    except (EOFError, ConnectionError):
        os._exit(0)


def _decode_all(
    items: Sequence[Stored], images: NDArray[np.uint8], shared: mmap.mmap, setup: Setup
) -> list[Outcome]:
    outcomes: list[Outcome] = []
    for row, item in enumerate(items):
        HEADER.pack_into(shared, 0, row, time.monotonic())
        outcomes.append(decode_stored(item, images[row], setup.transform, setup.limits))
    HEADER.pack_into(shared, 0, -1, 0.0)
    return outcomes
