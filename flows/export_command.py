"""The command line of export_model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from flows.command import Command, Request
from flows.manners import Manners
from flows.session import Session
from tasks.export_settings import ExportSettings

if TYPE_CHECKING:
    from rich.console import Console

    from tasks.export_model import ExportSummary

__all__ = ["COMMAND", "main"]

PROGRAM = "python -m flows.export_model"

INTRODUCTION = f"""\
Export a classifier of timm, torchvision or transformers to a folder that
classify_dir takes as its MODEL: model.onnx, preprocessing and labels. The
export is compared with PyTorch before it is kept.

{PROGRAM} timm:resnet50.a1_in1k resnet50/"""

EPILOGUE = """\
Exit codes: 0 done; 1 failed, or the export does not agree with PyTorch;
2 wrong usage or configuration, or a library is missing; 130, 143 interrupted."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Export as the command line says.

    Returns:
        The exit code; 0 done, 1 failed, 2 wrong usage, 128 + signal.
    """
    return COMMAND.main(arguments)


def _run(
    request: Request[ExportSettings, Manners], _session: Session, _console: Console
) -> ExportSummary:
    from tasks.export_model import export_model

    return export_model(request.settings)


def _state(_session: Session) -> str:
    return "before it was done; nothing half-exported is kept, and the same command starts again"


COMMAND = Command(
    program=PROGRAM,
    introduction=INTRODUCTION,
    epilogue=EPILOGUE,
    settings=ExportSettings,
    manners=Manners,
    run=_run,
    state=_state,
)
