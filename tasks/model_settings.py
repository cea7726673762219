"""What every command has to know of a model and its engine, in one list of parameters.

The same values must give the same engine, whichever command asks for it: whatever is part of an
engine's key stands here. Flat fields of JSON types, so that the same names serve flags,
NIGHTSHIFT_* variables, a TOML file, a deployment's parameters and the form that Prefect shows. A
field stands here only once it works.
"""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from tasks.parameters import Parameters
from tasks.values import (
    MAX_SIDE,
    BatchSize,
    ImageSize,
    Integer,
    PixelSize,
    Profile,
    Sha256,
    Size,
    Text,
    Triple,
    Workspace,
    bytes_of,
    profile_of,
    size_of,
)

__all__ = ["ModelSettings"]


class ModelSettings(Parameters):
    """A model, its preprocessing, and the engine that it becomes on a GPU.

    Raises:
        pydantic.ValidationError: A value is out of its range, or two of them do not fit together.
    """

    positional: ClassVar[str] = "model"

    model: Text = Field(
        description="An .onnx file, or a folder that holds one with its configuration."
    )
    model_sha256: Sha256 | None = Field(
        default=None,
        description="Digest that the model must have, as in model_digest of a file's footer; for "
        "one file, what sha256sum prints.",
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
    labels: Text | None = Field(
        default=None,
        description="File with the names of the classes, or imagenet-1k, "
        "instead of the model's own.",
    )
    # timm's default: n01440764 tells nobody that it is a tench.
    label_type: Literal["name", "description", "detailed"] = Field(
        default="description",
        description="What to call a class that has an identifier and a description; "
        "detailed: both.",
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

    # It is another output of the engine, hence part of its key.
    save_embedding: bool = Field(
        default=False, description="Add the input of the model's last layer to the table."
    )
    embedding_name: Text | None = Field(
        default=None, description="Tensor of the graph to save as embedding; default: found."
    )

    precision: Literal["auto", "fp32", "fp16", "bf16", "int8"] = Field(
        default="auto",
        description="Arithmetic of the model; auto is fp32 on a CPU, fp16 on a GPU, and int8 where "
        "it was calibrated, agrees and is faster.",
    )
    calibration_images: Text | None = Field(
        default=None,
        description="Directory of images like those to classify, for int8: some hundred, at "
        "least 32.",
    )
    # What TensorRT's documentation recommends for convolutional networks.
    calibration_method: Literal["entropy", "percentile", "minmax"] = Field(
        default="entropy", description="How int8 chooses the range of each activation."
    )
    # Their agreement is known to a percent then, and they take seconds.
    gate_images: Integer = Field(
        default=512,
        ge=0,
        le=100_000,
        description="Images that a reduced precision is compared with fp32 on before it may serve; "
        "0 compares nothing.",
    )
    gate_agreement: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="Least share of them with the label of fp32; default: 0.99 for fp16, 0.98 for "
        "bf16, 0.95 for int8.",
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
        description="Most GPU memory that classifying takes, GiB, where others share it; "
        "default: what is free.",
    )
    engine_cache: Text | None = Field(
        default=None, description="Where built engines are kept; default: the user's cache."
    )

    # What trtexec calls by these names. All of it but the last two is part of an engine's key.
    workspace: Workspace | None = Field(
        default=None,
        description="Most scratch memory of a layer, as 512MiB or 4GiB; default: all of the GPU's.",
    )
    # TensorRT's default; 4 and 5 build for very long, and have been slower to run in places.
    builder_optimization_level: Integer = Field(
        default=3, ge=0, le=5, description="0 builds fastest, 5 searches longest for fast kernels."
    )
    # Off, so that fp32 means fp32 and agrees with the CPU.
    tf32: bool = Field(
        default=False, description="Let fp32 layers multiply with 10 bits of mantissa, faster."
    )
    max_aux_streams: Integer | None = Field(
        default=None,
        ge=0,
        le=64,
        description="Streams that TensorRT may use besides ours; default: its own choice.",
    )
    version_compatible: bool = Field(
        default=False, description="Build an engine that later TensorRT versions load, too; slower."
    )
    hardware_compatibility: Literal["none", "same_compute_capability", "ampere_plus"] = Field(
        default="none", description="Other GPUs that the engine is to run on; slower."
    )
    timing_cache: bool = Field(
        default=True, description="Reuse the kernel timings of earlier builds on this GPU."
    )
    # Level 5 has taken most of an hour.
    build_timeout: Integer = Field(
        default=3600, ge=1, le=604_800, description="Seconds after which a build is given up."
    )

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
        if self.gate_agreement is not None and not self.gate_images:
            raise ValueError(
                f"gate_agreement {self.gate_agreement} is for the comparison that gate_images 0 "
                "switches off: give one of them"
            )
        if self.embedding_name is not None and not self.save_embedding:
            raise ValueError(
                f"embedding_name {self.embedding_name} says which embedding to save, and none is "
                "saved: give save_embedding as well, or leave it out"
            )
        return self

    @property
    def image_profile(self) -> Profile | None:
        """`image_size` as smallest, usual and largest."""
        return None if self.image_size is None else profile_of(self.image_size, MAX_SIDE)

    @property
    def input_hw(self) -> Size | None:
        """`input_size` as height and width."""
        return None if self.input_size is None else size_of(self.input_size)

    @property
    def resize(self) -> int | Size | None:
        """`resize_size` as the shortest edge, or as height and width."""
        if self.resize_size is None:
            return None
        height, width = size_of(self.resize_size)
        return (height, width) if "x" in str(self.resize_size) else height

    @property
    def workspace_bytes(self) -> int | None:
        """`workspace` in bytes."""
        return None if self.workspace is None else bytes_of(self.workspace)
