"""What the parameters of every command have in common."""

from __future__ import annotations

from typing import ClassVar

from pydantic import BaseModel, ConfigDict

__all__ = ["Parameters"]


class Parameters(BaseModel):
    """A list of parameters: flat fields of JSON types, checked when they are set.

    Raises:
        pydantic.ValidationError: A value is out of its range, or two of them do not fit together.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True
    )
    positional: ClassVar[str]
    """The parameter that a command line takes by position."""
    second_positional: ClassVar[str | None] = None
    """The one that it takes after it, if any."""

    @classmethod
    def positionals(cls) -> tuple[str, ...]:
        """The parameters that a command line takes by position, in order."""
        second = cls.second_positional
        return (cls.positional,) if second is None else (cls.positional, second)
