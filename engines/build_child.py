"""The build process: one request on standard input, progress and one outcome on standard output."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from typing import Any, TextIO

from engines.build_log import BuildLog
from engines.build_request import CALIBRATION_FILE, GRAPH_FILE, BuildRequest, describe_error
from engines.builder import build_plan, least_memory_bytes
from engines.device import require_memory, select_device
from engines.errors import EngineError
from engines.features import import_tensorrt, probe
from engines.precision import apply_precision
from engines.quantize import Calibration
from engines.report.nodes import list_nodes
from engines.store_entry import LAYERS_FILE, LOG_FILE, NODES_FILE, PLAN_FILE
from engines.timing_cache import TimingCacheFile

__all__ = ["main"]

PROGRESS_INTERVAL_S = 0.2
"""Steps come by the thousand."""


def main() -> None:
    """Carry out one build request. Dies with its parent, and on nothing but SIGKILL and SIGTERM."""
    # Ctrl-C reaches the whole group: the parent decides, and kills.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.umask(0o077)
    with os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1) as answers:
        request = BuildRequest.from_line(sys.stdin.readline())
        with open(request.folder / LOG_FILE, "w", buffering=1) as log:
            # TensorRT's libraries and Python's tracebacks write there, too.
            os.dup2(log.fileno(), sys.stdout.fileno())
            os.dup2(log.fileno(), sys.stderr.fileno())
            try:
                _build(request, log, answers)
            except EngineError as error:
                _send(answers, kind="failed", **describe_error(error))
            else:
                _send(answers, kind="done")


def _build(request: BuildRequest, log: TextIO, answers: TextIO) -> None:
    graph_file = request.folder / GRAPH_FILE
    fp32_graph = graph_file.read_bytes()
    graph_file.unlink()
    trt = import_tensorrt()
    select_device(request.device)
    settings = request.settings
    graph = apply_precision(
        fp32_graph,
        settings.precision,
        calibration=_calibration(request),
        target=probe(trt).target,
    )
    (request.folder / NODES_FILE).write_text(list_nodes(graph, fp32_graph=fp32_graph))
    require_memory(least_memory_bytes(len(graph), settings.profile), "building the engine")
    built = build_plan(
        graph,
        settings,
        trt=trt,
        log=BuildLog(trt, log),
        timings=TimingCacheFile(request.timings, version=trt.__version__, gpu=request.gpu),
        progress=_Progress(answers),
    )
    (request.folder / PLAN_FILE).write_bytes(built.plan)
    (request.folder / LAYERS_FILE).write_text(built.layers)


def _calibration(request: BuildRequest) -> Calibration | None:
    file = request.folder / CALIBRATION_FILE
    return Calibration.from_json(file.read_bytes()) if file.exists() else None


class _Progress:
    """Sends phases and steps, but not every step."""

    def __init__(self, answers: TextIO) -> None:
        self._answers = answers
        self._phase = ""
        self._next = 0.0

    def __call__(self, phase: str, step: int, steps: int) -> None:
        now = time.monotonic()
        if phase == self._phase and now < self._next:
            return
        self._phase, self._next = phase, now + PROGRESS_INTERVAL_S
        _send(self._answers, kind="progress", text=phase, step=step, steps=steps)


def _send(answers: TextIO, **message: Any) -> None:  # noqa: ANN401 - JSON values
    answers.write(json.dumps(message) + "\n")
