"""What TensorRT says: its Python calls answer None or False, and only the log knows why."""

from __future__ import annotations

import logging
from collections import deque
from types import ModuleType
from typing import Any

__all__ = ["TensorRTLog"]

logger = logging.getLogger(__name__)

KEPT_LINES = 8
"""Lines of a failure that go into the exception; one failure seldom says more than five."""


class TensorRTLog:
    """Keeps the last errors, and passes warnings on to `logging`.

    Attributes:
        sink: What TensorRT takes as logger; lives as long as anything made with it.
    """

    def __init__(self, trt: ModuleType) -> None:
        self._errors: deque[str] = deque(maxlen=KEPT_LINES)
        self._warnings: deque[str] = deque(maxlen=KEPT_LINES)
        self.sink = _make_sink(trt, self)

    def line(self, severity: str, text: str) -> None:
        """Take one line; TensorRT calls this from whatever thread, one at a time."""
        if severity in ("ERROR", "INTERNAL_ERROR"):
            self._errors.append(text.strip())
        elif severity == "WARNING":
            self._warnings.append(text.strip())
        self.tell(severity, text)

    def tell(self, severity: str, text: str) -> None:
        """Pass the line on to whoever reads it."""
        if severity == "WARNING":
            logger.info("TensorRT warns: %s", text.strip())

    def take_errors(self) -> str:
        """The error lines since the last call, as the end of a sentence.

        Warnings where there are none: 8.6 only warns of a CUDA that does not start.
        """
        text = " | ".join(self._errors or self._warnings) or "TensorRT gave no reason"
        self._errors.clear()
        self._warnings.clear()
        return text


def _make_sink(trt: ModuleType, log: TensorRTLog) -> Any:  # noqa: ANN401 - a class of TensorRT's
    """An ILogger; the class cannot exist before TensorRT is imported."""

    class Sink(trt.ILogger):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)  # pybind11 insists on the direct call

        def log(self, severity: Any, msg: str) -> None:  # noqa: ANN401 - trt.ILogger.Severity
            log.line(severity.name, msg)

    return Sink()
