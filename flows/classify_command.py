"""The command line of classify_dir."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from flows.command import Command, Request
from flows.manners import RunManners
from flows.session import Session
from tasks.settings import Settings

if TYPE_CHECKING:
    from rich.console import Console

    from tasks.device_process import Standby
    from tasks.finish import Summary

__all__ = ["COMMAND", "main"]

PROGRAM = "python -m flows.classify_dir"

INTRODUCTION = f"""\
Classify images with an ONNX model: one row for each image, in Parquet.
The same command again does only what is missing.

{PROGRAM} photos -m resnet50/ -o out"""

EPILOGUE = """\
Exit codes: 0 done; 1 failed; 2 wrong usage or configuration; 3 done, but
more errors than --max-error-rate; 4 no image found; 130, 143 interrupted."""


def main(arguments: Sequence[str] | None = None, standby: Standby | None = None) -> int:
    """Classify as the command line says.

    Args:
        arguments: None takes those of this process.
        standby: A device process that was started already; the caller closes it.

    Returns:
        The exit code; 0 done, 1 failed, 2 wrong usage, 3 too many errors, 4 no image, 128 + signal.
    """
    return COMMAND.main(arguments, Session(standby=standby))


def _run(request: Request[Settings, RunManners], session: Session, console: Console) -> Summary:
    """Do what was asked, under Prefect or directly."""
    with contextlib.ExitStack() as showing:
        _show_progress(request.manners, session, console, showing)
        if request.manners.direct:
            from flows.direct import run_directly

            return run_directly(request.settings, session)
        from flows.orchestrated import run_under_prefect

        return run_under_prefect(request.settings, session)


def _show_progress(
    manners: RunManners, session: Session, console: Console, showing: contextlib.ExitStack
) -> None:
    from flows.console import progress_bar, progress_lines

    if manners.quiet or manners.progress is False:
        return
    if console.is_terminal:
        session.show = showing.enter_context(progress_bar(console))
    else:
        session.show = progress_lines()


def _state(session: Session) -> str:
    progress = session.progress
    if progress is None:
        return "before the first image; the same command starts again"
    return (
        f"after {progress.done:,} of {progress.total:,} images; "
        "finished shards are kept, and the same command resumes"
    )


COMMAND = Command(
    program=PROGRAM,
    introduction=INTRODUCTION,
    epilogue=EPILOGUE,
    settings=Settings,
    manners=RunManners,
    run=_run,
    state=_state,
)
