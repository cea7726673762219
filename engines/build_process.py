"""The build in a process of its own: it can be killed, and a crash of TensorRT is only its own."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from engines.build_report import BuildEvent, Report
from engines.build_request import CALIBRATION_FILE, GRAPH_FILE, BuildRequest, restore_error
from engines.errors import EngineBuildError, EngineError
from engines.quantize import Calibration
from engines.store_entry import LOG_FILE

__all__ = ["build_in_child"]

ROOT = Path(__file__).resolve().parent.parent
"""Where this very code lives: the child must not pick up another `engines` from its directory."""

HEARTBEAT_S = 5.0
"""An event at least this often: TensorRT 8.6 reports no progress, and a watchdog wants to hear."""

LAST_LINES = 5


def build_in_child(
    graph: bytes,
    request: BuildRequest,
    *,
    calibration: Calibration | None = None,
    deadline_s: float,
    report: Report,
) -> None:
    """Build an engine into the request's folder: plan, nodes.json, layers.json, build.log.

    Whatever ends this call, an exception in `report` too, ends the build process; and that dies
    with this process, however it dies. On Linux it also dies with the calling thread.

    Args:
        graph: Wrapped ONNX graph in fp32.
        request: What to build, and into which folder.
        calibration: Ranges of this graph, for int8.
        deadline_s: Seconds after which the build is killed.
        report: Called in this thread, every few seconds at least.

    Raises:
        EngineBuildError: The build failed, crashed or ran out of time.
        DeviceMemoryError: The GPU has too little free memory for it.
        ModelError: The model does not survive the conversion to the precision asked for.
        BackendUnavailableError: TensorRT, CUDA, the GPU or a setting is not available.
    """
    (request.folder / GRAPH_FILE).write_bytes(graph)
    if calibration is not None:
        (request.folder / CALIBRATION_FILE).write_bytes(calibration.to_json())
    with _Child(request) as child:
        failure = child.outcome(_follow(child, deadline_s, report))
    if failure is not None:
        raise failure


def _follow(child: _Child, deadline_s: float, report: Report) -> dict[str, Any]:
    """Report what the build says until it says something final."""
    started = time.monotonic()
    event = BuildEvent(text="Starting TensorRT")
    while True:
        seconds = time.monotonic() - started
        report(replace(event, text=f"Building the engine: {event.text}", seconds=seconds))
        if seconds >= deadline_s:
            raise EngineBuildError(
                f"the build was killed at its deadline of {deadline_s:g} s, while at {event.text!r}"
                "; give it longer, or take a lower builder optimization level"
            )
        message = child.next_message(min(HEARTBEAT_S, deadline_s - seconds))
        if message is None:
            continue
        if message["kind"] != "progress":
            return message
        event = BuildEvent(text=message["text"], step=message["step"], steps=message["steps"])


START = f"""\
import sys
sys.path[0] = {str(ROOT)!r}
from engines.lifetime import die_with_parent
die_with_parent(int(sys.argv[1]))
from engines.build_child import main
main()
"""


class _Child:
    """The build process, owned: leaving the block kills it if it still runs."""

    def __init__(self, request: BuildRequest) -> None:
        self._log_file = request.folder / LOG_FILE
        self._unread = b""
        self._process = subprocess.Popen(
            [sys.executable, "-c", START, str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it died at once: the first read says so
            self._process.stdin.write(request.to_line())
            self._process.stdin.flush()

    def next_message(self, timeout_s: float) -> dict[str, Any] | None:
        """The next message; None where none came in time; of kind 'end' after the last."""
        stdout = self._process.stdout
        assert stdout is not None
        while b"\n" not in self._unread:
            if not select.select([stdout], [], [], timeout_s)[0]:
                return None
            block = os.read(stdout.fileno(), 1 << 16)
            if not block:
                return {"kind": "end"}
            self._unread += block
        line, self._unread = self._unread.split(b"\n", 1)
        message: dict[str, Any] = json.loads(line)
        return message

    def outcome(self, message: dict[str, Any]) -> EngineError | None:
        """The error that the final message stands for; None where the build succeeded."""
        if message["kind"] == "done":
            return None
        if message["kind"] == "failed":
            return restore_error(message)
        code = self._process.wait()
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"
        return EngineBuildError(f"the build process {how}; its last words: {self._last_words()}")

    def _last_words(self) -> str:
        try:
            lines = self._log_file.read_text(errors="replace").splitlines()
        except FileNotFoundError:
            return "none"
        return " | ".join(lines[-LAST_LINES:]) or "none"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()
