"""The command line of build_engine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from flows.command import Command, Request
from flows.manners import Manners
from flows.session import Session
from tasks.settings import BuildSettings

if TYPE_CHECKING:
    from rich.console import Console

    from tasks.build_engine import BuildSummary

__all__ = ["COMMAND", "main"]

PROGRAM = "python -m flows.build_engine"

INTRODUCTION = f"""\
Build a TensorRT engine of an ONNX model, keep it, and measure it.
classify_dir finds it where it is given the same options; what is there already
is not built again.

{PROGRAM} resnet50/ --precision fp16 --batch-size 256"""

EPILOGUE = """\
Exit codes: 0 done; 1 failed; 2 wrong usage or configuration, or no GPU;
130, 143 interrupted."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Build as the command line says.

    Returns:
        The exit code; 0 done, 1 failed, 2 wrong usage or no GPU, 128 + signal.
    """
    return COMMAND.main(arguments)


def _run(
    request: Request[BuildSettings, Manners], _session: Session, _console: Console
) -> BuildSummary:
    from tasks.build_engine import build_engine

    return build_engine(request.settings)


def _state(_session: Session) -> str:
    return "before it was done; nothing half-built is kept, and the same command starts again"


COMMAND = Command(
    program=PROGRAM,
    introduction=INTRODUCTION,
    epilogue=EPILOGUE,
    settings=BuildSettings,
    manners=Manners,
    run=_run,
    state=_state,
)
