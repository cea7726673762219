"""How a command ends: the summary on stdout, what went wrong on stderr, and the exit code."""

from __future__ import annotations

import json
import sys
import traceback
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from flows.interrupt import Interrupted
from flows.session import exit_code_of

if TYPE_CHECKING:
    from tasks.finish import Summary
    from tasks.progress import Progress

__all__ = ["Reporter"]


@dataclass(slots=True, kw_only=True)
class Reporter:
    """Says how a run ended.

    Attributes:
        as_json: Write one JSON object to stdout, whatever happens, and nothing else.
    """

    as_json: bool

    def finished(self, summary: Summary) -> int:
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

    def interrupted(self, stop: Interrupted, progress: Progress | None) -> int:
        """Say what was finished, and that the same command goes on from there."""
        text = f"{stop} before the first image; the same command starts again"
        if progress is not None:
            text = (
                f"{stop} after {progress.done:,} of {progress.total:,} images; "
                "finished shards are kept, and the same command resumes"
            )
        _complain(text)
        self._print({"status": "interrupted", "error": text, "exit_code": stop.exit_code})
        return stop.exit_code

    def _print(self, document: dict[str, Any], text: str = "") -> None:
        line = json.dumps(document) if self.as_json else text
        if line:
            print(line)  # noqa: T201 - the one thing that belongs on stdout


def _complain(text: str) -> None:
    print(text, file=sys.stderr)  # noqa: T201 - loggers may not be set up yet
