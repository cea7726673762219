"""Prefect's temporary server, for runs where no Prefect API is configured.

Prefect starts one itself, but that outlives a parent that is killed, and writes to the home
directory. This one dies with its parent, keeps its files below the run's output, and says little.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Self

__all__ = ["ServerError", "TemporaryServer"]

START_TIMEOUT_S = 180.0
"""An idle machine needs 4 to 12 s; a loaded one with two cores has been seen to need 40."""

STOP_TIMEOUT_S = 5.0
"""In order it takes a tenth of a second; a person who pressed Ctrl-C should not wait longer."""

QUIET = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_UI_ENABLED": "false",
    # As Prefect's own temporary server has it: only the services that one run needs.
    "PREFECT__SERVER_EPHEMERAL": "1",
    "PREFECT__SERVER_FINAL": "1",
}

logger = logging.getLogger(__name__)


class ServerError(Exception):
    """The temporary server did not start, or a configured one does not answer."""

    exit_code = 1


class TemporaryServer:
    """Owns one server process; a context manager from start to orderly end.

    Attributes:
        api_url: For PREFECT_API_URL; known before the server answers.
    """

    def __init__(self, home: Path, environment: dict[str, str]) -> None:
        """Start the process and return at once; `wait_until_ready` waits for it.

        Args:
            home: Existing directory for the server's log; PREFECT_HOME unless that is given.
            environment: Variables of the process.
        """
        logger.info("starting Prefect's temporary server (--direct classifies without one)")
        self._log = home / "server.log"
        self._started = time.monotonic()
        # The socket listens before the process starts: no port can be taken in between, and
        # requests wait in its queue instead of being refused.
        with socket.create_server(("127.0.0.1", 0)) as listening, self._log.open("ab") as log:
            self.api_url = f"http://127.0.0.1:{listening.getsockname()[1]}/api"
            program = Path(__file__).with_name("server_process.py")
            self._process = subprocess.Popen(
                [sys.executable, "-P", program, str(os.getpid()), str(listening.fileno())],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env=environment | QUIET,
                pass_fds=[listening.fileno()],
            )

    def wait_until_ready(self) -> None:
        """Block until the server answers.

        Raises:
            ServerError: It ended, or did not answer in time; the message names its log.
        """
        while self._process.poll() is None:
            left = self._started + START_TIMEOUT_S - time.monotonic()
            if left <= 0:
                raise ServerError(self._failure(f"did not answer within {START_TIMEOUT_S:g} s"))
            if _answers(self.api_url, timeout_s=left):
                seconds = time.monotonic() - self._started
                logger.info("Prefect's temporary server took %.1f s to start", seconds)
                return
            time.sleep(0.05)
        raise ServerError(self._failure(f"ended with exit code {self._process.returncode}"))

    def close(self) -> None:
        """Let the server finish what it is recording, and end it. Idempotent."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_TIMEOUT_S)
        self._process.kill()
        self._process.wait()

    def _failure(self, what: str) -> str:
        return (
            f"Prefect's temporary server {what}; its log is {self._log}. "
            "Run with --direct to classify without a server."
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _answers(api_url: str, timeout_s: float) -> bool:
    try:
        with urllib.request.urlopen(f"{api_url}/health", timeout=timeout_s):  # noqa: S310 - http
            return True
    except OSError:
        return False
