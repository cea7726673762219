"""The first step: refuse what a user can get wrong, before anything is listed or written."""

from __future__ import annotations

from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from secrets import token_hex

from engines.model import Model, ModelRequest, load_model
from engines.preprocess import PreprocessOverrides
from shards.columns import check_columns
from shards.trees import create_tree
from tasks.allowed_roots import AllowedRoots
from tasks.errors import SettingsError
from tasks.job import Job
from tasks.model_settings import ModelSettings
from tasks.record import refuse_used_run_id
from tasks.settings import Settings
from tasks.sources import kept_names

__all__ = ["check_image_folders", "model_request", "prepare"]

MAX_LIST_VALUES = 2**31 - 1
"""Values that the lists of one file can hold: Arrow counts them in 32 bits."""


def prepare(
    settings: Settings,
    run_id: str | None = None,
    model: Model | None = None,
    allowed: AllowedRoots | None = None,
) -> Job:
    """Load the model, resolve its preprocessing and labels, and prove that the output is writable.

    Args:
        settings: What the user asked for.
        run_id: The run that this process belongs to; None begins a new one.
        model: Loaded as `model_request` asks for it; None loads it here.
        allowed: Where what lists, tables and patterns name may lie; None for anywhere. What the
            settings themselves name has been checked (tasks.locations).

    Raises:
        SettingsError: The combination cannot be honoured here, int8 has no images, or another run
            has the name.
        ModelError: The model, its labels or its preprocessing cannot be used.
        SourceError: An image directory does not exist.
        OutputError: The output cannot be written, or its table has other columns.
    """
    _check_backend(settings)
    check_image_folders(settings)
    if model is None:
        model = load_model(model_request(settings))
    _check_list_sizes(settings, model)
    now = datetime.now(UTC)
    tree = create_tree(settings.output, proven=run_id is not None)
    if run_id is None and settings.run_id is not None:
        refuse_used_run_id(tree, settings.run_id)
    job = Job(
        settings=settings,
        run_id=run_id or settings.run_id or f"{now:%Y%m%dT%H%M%SZ}-{token_hex(3)}",
        started_at=now,
        model=model,
        tree=tree,
        allowed=allowed,
    )
    check_columns(job.tree, job.columns, kept_names(settings))
    return job


def model_request(settings: ModelSettings) -> ModelRequest:
    """What the settings say of the model."""
    auto_is_none = {
        name: None if getattr(settings, name) == "auto" else getattr(settings, name)
        for name in ("pixel_range", "channel_order", "alpha")
    }
    return ModelRequest(
        path=Path(settings.model),
        sha256=settings.model_sha256,
        preprocess=settings.preprocess,
        overrides=PreprocessOverrides(
            input_size=settings.input_hw,
            resize_size=settings.resize,
            crop_pct=settings.crop_pct,
            crop_mode=settings.crop_mode,
            interpolation=settings.interpolation,
            mean=settings.mean,
            std=settings.std,
            **auto_is_none,
        ),
        labels=None if settings.labels is None else Path(settings.labels),
        label_type=settings.label_type,
        activation=settings.activation,
        output_name=settings.output_name,
        top_k=settings.top_k,
        save_embedding=settings.save_embedding,
        embedding_name=settings.embedding_name,
        any_size=settings.image_size is not None,
    )


def _check_backend(settings: Settings) -> None:
    """Refuse at once what would fail only after the listing."""
    if settings.backend == "tensorrt" and find_spec("tensorrt") is None:
        raise SettingsError(
            "--backend tensorrt: the Python package tensorrt is not installed. Install "
            "nightshift[gpu], use the container, or choose --backend onnxruntime."
        )
    if settings.backend == "onnxruntime" and settings.precision not in ("auto", "fp32", "int8"):
        raise SettingsError(
            f"--precision {settings.precision}: ONNX Runtime on the CPU computes in fp32 and int8. "
            "Choose one of them or auto, or --backend tensorrt."
        )


def check_image_folders(settings: ModelSettings, **others: str | None) -> None:
    """Refuse int8 without images, and folders of images that are not there.

    Args:
        settings: precision, calibration_images.
        others: Folders by the name of their parameter.

    Raises:
        SettingsError: In words.
    """
    folders = {"calibration_images": settings.calibration_images, **others}
    if settings.precision == "int8" and settings.calibration_images is None:
        raise SettingsError(
            "--precision int8 needs --calibration-images: a directory with some hundred images of "
            "the kind that will be classified, at least 32."
        )
    for name, folder in folders.items():
        if folder is not None and not Path(folder).is_dir():
            raise SettingsError(
                f"--{name.replace('_', '-')} {folder}: no such directory. Give one with images of "
                "the kind that will be classified."
            )


def _check_list_sizes(settings: Settings, model: Model) -> None:
    """Refuse at once what would fail only when the first shard is full."""
    widths = {
        "--save-logits": model.classes if settings.save_logits else 0,
        "--save-embedding": model.embedding.width if model.embedding else 0,
    }
    for option, width in widths.items():
        if settings.shard_size * width > MAX_LIST_VALUES:
            raise SettingsError(
                f"{option} with --shard-size {settings.shard_size}: {width} values for each image "
                f"are {settings.shard_size * width} in one file, which holds at most "
                f"{MAX_LIST_VALUES}. Choose --shard-size {MAX_LIST_VALUES // width} or less."
            )
