"""What a running job says of itself, at most a few times a second."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

__all__ = ["Progress", "ProgressMeter"]

REPORT_INTERVAL_S = 0.25
"""Often enough for a progress bar to look alive, rare enough to cost nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """A moment of a run.

    Attributes:
        done: Images of this run that have a row or an error so far.
        total: Images that this run has to do.
        errors: Of those done, the ones without a label.
        images_per_second: Mean rate since the classifier was open.
    """

    done: int
    total: int
    errors: int
    images_per_second: float


@dataclass(slots=True)
class ProgressMeter:
    """Counts, and calls `report` at most every quarter of a second and at the end."""

    total: int
    report: Callable[[Progress], None]
    done: int = 0
    errors: int = 0
    _started: float = field(default_factory=time.monotonic)
    _reported: float = 0.0

    def start(self) -> None:
        """Let the rate count from now, unless it does already."""
        if self.done == 0:
            self._started = time.monotonic()

    def rewind(self, done: int, errors: int) -> None:
        """Count again from here, where work was lost and is done again."""
        self.done, self.errors = done, errors

    def add(self, done: int, errors: int) -> None:
        """Count a batch."""
        self.done += done
        self.errors += errors
        now = time.monotonic()
        if now - self._reported >= REPORT_INTERVAL_S or self.done == self.total:
            self._reported = now
            elapsed = max(now - self._started, 1e-9)
            self.report(
                Progress(
                    done=self.done,
                    total=self.total,
                    errors=self.errors,
                    images_per_second=self.done / elapsed,
                )
            )
