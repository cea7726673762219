"""The parameters of inspect_engine."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from tasks.parameters import Parameters
from tasks.values import Integer, Text

__all__ = ["InspectSettings"]


class InspectSettings(Parameters):
    """Which engine of the store to show, and how.

    Raises:
        pydantic.ValidationError: A value is out of its range.
    """

    positional: ClassVar[str] = "model"

    model: Text = Field(
        description="A model's file or folder, its name in the engine store, or the beginning of "
        "an engine's key."
    )
    precision: Literal["auto", "fp32", "fp16", "bf16", "int8"] = Field(
        default="auto", description="Of the engine to show; auto is the newest engine's."
    )
    engine_cache: Text | None = Field(
        default=None, description="Where built engines are kept; default: the user's cache."
    )
    html: Text | None = Field(
        default=None, description="Write the page there as well; it always lies beside the engine."
    )
    profile: bool = Field(
        default=False, description="Run the engine on the GPU first, and time each of its layers."
    )
    device: Integer = Field(default=0, ge=0, le=63, description="Index of the GPU.")
    seconds: float = Field(
        default=3.0, gt=0, le=600, description="How long each measurement lasts."
    )
