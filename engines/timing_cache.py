"""TensorRT's timing cache on disk: kernels timed once for a GPU and a TensorRT version.

Shared by all models. Each build adds what it timed, under a lock; a file that is damaged counts as
none, for a cache only ever saves time.
"""

from __future__ import annotations

import hashlib
import logging
import re
import tempfile
from pathlib import Path
from typing import Any

from engines.locks import FileLock

logger = logging.getLogger(__name__)

__all__ = ["TIMING_ITERATIONS", "TimingCacheFile"]

TIMING_ITERATIONS = 8
"""Times that a kernel is run to be timed, as by trtexec; the API's own default is 1. One disturbed
run chose a kernel five times as slow for one of ResNet-50's layers (H200, 2026-11-22). In the
file's name, as timings of fewer runs would be believed for ever."""

DIGEST_BYTES = 32
LOCK_TIMEOUT_S = 60.0
"""Merging takes milliseconds; after a minute this build's timings are not worth waiting for."""


class TimingCacheFile:
    """The timing cache of one GPU and one TensorRT version.

    Args:
        folder: Private folder of the caches; None for no cache at all.
        version: TensorRT's.
        gpu: The GPU by name and compute capability.
    """

    def __init__(self, folder: Path | None, *, version: str, gpu: str) -> None:
        name = re.sub(r"[^A-Za-z0-9.]+", "-", f"tensorrt-{version}-{gpu}-x{TIMING_ITERATIONS}")
        self._path = None if folder is None else folder / f"{name}.cache"

    def lend(self, config: Any) -> None:  # noqa: ANN401 - tensorrt.IBuilderConfig
        """Give a build what is known; an empty cache where nothing is, or none of it is taken."""
        for content in (self._read(), b""):
            cache = config.create_timing_cache(content)
            if cache is not None and config.set_timing_cache(cache, ignore_mismatch=False):
                return

    def merge(self, config: Any) -> None:  # noqa: ANN401 - tensorrt.IBuilderConfig
        """Add what a build has timed to what others have put there meanwhile."""
        timed = config.get_timing_cache()
        if self._path is None or timed is None:
            return
        lock = FileLock.wait(self._path.with_suffix(".lock"), timeout_s=LOCK_TIMEOUT_S)
        if lock is None:
            return
        try:
            with lock:
                known = config.create_timing_cache(self._read())
                if known is not None and known.combine(timed, ignore_mismatch=False):
                    timed = known
                self._write(bytes(timed.serialize()))
        except OSError as error:  # a full disk must not cost the engine that was just built
            logger.warning("The timing cache %s is not kept: %s", self._path, error)

    def _read(self) -> bytes:
        """The cache, or b"" where there is none or it is not what was written."""
        if self._path is None:
            return b""
        try:
            data = self._path.read_bytes()
        except FileNotFoundError:
            return b""
        digest, content = data[:DIGEST_BYTES], data[DIGEST_BYTES:]
        return content if hashlib.sha256(content).digest() == digest else b""

    def _write(self, content: bytes) -> None:
        """Replace the file in one step."""
        assert self._path is not None
        with tempfile.NamedTemporaryFile(dir=self._path.parent, delete=False) as file:
            file.write(hashlib.sha256(content).digest() + content)
        Path(file.name).replace(self._path)
