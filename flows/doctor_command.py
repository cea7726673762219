"""The command line of doctor."""

from __future__ import annotations

import time
import urllib.request
from collections.abc import Sequence
from typing import TYPE_CHECKING

from flows.command import Command, Request
from flows.manners import Manners
from flows.session import Session
from tasks.doctor_settings import DoctorSettings

if TYPE_CHECKING:
    from rich.console import Console

    from engines.check import Check
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

ANSWER_S = 5.0
"""For a Prefect API: a server that takes longer makes every task of a run slow."""


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

    return diagnose(request.settings, prefect_check())


def prefect_check() -> Check:
    """Whether the Prefect API answers, if one is configured."""
    from prefect.settings import PREFECT_API_URL

    from engines.check import Check

    name = "Prefect API"
    expected = f"an answer within {ANSWER_S:g} s, or none configured"
    url = PREFECT_API_URL.value()
    if url is None:
        measured = "none configured: each run starts a temporary server; --direct needs none"
        return Check(name=name, status="passed", measured=measured, expected=expected)
    started = time.monotonic()
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=ANSWER_S):  # noqa: S310 - theirs
            pass
    except (OSError, ValueError) as error:
        return Check(
            name=name,
            status="failed",
            measured=f"{url} does not answer: {getattr(error, 'reason', error)}",
            expected=expected,
            advice="Start it, unset PREFECT_API_URL, or run with --direct",
        )
    seconds = time.monotonic() - started
    measured = f"{url} answers in {1000 * seconds:.0f} ms"
    return Check(name=name, status="passed", measured=measured, expected=expected)


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
