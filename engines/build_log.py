"""Everything that TensorRT says during a build, kept in build.log."""

from __future__ import annotations

from collections import deque
from types import ModuleType
from typing import Any, TextIO

__all__ = ["BuildLog"]

KEPT_LINES = 8
"""Lines of a failure that go into the exception; the rest is in the file."""

MAX_LOG_CHARACTERS = 64 * 2**20
"""Verbose lines, every tactic tried among them, stop here; warnings and errors do not."""


class BuildLog:
    """Writes every line to a file and remembers the last errors.

    Attributes:
        sink: What TensorRT takes as logger; lives as long as anything made with it.
    """

    def __init__(self, trt: ModuleType, file: TextIO) -> None:
        self._errors: deque[str] = deque(maxlen=KEPT_LINES)
        self._warnings: deque[str] = deque(maxlen=KEPT_LINES)
        self._file = file
        self._room = MAX_LOG_CHARACTERS
        self.sink = _make_sink(trt, self)

    def line(self, severity: str, text: str) -> None:
        """Take one line; TensorRT calls this from whatever thread, one at a time."""
        if severity in ("ERROR", "INTERNAL_ERROR"):
            self._errors.append(text.strip())
        elif severity == "WARNING":
            self._warnings.append(text.strip())
        if self._room > 0 or severity not in ("INFO", "VERBOSE"):
            self._room -= len(text)
            self._file.write(f"[{severity}] {text}\n")

    def take_errors(self) -> str:
        """The error lines since the last call, as the end of a sentence.

        Warnings where there are none: 8.6 only warns of a CUDA that does not start.
        """
        text = " | ".join(self._errors or self._warnings) or "TensorRT gave no reason"
        self._errors.clear()
        self._warnings.clear()
        return text


def _make_sink(trt: ModuleType, log: BuildLog) -> Any:  # noqa: ANN401 - a class of TensorRT's
    """An ILogger; the class cannot exist before TensorRT is imported."""

    class Sink(trt.ILogger):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)  # pybind11 insists on the direct call

        def log(self, severity: Any, msg: str) -> None:  # noqa: ANN401 - trt.ILogger.Severity
            log.line(severity.name, msg)

    return Sink()
