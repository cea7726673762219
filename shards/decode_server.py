"""The process from which decode workers are made: everything imported, nothing parsed.

It forks a worker whenever the pool asks for one, in a millisecond, which a new interpreter would
take a quarter of a second for. It has one thread and touches no image, so forking it is safe. As
the workers' parent it is also the one who can end them for sure: until it has asked for the exit
status of a worker, the process id belongs to nobody else.
"""

from __future__ import annotations

import errno
import gc
import os
import signal
import socket
import struct
import time
from contextlib import suppress
from typing import NoReturn

from shards.allocator import tune_allocator
from shards.confine import die_with_parent
from shards.decode_worker import work

__all__ = ["ANSWER", "END", "FORK", "REQUEST", "UNKNOWN", "main"]

REQUEST = struct.Struct("<cq")
"""FORK, with a worker's connection and memory as descriptors, and 0; or END and a process id."""

ANSWER = struct.Struct("<q")
"""To FORK the process id, or a negative errno; to END how it ended: an exit code, a negative
signal, or UNKNOWN."""

FORK = b"f"
END = b"e"
UNKNOWN = 1 << 16

KEPT_BYTES = 128 << 20
"""Freed memory that a worker keeps for the next image: a photograph of 30 megapixels."""

END_WAIT_S = 2.0
"""A killed process frees its memory first; one that hangs in the kernel may never end."""


def main(control: int) -> NoReturn:
    """Make and end workers until the pool is gone, then end what is left of them.

    Args:
        control: Descriptor of a socket to the pool. That it is closed is also how the end of the
            pool's process is noticed, however that ends. (A signal at the death of the parent
            would come too early: when the thread ends that made this process.)
    """
    # Ctrl-C and an operator's SIGTERM reach the whole group: the pool decides what ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    tune_allocator(keep_bytes=KEPT_BYTES)
    gc.collect()
    gc.freeze()  # workers neither look at what was imported, nor copy its pages for that
    workers: set[int] = set()
    with socket.socket(fileno=control) as channel:
        while True:
            message, descriptors, _, _ = socket.recv_fds(
                channel, REQUEST.size, 2, socket.MSG_WAITALL
            )
            if len(message) < REQUEST.size:
                break
            what, process = REQUEST.unpack(message)
            if what == FORK:
                # Fewer descriptors arrive than were sent where no more may be open here.
                answer = _fork(channel, *descriptors) if len(descriptors) == 2 else -errno.EMFILE
                if answer > 0:
                    workers.add(answer)
            else:
                answer = _end(process, END_WAIT_S)
                workers.discard(process)
            channel.sendall(ANSWER.pack(answer))
    for worker in workers:
        _end(worker, 0)
    os._exit(0)


def _fork(channel: socket.socket, connection: int, memory: int) -> int:
    """Make one worker; returns its process id, or why there is none."""
    server = os.getpid()
    try:
        child = os.fork()
    except OSError as error:  # too many processes, or no memory
        child = -(error.errno or 1)
    if child:
        os.close(connection)
        os.close(memory)
        return child
    try:
        channel.close()
        die_with_parent(server)
        work(socket.socket(fileno=connection), memory)
    finally:
        os._exit(1)  # never back into the server's loop


def _end(process: int, wait_s: float) -> int:
    """Kill a worker, unless it has ended by itself, and say how it ended."""
    with suppress(ProcessLookupError):
        os.kill(process, signal.SIGKILL)
    deadline = time.monotonic() + wait_s
    while True:
        try:
            ended, status = os.waitpid(process, os.WNOHANG)
        except ChildProcessError:
            return UNKNOWN
        if ended:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() >= deadline:
            return UNKNOWN
        time.sleep(0.001)
