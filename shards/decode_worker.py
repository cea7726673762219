"""The process that decodes: one request after the other, until its connection is closed.

Untrusted bytes are parsed here and nowhere else. Whatever that does to the process, a crash, a loop
without end, gigabytes, the pool loses one image by it.
"""

from __future__ import annotations

import mmap
import os
import socket
from collections.abc import Sequence
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from shards.confine import confine
from shards.decode import decode, read_stored
from shards.decode_wire import (
    DECODING,
    HEADER,
    READING,
    READY,
    Outcome,
    Setup,
    receive_items,
    receive_setup,
    send,
    send_outcomes,
)
from shards.errors import ErrorKind, ImageError
from shards.stored import Stored

__all__ = ["work"]


def work(channel: socket.socket, memory: int) -> NoReturn:
    """Serve one connection, then end the process.

    Args:
        channel: To the pool; the first frame is a `Setup`.
        memory: Descriptor of the memory that is shared with the pool, `Setup.shared_bytes` long.
    """
    try:
        stream = channel.makefile("rb")
        setup = receive_setup(stream)
        shared = mmap.mmap(memory, setup.shared_bytes)
        rows = np.frombuffer(shared, np.uint8, offset=HEADER.size)
        height, width = setup.transform.height, setup.transform.width
        images = rows.reshape(setup.rows, height, width, 3)
        confine(setup.memory_bytes)
        send(channel, READY)
        while True:
            send_outcomes(channel, _decode_all(receive_items(stream), images, shared, setup))
    except (EOFError, ConnectionError):
        os._exit(0)


def _decode_all(
    items: Sequence[Stored], images: NDArray[np.uint8], shared: mmap.mmap, setup: Setup
) -> list[Outcome]:
    outcomes: list[Outcome] = []
    for row, item in enumerate(items):
        HEADER.pack_into(shared, 0, row, READING)
        try:
            data = read_stored(item, setup.limits)
            HEADER.pack_into(shared, 0, row, DECODING)
            outcomes.append(decode(data, images[row], setup.transform, setup.limits))
        except ImageError as error:
            # Without its traceback, whose frames hold the pixels.
            outcomes.append(ImageError(error.kind, str(error)))
        except MemoryError:
            outcomes.append(ImageError(ErrorKind.OUT_OF_MEMORY, "no memory to decode the image"))
    HEADER.pack_into(shared, 0, -1, READING)
    return outcomes
