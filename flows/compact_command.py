"""The command line of compact."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from flows.command import Command, Request
from flows.manners import Manners
from flows.session import Session
from tasks.verify_settings import CompactSettings

if TYPE_CHECKING:
    from rich.console import Console

    from tasks.compact import CompactSummary

__all__ = ["COMMAND", "main"]

PROGRAM = "python -m flows.compact"

INTRODUCTION = f"""\
Write the table of classify_dir anew in few large files, in a directory of its
own: a copy for readers and for archives. The output stays as it is.

{PROGRAM} out out-compact"""

EPILOGUE = """\
Exit codes: 0 done; 1 failed, as by a damaged file; 2 wrong usage, no output of
classify_dir, or a target that is not empty; 130, 143 interrupted."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Compact as the command line says.

    Returns:
        The exit code; 0 done, 1 failed, 2 wrong usage, 128 + signal.
    """
    return COMMAND.main(arguments)


def _run(
    request: Request[CompactSettings, Manners], _session: Session, _console: Console
) -> CompactSummary:
    from tasks.compact import compact

    return compact(request.settings)


def _state(_session: Session) -> str:
    return "before it was done; nothing of it is kept"


COMMAND = Command(
    program=PROGRAM,
    introduction=INTRODUCTION,
    epilogue=EPILOGUE,
    settings=CompactSettings,
    manners=Manners,
    run=_run,
    state=_state,
)
