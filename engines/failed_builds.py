"""Builds that failed, kept by engine key: what fails in minutes or hours is not tried every night.

    <cache>/engines/.unbuilt/<key>.json    why, when, and on what

The key has every ingredient of the engine, versions and GPU included, so a new TensorRT, model or
option is tried at once. A build can also fail for a reason that passes, as a full disk or a killed
process: so a failure counts for a week, and then it is tried again. It is advice for those who have
something else to serve; whoever asks for this very engine builds it.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from engines.errors import PlanError
from engines.manifest import Manifest
from engines.store_entry import read_beside, write_beside
from engines.store_upkeep import keep_newest

__all__ = ["FailedBuild", "forget", "recall", "remember"]

COUNTS_FOR_S = 7 * 24 * 3600.0

KEPT = 256
"""Of a KB each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedBuild:
    """Why an engine could not be built.

    Attributes:
        reason: What TensorRT or the process that built said.
        failed_at: Unix time, seconds.
        seconds: How long it was tried.
        tensorrt: Version.
        gpu: By name.
    """

    reason: str
    failed_at: float
    seconds: float
    tensorrt: str
    gpu: str

    def __str__(self) -> str:
        day = datetime.fromtimestamp(self.failed_at, UTC).date()
        return f"{self.reason} (tried on {day} for {self.seconds:.0f} s, TensorRT {self.tensorrt})"


def remember(folder: Path, manifest: Manifest, reason: str, seconds: float) -> None:
    """Keep why an engine could not be built.

    Args:
        folder: Of all such notes.
        manifest: Of the engine.
        reason: What was said.
        seconds: How long it was tried.

    Raises:
        OSError: It cannot be written.
        PlanError: The folder is not ours.
    """
    found = FailedBuild(
        reason=reason,
        failed_at=time.time(),
        seconds=seconds,
        tensorrt=manifest.tensorrt_version,
        gpu=manifest.gpu_name,
    )
    text = json.dumps(asdict(found), indent=2, allow_nan=False).encode() + b"\n"
    write_beside(folder, _name(manifest.key()), text)
    keep_newest(folder, KEPT)


def recall(folder: Path, key: str) -> FailedBuild | None:
    """Return why an engine could not be built within the last week; None where nothing is known."""
    try:
        content = json.loads(read_beside(folder, _name(key)) or b"null")
        found = FailedBuild(
            reason=str(content["reason"]),
            failed_at=float(content["failed_at"]),
            seconds=float(content["seconds"]),
            tensorrt=str(content["tensorrt"]),
            gpu=str(content["gpu"]),
        )
    except (OSError, PlanError, ValueError, KeyError, TypeError, RecursionError):
        return None
    age = time.time() - found.failed_at
    return found if 0 <= age < COUNTS_FOR_S else None


def forget(folder: Path, key: str) -> None:
    """Drop what is known of an engine that was built after all.

    Raises:
        OSError: It cannot be removed.
    """
    (folder / _name(key)).unlink(missing_ok=True)


def _name(key: str) -> str:
    return f"{key}.json"
