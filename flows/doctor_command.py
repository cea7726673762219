"""The command line of doctor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from flows.command import Command, Request
from flows.manners import Manners
from flows.session import Session
from tasks.doctor_settings import DoctorSettings

if TYPE_CHECKING:
    from rich.console import Console

    from tasks.doctor import Diagnosis

__all__ = ["COMMAND", "main"]

PROGRAM = "python -m flows.doctor"

INTRODUCTION = f"""\
Look at this machine: what can run models, where things are written, and which
versions are installed. With a model, say how its images are prepared and who
says so, and test it; with images as well, test whether it is fed rightly.
Give the options that classify_dir will get.

{PROGRAM}
{PROGRAM} resnet50/ --images photos/"""

EPILOGUE = """\
Exit codes: 0 all is well, or warnings; 1 a check failed; 2 wrong usage, or the
model cannot be used; 130, 143 interrupted."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Look at what the command line says.

    Returns:
        The exit code; 0 well or warnings, 1 a check failed, 2 wrong usage or an unusable model,
        128 + signal.
    """
    return COMMAND.main(arguments)


def _run(
    request: Request[DoctorSettings, Manners], _session: Session, _console: Console
) -> Diagnosis:
    from tasks.doctor import diagnose

    return diagnose(request.settings)


def _state(_session: Session) -> str:
    return "before it was done; nothing was changed"


COMMAND = Command(
    program=PROGRAM,
    introduction=INTRODUCTION,
    epilogue=EPILOGUE,
    settings=DoctorSettings,
    manners=Manners,
    run=_run,
    state=_state,
)
