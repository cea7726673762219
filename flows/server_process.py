"""Prefect's server as a child that cannot outlive its parent. Run as a file, not imported.

    python -P server_process.py PARENT_PID LISTENING_SOCKET_FD < pipe held by the parent

It ends in order when the pipe closes: the parent asks so, or is gone. On Linux the kernel
kills it besides the moment that the parent dies, should something else hold the pipe open.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import sys
import threading

import uvicorn

PR_SET_PDEATHSIG = 1
"""From linux/prctl.h."""

SHUTDOWN_S = 1
"""Time for requests under way; the run has sent everything by then."""


def main(parent: int, listening: int) -> None:
    """Serve until standard input ends."""
    _die_with(parent)
    # A person's Ctrl-C goes to the whole process group, and the run still has its end to record.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    server = uvicorn.Server(
        uvicorn.Config(
            "prefect.server.api.server:create_app",
            factory=True,
            lifespan="on",
            log_level="error",
            timeout_graceful_shutdown=SHUTDOWN_S,
        )
    )
    threading.Thread(target=_stop_at_end_of_input, args=(server,), daemon=True).start()
    server.run(sockets=[socket.socket(fileno=listening)])


def _die_with(parent: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit("the run that started this server is gone")


def _stop_at_end_of_input(server: uvicorn.Server) -> None:
    sys.stdin.buffer.read()
    server.should_exit = True


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
