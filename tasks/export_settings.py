"""The parameters of export_model."""

from __future__ import annotations

from typing import ClassVar, Literal, Self, cast

from pydantic import Field, field_validator, model_validator

from tasks.parameters import Parameters
from tasks.values import Integer, PixelSize, Size, Text, size_of

__all__ = ["ExportSettings", "Library"]

Library = Literal["timm", "torchvision", "hf"]

LIBRARIES: tuple[Library, ...] = ("timm", "torchvision", "hf")


class ExportSettings(Parameters):
    """Which model of PyTorch's to export, with which weights, where to.

    Raises:
        pydantic.ValidationError: A value is out of its range, or two of them do not fit together.
    """

    positional: ClassVar[str] = "source"
    second_positional: ClassVar[str | None] = "output"

    source: Text = Field(
        description="timm:NAME, torchvision:NAME, or hf:NAME or hf:FOLDER for transformers."
    )
    output: Text = Field(description="Folder to make; classify_dir takes it as its MODEL.")

    checkpoint: Text | None = Field(
        default=None, description="Your own weights: .safetensors, or .pt without any code in it."
    )
    random_weights: bool = Field(
        default=False, description="Random weights, to try out what a model costs; no download."
    )
    seed: Integer = Field(default=0, ge=0, lt=2**63, description="Of the random weights.")
    classes: Integer | None = Field(
        default=None,
        ge=1,
        le=1_000_000,
        description="Classes of the checkpoint, where they are not the library's.",
    )

    labels: Text | None = Field(
        default=None, description="File with the names of the classes, or imagenet-1k."
    )

    # The oldest that PyTorch's exporter writes; TensorRT and ONNX Runtime of three years read it.
    opset: Integer = Field(default=18, ge=18, le=25, description="Version of ONNX's operators.")
    input_size: PixelSize | None = Field(
        default=None,
        description="Pixels that the model sees: N or HEIGHTxWIDTH; default: the library's.",
    )
    external_data: bool = Field(
        default=False, description="Put the weights into a file of their own beside model.onnx."
    )

    @field_validator("source")
    @classmethod
    def _of_a_library(cls, value: str) -> str:
        library, colon, name = value.partition(":")
        if library not in LIBRARIES or not colon or not name.strip():
            raise ValueError("expected timm:NAME, torchvision:NAME or hf:NAME")
        return value

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if self.checkpoint is not None and self.random_weights:
            raise ValueError("checkpoint and random_weights both say which weights: give one")
        if self.classes is not None and not (self.checkpoint or self.random_weights):
            raise ValueError(
                "classes needs checkpoint or random_weights: the library's weights have theirs"
            )
        return self

    @property
    def library(self) -> Library:
        """Where the architecture is from."""
        return cast(Library, self.source.partition(":")[0])

    @property
    def name(self) -> str:
        """The architecture's name in its library."""
        return self.source.partition(":")[2]

    @property
    def input_hw(self) -> Size | None:
        """`input_size` as height and width."""
        return None if self.input_size is None else size_of(self.input_size)
