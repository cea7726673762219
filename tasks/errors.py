"""What can go wrong with a run as a whole.

TaskError              base; `exit_code` is what the command returns
├── SettingsError      a combination of settings that cannot be honoured (2)
├── ExportError        a model cannot be exported, or its export is another model (1)
└── WorkFailedError    the device process could not finish the shards (its own exit code)
"""

from __future__ import annotations

__all__ = ["ExportError", "SettingsError", "TaskError", "WorkFailedError"]


class TaskError(Exception):
    """Base of every error that this package raises on purpose."""

    exit_code = 1


class SettingsError(TaskError):
    """A combination of settings cannot be honoured on this machine or with this model."""

    exit_code = 2


class ExportError(TaskError):
    """PyTorch cannot export a model, or what it exported does not compute the same."""


class WorkFailedError(TaskError):
    """The device process could not finish its shards; what it published stays.

    Attributes:
        transient: Whether trying again may help.
    """

    def __init__(self, text: str, exit_code: int = 1, *, transient: bool = False) -> None:
        super().__init__(text)
        self.exit_code = exit_code
        self.transient = transient
