"""The command line of verify."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from flows.command import Command, Request
from flows.manners import Manners
from flows.session import Session
from tasks.verify_settings import VerifySettings

if TYPE_CHECKING:
    from rich.console import Console

    from tasks.verify import VerifySummary

__all__ = ["COMMAND", "main"]

PROGRAM = "python -m flows.verify"

INTRODUCTION = f"""\
Check what classify_dir wrote: that every file is whole and holds the rows of
the images that the plan says, and that nothing else lies in the table. Work
that is not done yet is told, and is no error. Changes nothing.

{PROGRAM} out"""

EPILOGUE = """\
Exit codes: 0 fine; 1 something is wrong; 2 wrong usage, or no output of
classify_dir; 130, 143 interrupted."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Check as the command line says.

    Returns:
        The exit code; 0 fine, 1 wrong, 2 wrong usage or no output, 128 + signal.
    """
    return COMMAND.main(arguments)


def _run(
    request: Request[VerifySettings, Manners], _session: Session, _console: Console
) -> VerifySummary:
    from tasks.verify import verify

    return verify(request.settings)


def _state(_session: Session) -> str:
    return "before it was done; nothing was changed"


COMMAND = Command(
    program=PROGRAM,
    introduction=INTRODUCTION,
    epilogue=EPILOGUE,
    settings=VerifySettings,
    manners=Manners,
    run=_run,
    state=_state,
)
