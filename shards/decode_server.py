"""The process from which decode workers are made: everything imported, nothing parsed.

It forks a worker whenever the pool asks for one, in a millisecond, which a new interpreter would
take a quarter of a second for. It has one thread and touches no image, so forking it is safe.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from typing import NoReturn

from shards.allocator import tune_allocator
from shards.confine import die_with_parent
from shards.decode_worker import work

__all__ = ["main"]


def main(control: int, parent: int) -> NoReturn:
    """Make workers until the pool is gone.

    Args:
        control: Descriptor of a socket to the pool. Each message on it carries a worker's
            connection and memory; the answer is the worker's process id, 8 bytes.
        parent: The pool's process id.
    """
    die_with_parent(parent)
    # Ctrl-C and an operator's SIGTERM reach the whole group: the pool decides what ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for workers
    tune_allocator()
    with socket.socket(fileno=control) as channel:
        while True:
            message, descriptors, _, _ = socket.recv_fds(channel, 1, 2)
            if not message:
                os._exit(0)
            connection, memory = descriptors
            worker = _fork(channel, connection, memory)
            os.close(connection)
            os.close(memory)
            channel.sendall(worker.to_bytes(8, "little"))


def _fork(channel: socket.socket, connection: int, memory: int) -> int:
    """Make one worker; returns its process id."""
    server = os.getpid()
    child = os.fork()
    if child:
        return child
    try:
        channel.close()
        die_with_parent(server)
        work(socket.socket(fileno=connection), memory)
    finally:
        os._exit(1)  # never back into the server's loop


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
