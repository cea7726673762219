"""What a build says while it runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["BuildEvent", "Report", "silent"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildEvent:
    """Where a build is.

    Attributes:
        text: For people, as 'Building the engine: Timing graph nodes'.
        step: Steps of this phase that are done.
        steps: Steps of this phase; 0 where it has none or TensorRT does not say.
        seconds: Since this build or this waiting began, in events that only say that it goes on;
            None in those that are said once.
    """

    text: str
    step: int = 0
    steps: int = 0
    seconds: float | None = None


Report = Callable[[BuildEvent], None]
"""Receives events in the thread that asked for the engine."""


def silent(event: BuildEvent) -> None:
    """Discard an event."""
