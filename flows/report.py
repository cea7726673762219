"""How a command ends: the summary on stdout, what went wrong on stderr, and the exit code."""

from __future__ import annotations

import json
import os
import sys
import traceback
from dataclasses import asdict, dataclass
from typing import IO, Any, ClassVar, Protocol

from flows.interrupt import Interrupted
from flows.session import exit_code_of

__all__ = ["Ending", "Reporter", "abandon", "say"]


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
            say("".join(traceback.format_exception(error)).rstrip(), sys.stderr)
        say(f"error: {text}", sys.stderr)
        self._print({"status": "failed", "error": text, "exit_code": exit_code})
        return exit_code

    def interrupted(self, stop: Interrupted, state: str) -> int:
        """Say that it was ended from outside, and in which state things are."""
        text = f"{stop} {state}"
        say(text, sys.stderr)
        self._print({"status": "interrupted", "error": text, "exit_code": stop.exit_code})
        return stop.exit_code

    def _print(self, document: dict[str, Any], text: str = "") -> None:
        line = json.dumps(document) if self.as_json else text
        if line:
            say(line, sys.stdout)


def say(text: str, stream: IO[str]) -> None:
    """Write a line; where the reader has gone (`| head -1`), this and all that follows is dropped.

    That is no failure: what the command does stands in its output directory and its exit code.
    """
    try:
        print(text, file=stream, flush=True)
    except BrokenPipeError:
        abandon(stream)


def abandon(stream: IO[str]) -> None:
    """Send a stream nowhere; it still holds what it could not write, and would try again."""
    nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
