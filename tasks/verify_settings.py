"""The parameters of verify and compact."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from tasks.parameters import Parameters
from tasks.values import Integer, Text

__all__ = ["CompactSettings", "VerifySettings"]


class VerifySettings(Parameters):
    """Which output to check, and how thoroughly.

    Raises:
        pydantic.ValidationError: A value is out of its range.
    """

    positional: ClassVar[str] = "output"

    output: Text = Field(description="Directory that classify_dir wrote to.")
    quick: bool = Field(
        default=False, description="Look at the plan and the files' footers, not at every byte."
    )
    workers: Integer | None = Field(
        default=None, ge=1, le=1024, description="Files checked at once; default: one a core."
    )


class CompactSettings(Parameters):
    """Which table to write anew in large files, and where to.

    Raises:
        pydantic.ValidationError: A value is out of its range.
    """

    positional: ClassVar[str] = "output"
    second_positional: ClassVar[str | None] = "target"

    output: Text = Field(description="Directory that classify_dir wrote to.")
    target: Text = Field(description="Directory to make, outside of the first.")
    # Not `model`: NIGHTSHIFT_MODEL is the path of one.
    model_id: Text | None = Field(
        default=None, description="Model whose rows to take, as NAME@DIGEST; default: all."
    )
    # Some hundred MB: what readers of object stores like to open.
    rows_per_file: Integer = Field(
        default=1_000_000,
        ge=1,
        le=1_000_000_000,
        description="Most rows of a file; shards stay whole, and one may have more.",
    )
    workers: Integer | None = Field(
        default=None, ge=1, le=1024, description="Files written at once; default: one a core."
    )
