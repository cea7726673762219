"""The parameters of each command: the one list behind its command line and its flow."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from tasks.model_settings import ModelSettings
from tasks.values import Extension, ImageMemory, Integer, RunId, Text, checked_text

__all__ = ["BuildSettings", "Settings"]


class Settings(ModelSettings):
    """What to classify, with which model, where to, and how.

    Raises:
        pydantic.ValidationError: A value is out of its range, or two of them do not fit together.
    """

    positional: ClassVar[str] = "images"

    images: list[str] | str = Field(
        description="Directories, patterns in quotes, image files, .tar archives, .parquet files, "
        "or tables (.csv .tsv .jsonl .parquet) and lists (.txt, - for standard input) of paths; "
        "local, s3:// or gs://."
    )
    output: Text = Field(
        description="Directory, or s3://bucket/prefix, for the table and the records of runs."
    )
    input_format: Literal["auto", "files", "webdataset", "parquet", "manifest"] = Field(
        default="auto",
        description="What the inputs are; auto tells by their names. With another value, a "
        "directory stands for the .tar, .parquet or tables in it.",
    )
    # Photo archives are trees; a flat listing would silently miss most of them.
    recursive: bool = Field(default=True, description="Also classify what is in subdirectories.")
    # What Pillow decodes safely and cameras, scanners and web sites write.
    extensions: list[Extension] = Field(
        default=[".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"],
        min_length=1,
        description="Suffixes that make a file an image; others are counted as ignored.",
    )
    image_column: Text | None = Field(
        default=None,
        description="Column of a .parquet file that holds images; default: image, or the only one.",
    )
    uri_column: Text | None = Field(
        default=None,
        description="Column of a table that holds paths; default: the first of uri, file_name, "
        "filepath, path, filename, url, image.",
    )
    root: Text | None = Field(
        default=None,
        description="Directory that relative paths in tables and lists begin at; default: that of "
        "the table (for - the current one).",
    )
    keep_columns: list[Text] | None = Field(
        default=None,
        min_length=1,
        description="Columns of tables, metadata and WebDataset's json that go into the table as "
        "they are, or all.",
    )
    limit: Integer | None = Field(
        default=None,
        ge=1,
        description="List at most this many images, for a first look; "
        "shards planned before are done whole.",
    )
    # Pillow's own limit: a quarter of a GiB of RGB for one image.
    max_pixels: Integer = Field(
        default=89_478_485,
        ge=1,
        le=2_000_000_000,
        description="A larger image becomes an error row, before it is decoded.",
    )

    # What most readers of a table take; a list of structs has one schema, whatever --top-k.
    topk_format: Literal["struct", "wide", "none"] = Field(
        default="struct",
        description="How the best labels stand in the table: as list of structs in topk, as wide "
        "columns label_2, score_2 and so on, or none.",
    )
    threshold: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="Score below which a label is left out of the best; label and score stay.",
    )
    save_logits: bool = Field(
        default=False, description="Add the model's raw output for every class to the table."
    )

    backend: Literal["auto", "tensorrt", "onnxruntime"] = Field(
        default="auto", description="What runs the model; auto takes TensorRT where there is a GPU."
    )
    workers: Integer | None = Field(
        default=None,
        ge=1,
        le=1024,
        description="Processes that decode images; default: one a core.",
    )
    # The slowest of 10,000 odd and hostile files took less than a second.
    decode_timeout: float = Field(
        default=10.0,
        gt=0,
        le=86_400,
        description="Seconds after which an image that is still being decoded becomes an error "
        "row.",
    )
    # Twice an image of --max-pixels at 4 bytes a pixel, and its file.
    max_image_memory: ImageMemory = Field(
        default="1GiB",
        description="Memory that decoding one image may take; one that needs more becomes an "
        "error row.",
    )

    # A model that is fed wrongly gives scores that look like scores, all night.
    self_test: bool = Field(
        default=True, description="Try the model on a few drawn images before the first shard."
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
        default=False,
        description="Classify all listed images again, also those that have their rows.",
    )
    retry_errors: bool = Field(
        default=False, description="Try again the listed images that have an error row."
    )
    # A row that goes is gone; a directory that is not mounted looks like one that was emptied.
    prune: bool = Field(
        default=False,
        description="Remove the rows of images that are gone from the directories that are listed.",
    )
    prune_limit: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="Share of the images known below a directory that --prune may remove; if more "
        "are gone, nothing is done.",
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
            checked_text(source)
        return value

    @model_validator(mode="after")
    def _lists_something(self) -> Self:
        if self.threshold is not None and self.topk_format == "none":
            raise ValueError(
                f"threshold {self.threshold} leaves labels out of topk, and topk_format none lists "
                "none: give one of them"
            )
        return self

    @model_validator(mode="after")
    def _lists_all_to_prune(self) -> Self:
        if self.prune and self.limit is not None:
            raise ValueError(
                f"prune removes what is not listed any more, and limit {self.limit} lists only a "
                "part: give one of them"
            )
        return self

    @property
    def sources(self) -> tuple[str, ...]:
        """`images`, always as several."""
        return (self.images,) if isinstance(self.images, str) else tuple(self.images)


class BuildSettings(ModelSettings):
    """Which engine to build, and whether to measure it.

    Raises:
        pydantic.ValidationError: A value is out of its range, or two of them do not fit together.
    """

    rebuild: bool = Field(
        default=False, description="Build it even if it is there; the old one is set aside."
    )
    gate_from: Text | None = Field(
        default=None,
        description="Directory of images to compare with fp32 on; default: what calibration left.",
    )
    measure: bool = Field(
        default=True, description="Measure throughput and latency of the largest batch."
    )
    # Clocks have settled by then, and it is still no wait.
    seconds: float = Field(
        default=3.0, gt=0, le=600, description="How long each of the three measurements lasts."
    )
