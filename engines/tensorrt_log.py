"""What TensorRT says: its Python calls answer None or False, and only the log knows why."""

from __future__ import annotations

import logging
from collections import deque
from types import ModuleType
from typing import Any

__all__ = ["TensorRTLog"]

logger = logging.getLogger(__name__)

KEPT_ERRORS = 20
"""Lines; one failure seldom says more than five."""


class TensorRTLog:
    """Keeps the last error lines and passes warnings on to `logging`.

    Attributes:
        sink: What TensorRT takes as logger; lives as long as anything made with it.
    """

    def __init__(self, trt: ModuleType) -> None:
        self._errors: deque[str] = deque(maxlen=KEPT_ERRORS)
        self.sink = _make_sink(trt, self._errors)

    def take_errors(self) -> str:
        """The error lines since the last call, as the end of a sentence; says if there are none."""
        text = " | ".join(self._errors) or "TensorRT gave no reason"
        self._errors.clear()
        return text


def _make_sink(trt: ModuleType, errors: deque[str]) -> Any:  # noqa: ANN401 - a class of TensorRT's
    """An ILogger; the class cannot exist before TensorRT is imported."""

    class Sink(trt.ILogger):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)  # pybind11 insists on the direct call

        def log(self, severity: object, msg: str) -> None:
            if severity in (trt.ILogger.INTERNAL_ERROR, trt.ILogger.ERROR):
                errors.append(msg.strip())
            elif severity == trt.ILogger.WARNING:
                logger.info("TensorRT warns: %s", msg.strip())

    return Sink()
