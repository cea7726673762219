"""How a command ends: the summary on stdout, what went wrong on stderr, and the exit code."""

from __future__ import annotations

import json
import sys
import traceback
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Protocol

from flows.interrupt import Interrupted
from flows.session import exit_code_of

__all__ = ["Ending", "Reporter"]


class Ending(Protocol):
    """What a command leaves: a dataclass, whose fields are the one object of `--json`."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def exit_code(self) -> int:
        """What the command returns."""

    def lines(self) -> list[str]:
        """The same for a person."""


@dataclass(slots=True, kw_only=True)
class Reporter:
    """Says how a run ended.

    Attributes:
        as_json: Write one JSON object to stdout, whatever happens, and nothing else.
    """

    as_json: bool

    def finished(self, summary: Ending) -> int:
        """Print the summary; returns its exit code."""
        self._print(asdict(summary), "\n".join(summary.lines()))
        return summary.exit_code

    def failed(self, error: Exception) -> int:
        """Say what went wrong: in words where it was expected, with a traceback where not."""
        exit_code, text = exit_code_of(error), str(error)
        if exit_code is None:
            exit_code, text = 1, f"{type(error).__name__}: {error}"
            traceback.print_exception(error)
        _complain(f"error: {text}")
        self._print({"status": "failed", "error": text, "exit_code": exit_code})
        return exit_code

    def interrupted(self, stop: Interrupted, state: str) -> int:
        """Say that it was ended from outside, and in which state things are."""
        text = f"{stop} {state}"
        _complain(text)
        self._print({"status": "interrupted", "error": text, "exit_code": stop.exit_code})
        return stop.exit_code

    def _print(self, document: dict[str, Any], text: str = "") -> None:
        line = json.dumps(document) if self.as_json else text
        if line:
            print(line)  # noqa: T201 - the one thing that belongs on stdout


def _complain(text: str) -> None:
    print(text, file=sys.stderr)  # noqa: T201 - loggers may not be set up yet
