"""Everything that TensorRT says during a build, kept in build.log."""

from __future__ import annotations

from types import ModuleType
from typing import TextIO

from engines.tensorrt_log import TensorRTLog

__all__ = ["BuildLog"]

MAX_LOG_CHARACTERS = 64 * 2**20
"""Verbose lines, every tactic tried among them, stop here; warnings and errors do not."""


class BuildLog(TensorRTLog):
    """Writes every line to a file, and remembers the last errors."""

    def __init__(self, trt: ModuleType, file: TextIO) -> None:
        super().__init__(trt)
        self._file = file
        self._room = MAX_LOG_CHARACTERS

    def tell(self, severity: str, text: str) -> None:
        """Write the line."""
        if self._room > 0 or severity not in ("INFO", "VERBOSE"):
            self._room -= len(text)
            self._file.write(f"[{severity}] {text}\n")
