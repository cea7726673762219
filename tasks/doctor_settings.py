"""The parameters of doctor."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tasks.model_settings import ModelSettings
from tasks.values import Text

__all__ = ["DoctorSettings"]


class DoctorSettings(ModelSettings):
    """What to look at; with the options of classify_dir a model is tested as that would run it.

    Raises:
        pydantic.ValidationError: A value is out of its range, or two of them do not fit together.
    """

    # Frozen, and so no setter that would not take None: the narrower type of the base is safe.
    model: Text | None = Field(  # type: ignore[assignment]
        default=None, description="The model to test: an .onnx file, or a folder that holds one."
    )
    images: Text | None = Field(
        default=None,
        description="Directory of images to test its preprocessing on, best with a folder for "
        "each label.",
    )
    output: Text | None = Field(
        default=None,
        description="Directory or bucket for tables, as s3://bucket/prefix: see that it can be "
        "written.",
    )
    backend: Literal["auto", "tensorrt", "onnxruntime"] = Field(
        default="auto",
        description="What tests the model; auto takes TensorRT where there is a GPU, and builds "
        "its engine where the cache lacks it.",
    )
