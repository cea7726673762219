"""Every parameter of a classification: the one list behind the command line and the flow.

Flat fields of JSON types, so that the same names serve flags, NIGHTSHIFT_* variables, a TOML file,
a deployment's parameters and the form that Prefect shows. A field stands here only once it works.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    Strict,
    field_validator,
    model_validator,
)

__all__ = ["Profile", "Settings", "Size"]

MAX_BATCH = 4096
"""Images; beyond it no device gains anything, and a slip of the pen costs gigabytes."""

MAX_SIDE = 16_384
"""Pixels; no classifier takes more."""

Profile = tuple[int, int, int]
"""Smallest, usual and largest value that one engine serves."""

Size = tuple[int, int]
"""Height and width, pixels."""


def _text(value: str) -> str:
    if not value.strip() or "\0" in value:
        raise ValueError("expected a text that is not empty")
    return value


def _extension(value: str) -> str:
    if not re.fullmatch(r"\.[A-Za-z0-9]+", value):
        raise ValueError("expected a dot with letters or digits after it, as .jpg")
    return value.lower()


def _run_id(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}", value):
        raise ValueError(
            "expected up to 100 letters, digits, dots, dashes and underscores, no dot or dash first"
        )
    return value


def _profile(value: int | str, largest: int) -> Profile:
    """Read "N" or "min:opt:max"."""
    if re.fullmatch(r"\d{1,6}(:\d{1,6}:\d{1,6})?", str(value), re.ASCII):
        parts = [int(part) for part in str(value).split(":")]
        low, usual, high = parts if len(parts) == 3 else parts * 3
        if 1 <= low <= usual <= high <= largest:
            return low, usual, high
    raise ValueError(f"expected N or min:opt:max, rising integers from 1 to {largest}")


def _size(value: int | str) -> Size:
    """Read "N" or "HEIGHTxWIDTH"."""
    if re.fullmatch(r"\d{1,6}(x\d{1,6})?", str(value), re.ASCII):
        parts = [int(part) for part in str(value).split("x")]
        if all(1 <= part <= MAX_SIDE for part in parts):
            return parts[0], parts[-1]
    raise ValueError(f"expected N or HEIGHTxWIDTH, integers from 1 to {MAX_SIDE}")


def _batch_size(value: int | str) -> int | str:
    _profile(value, MAX_BATCH)
    return value


def _image_size(value: int | str) -> int | str:
    _profile(value, MAX_SIDE)
    return value


def _input_size(value: int | str) -> int | str:
    _size(value)
    return value


# Strict: `true` is no 1, and "5" in a deployment's JSON is a mistake worth hearing of.
Integer = Annotated[int, Strict()]
Text = Annotated[str, AfterValidator(_text)]
Extension = Annotated[str, AfterValidator(_extension)]
RunId = Annotated[str, AfterValidator(_run_id)]
BatchSize = Annotated[Integer | str, AfterValidator(_batch_size)]
ImageSize = Annotated[Integer | str, AfterValidator(_image_size)]
PixelSize = Annotated[Integer | str, AfterValidator(_input_size)]
Triple = tuple[float, float, float]


class Settings(BaseModel):
    """What to classify, with which model, where to, and how.

    Raises:
        pydantic.ValidationError: A value is out of its range, or two of them do not fit together.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True
    )

    images: list[str] | str = Field(description="Directories of images.")
    model: Text = Field(
        description="An .onnx file, or a folder that holds one with its configuration."
    )
    output: Text = Field(description="Directory for the table and the records of runs.")
    # Photo archives are trees; a flat listing would silently miss most of them.
    recursive: bool = Field(default=True, description="Also classify what is in subdirectories.")
    # What Pillow decodes safely and cameras, scanners and web sites write.
    extensions: list[Extension] = Field(
        default=[".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"],
        min_length=1,
        description="Suffixes that make a file an image; others are counted as ignored.",
    )
    limit: Integer | None = Field(
        default=None, ge=1, description="Classify at most this many images, for a first look."
    )

    # A model's own files know its preprocessing; nothing is ever guessed.
    preprocess: Text = Field(
        default="auto",
        description="Its source: auto (the model's own files), a preset, or a file.",
    )
    input_size: PixelSize | None = Field(
        default=None, description="Pixels that the model sees: N for a square, or HEIGHTxWIDTH."
    )
    resize_size: PixelSize | None = Field(
        default=None, description="Size before the crop: N for the shortest edge, or HEIGHTxWIDTH."
    )
    crop_pct: float | None = Field(
        default=None, gt=0, le=1, description="Part of the resized image that the crop shows."
    )
    crop_mode: Literal["center", "squash", "border"] | None = Field(
        default=None, description="How an image becomes the model's shape."
    )
    interpolation: Literal["nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"] | None = (
        Field(default=None, description="Filter of the resize, as in Pillow.")
    )
    mean: Triple | None = Field(
        default=None, description="Subtracted from each channel, on the scale of pixel-range."
    )
    std: Triple | None = Field(default=None, description="Each channel is divided by this.")
    pixel_range: Literal["auto", "0-1", "0-255", "-1-1"] = Field(
        default="auto", description="Range of the pixels before mean and std."
    )
    channel_order: Literal["auto", "rgb", "bgr"] = Field(
        default="auto", description="Order of the channels that the model expects."
    )
    alpha: Literal["auto", "drop", "white"] = Field(
        default="auto", description="Transparency: drop it, or put the image on white."
    )
    # Pillow's own limit: a quarter of a GiB of RGB for one image.
    max_pixels: Integer = Field(
        default=89_478_485,
        ge=1,
        le=2_000_000_000,
        description="A larger image becomes an error row, before it is decoded.",
    )

    labels: Text | None = Field(
        default=None, description="File with the names of the classes, instead of the model's own."
    )
    activation: Literal["auto", "softmax", "sigmoid", "none"] = Field(
        default="auto", description="What turns the model's output into scores."
    )
    output_name: Text | None = Field(
        default=None, description="The model's output to use, where it has several."
    )
    # Five is what every benchmark of the field reports.
    top_k: Integer = Field(
        default=5, ge=1, le=1000, description="Labels that each row lists, best first."
    )

    backend: Literal["auto", "tensorrt", "onnxruntime"] = Field(
        default="auto", description="What runs the model; auto takes TensorRT where there is a GPU."
    )
    precision: Literal["auto", "fp32", "fp16"] = Field(
        default="auto",
        description="Arithmetic of the model; auto is fp32 on a CPU and fp16 on a GPU.",
    )
    # Large enough to fill a CPU's cores and most GPUs, small enough for a laptop's memory.
    batch_size: BatchSize = Field(
        default=64, description="Images inferred at once: N, or min:opt:max for one engine for all."
    )
    image_size: ImageSize | None = Field(
        default=None,
        description="Resolutions that one engine serves: N or min:opt:max; input-size picks one.",
    )
    device: Integer = Field(default=0, ge=0, le=63, description="Index of the GPU.")
    device_memory: float | None = Field(
        default=None,
        gt=0,
        le=4096,
        description="Most GPU memory to use, GiB, where others share it; default: what is free.",
    )
    engine_cache: Text | None = Field(
        default=None, description="Where built engines are kept; default: the user's cache."
    )
    workers: Integer | None = Field(
        default=None, ge=1, le=1024, description="Threads that decode images; default: one a core."
    )

    # Minutes of work: little is lost when a run dies, and the table is not cut into crumbs.
    shard_size: Integer = Field(
        default=10_000, ge=1, le=1_000_000, description="Images in one file of the table."
    )
    # One bad file in a hundred is normal in an archive; one in twenty means something is wrong.
    max_error_rate: float = Field(
        default=0.05,
        ge=0,
        le=1,
        description="Share of images without a label above which the run ends with exit code 3.",
    )
    overwrite: bool = Field(
        default=False, description="Classify again what is in the table for this model already."
    )
    # Two more tries outlast a hiccup of a network file system, and cost seconds.
    retries: Integer = Field(
        default=2, ge=0, le=10, description="Further tries after an error that may pass."
    )
    run_id: RunId | None = Field(
        default=None, description="Name of this run in the records; default: date, time and chance."
    )

    @field_validator("images")
    @classmethod
    def _some_images(cls, value: str | list[str]) -> str | list[str]:
        if not value:
            raise ValueError("expected one directory or several")
        for source in [value] if isinstance(value, str) else value:
            _text(source)
        return value

    @field_validator("std")
    @classmethod
    def _positive_std(cls, value: Triple | None) -> Triple | None:
        if value is not None and min(value) <= 0:
            raise ValueError("expected 3 numbers above 0")
        return value

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if self.crop_pct is not None and self.resize_size is not None:
            raise ValueError(
                f"crop_pct {self.crop_pct} and resize_size {self.resize_size} "
                "say the same thing: give one of them"
            )
        if self.input_hw and self.image_profile:
            low, _, high = self.image_profile
            if not all(low <= side <= high for side in self.input_hw):
                raise ValueError(
                    f"input_size {self.input_size} is outside image_size {self.image_size}: "
                    f"expected sides from {low} to {high}"
                )
        return self

    @property
    def sources(self) -> tuple[str, ...]:
        """`images`, always as several."""
        return (self.images,) if isinstance(self.images, str) else tuple(self.images)

    @property
    def batch_profile(self) -> Profile:
        """`batch_size` as smallest, usual and largest."""
        return _profile(self.batch_size, MAX_BATCH)

    @property
    def image_profile(self) -> Profile | None:
        """`image_size` as smallest, usual and largest."""
        return None if self.image_size is None else _profile(self.image_size, MAX_SIDE)

    @property
    def input_hw(self) -> Size | None:
        """`input_size` as height and width."""
        return None if self.input_size is None else _size(self.input_size)

    @property
    def resize(self) -> int | Size | None:
        """`resize_size` as the shortest edge, or as height and width."""
        if self.resize_size is None:
            return None
        height, width = _size(self.resize_size)
        return (height, width) if "x" in str(self.resize_size) else height
