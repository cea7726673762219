"""The command line of inspect_engine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from flows.command import Command, Request
from flows.manners import Manners
from flows.session import Session
from tasks.inspect_settings import InspectSettings

if TYPE_CHECKING:
    from rich.console import Console

    from tasks.inspect_engine import InspectSummary

__all__ = ["COMMAND", "main"]

PROGRAM = "python -m flows.inspect_engine"

INTRODUCTION = f"""\
Show what TensorRT made of a model: which nodes went into which layer, in which
precision, how long each takes; and its engines of all precisions side by side.
Reads the engine store; a GPU is needed for --profile only.

{PROGRAM} resnet50/ --profile --html resnet50.html"""

EPILOGUE = """\
Exit codes: 0 done; 1 failed; 2 wrong usage, or no such engine; 130, 143 interrupted."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Show as the command line says.

    Returns:
        The exit code; 0 done, 1 failed, 2 wrong usage or no such engine, 128 + signal.
    """
    return COMMAND.main(arguments)


def _run(
    request: Request[InspectSettings, Manners], _session: Session, _console: Console
) -> InspectSummary:
    from tasks.inspect_engine import inspect_engine

    return inspect_engine(request.settings)


def _state(_session: Session) -> str:
    return "before it was done; the engine is as it was"


COMMAND = Command(
    program=PROGRAM,
    introduction=INTRODUCTION,
    epilogue=EPILOGUE,
    settings=InspectSettings,
    manners=Manners,
    run=_run,
    state=_state,
)
