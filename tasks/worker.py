"""The device process: one classifier, its decoders, and the commits of the shards it is given.

Started by tasks.device_process, which writes the settings to standard input, and a WorkOrder when
there is one; says what it does in messages on standard output (see tasks.messages). Everything else
that libraries print goes to standard error.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Callable
from typing import NoReturn

from engines.errors import CudaError, DeviceMemoryError
from shards.decode_process import DecodeServer
from tasks.messages import Failed, Message, Notice, WorkOrder
from tasks.settings import Settings
from tasks.transient import may_pass
from tasks.work import Work

__all__ = ["main"]

Send = Callable[[Message], None]


def main(decoders: DecodeServer) -> NoReturn:
    """Do what the order on standard input says; exit 0 if every shard was published.

    Args:
        decoders: Makes the processes that decode; closed here.
    """
    # A person's Ctrl-C reaches the whole process group: the parent decides what happens to us.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    send = _take_over_stdout()
    _send_log(send)
    with decoders:
        settings = Settings.model_validate_json(_next_line())
        work = Work(settings, send, decoders)
        try:
            work.do(_receive)
        except Exception as error:
            send(_failed(error, work.batch_size))
            sys.exit(1)
        sys.exit(0)


def _receive() -> WorkOrder:
    return WorkOrder.model_validate_json(_next_line())


def _next_line() -> bytes:
    line = sys.stdin.buffer.readline()
    if not line:
        sys.exit(0)  # nothing is to be done
    return line


def _take_over_stdout() -> Send:
    """Keep standard output for messages; what libraries print goes to standard error."""
    channel = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)

    def send(message: Message) -> None:
        channel.write(message.model_dump_json().encode() + b"\n")

    return send


class _Notices(logging.Handler):
    """Sends what our packages log to the parent, which knows where a person reads it."""

    def __init__(self, send: Send) -> None:
        super().__init__()
        self._send = send

    def emit(self, record: logging.LogRecord) -> None:
        self._send(Notice(level=record.levelno, text=record.getMessage()))


def _send_log(send: Send) -> None:
    for package in ("engines", "shards", "tasks"):
        logger = logging.getLogger(package)
        logger.setLevel(logging.INFO)
        logger.addHandler(_Notices(send))
        logger.propagate = False


def _failed(error: Exception, batch_size: int) -> Failed:
    notes = "".join(f" ({note})" for note in getattr(error, "__notes__", ()))
    known = hasattr(error, "exit_code")
    return Failed(
        error=type(error).__name__,
        text=f"{error}{notes}" if known else f"{type(error).__name__}: {error}{notes}",
        exit_code=getattr(error, "exit_code", 1),
        out_of_memory=isinstance(error, DeviceMemoryError),
        batch_size=batch_size,
        transient=may_pass(error),
        restart=isinstance(error, CudaError),
    )
