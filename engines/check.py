"""One thing that was looked at, and what came of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

__all__ = ["Check", "Status", "worst"]

Status = Literal["passed", "skipped", "warning", "failed"]

_ORDER: tuple[Status, ...] = ("passed", "skipped", "warning", "failed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """A result, for people and for run.json.

    Attributes:
        name: What was looked at.
        status: 'skipped' where nothing can be told, for the reason that `measured` gives.
        measured: What was seen, in words.
        expected: What a sound one shows.
        advice: What to do; '' where there is nothing to do.
    """

    name: str
    status: Status
    measured: str
    expected: str
    advice: str = ""

    def __str__(self) -> str:
        """One sentence, or two."""
        return f"{self.name}: {self.measured}" + (f". {self.advice}" if self.advice else "")


def worst(checks: Iterable[Check]) -> Status:
    """The gravest status; 'passed' where nothing was looked at. What was skipped does no harm."""
    statuses = {check.status for check in checks}
    return next((status for status in reversed(_ORDER) if status in statuses), "passed")
