"""What lies beside a model, or inside its ONNX file, that tells its preprocessing.

Some sources tell all of it, which is a recipe; others a part, which is a statement.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from engines.preprocess.config_file import is_there, read_json
from engines.preprocess.custom_vision import custom_vision_statement
from engines.preprocess.huggingface import huggingface_recipe, is_huggingface
from engines.preprocess.onnx_metadata import image_statement, ultralytics_recipe
from engines.preprocess.recipe import Recipe, Size
from engines.preprocess.spec import PreprocessSpec
from engines.preprocess.statement import Statement, merge
from engines.preprocess.timm import is_timm, timm_recipe
from engines.preprocess.triton import CONFIG, triton_statement

__all__ = [
    "METADATA_KEY",
    "config_folders",
    "metadata_recipe",
    "recipe_from",
    "sidecar_recipe",
    "stated",
    "stated_size",
]

METADATA_KEY = "nightshift.preprocess"
"""Key in the ONNX file's metadata_props whose value is `PreprocessSpec.to_json`."""

_SIDECAR_NAMES = ("preprocessor_config.json", "processor_config.json", "config.json")
"""In this order: the first that tells the preprocessing decides."""

_WEIGHT_FOLDERS = ("onnx",)
"""Folders that hold only weights, as transformers.js lays models out; configs are one level up."""


def sidecar_recipe(model: Path) -> Recipe | None:
    """The recipe of the first file beside a model that tells one.

    Args:
        model: The model's folder, or its .onnx file.

    Raises:
        ModelError: A file cannot be read or not be understood.
    """
    for folder in config_folders(model):
        model_type = _model_type(folder / "config.json")
        for name in _SIDECAR_NAMES:
            path = folder / name
            if is_there(path):
                recipe = recipe_from(read_json(path), name, model_type=model_type)
                if recipe is not None:
                    return recipe
    return None


def config_folders(model: Path) -> list[Path]:
    """Folders that hold a model's configuration, the nearest first.

    Args:
        model: The model's folder, or its .onnx file; or the folder of weights in the model's.
    """
    folder = model if model.is_dir() else model.parent
    if not folder.name:
        folder = folder.absolute()  # '.' tells neither its name nor its parent's
    is_version = folder.name.isdecimal() and (folder.parent / CONFIG).is_file()  # Triton's
    if folder.name in _WEIGHT_FOLDERS or is_version:
        return [folder, folder.parent]
    return [folder]


def stated(model: Path, metadata_props: Mapping[str, str]) -> Statement:
    """All that is said of preprocessing by sources that know a part of it.

    Args:
        model: The model's folder, or its .onnx file.
        metadata_props: Of the ONNX file.

    Raises:
        ModelError: One of them cannot be read, or asks for what is not made here.
    """
    beside = [custom_vision_statement(folder) for folder in config_folders(model)]
    return merge([*beside, image_statement(metadata_props, "ONNX metadata"), stated_size(model)])


def stated_size(model: Path) -> Statement:
    """The input's size where only Triton's configuration knows it.

    Raises:
        ModelError: The configuration cannot be read.
    """
    return merge([triton_statement(folder) for folder in config_folders(model)])


def recipe_from(
    document: Mapping[str, object], name: str, *, model_type: str | None = None
) -> Recipe | None:
    """The recipe in a parsed configuration file; None where it tells nothing of preprocessing.

    Args:
        document: The parsed file: Hugging Face's, timm's or `PreprocessSpec.to_json`.
        name: The file's name, for sources and messages.
        model_type: Of the Hugging Face config.json beside it.

    Raises:
        ModelError: The file is of a known kind and not understood.
    """
    nested = document.get("image_processor")
    if isinstance(nested, Mapping):
        return recipe_from(nested, f"{name} (image_processor)", model_type=model_type)
    if "host" in document:
        return _spec_recipe(PreprocessSpec.from_document(document), name)
    if is_timm(document):
        return timm_recipe(document, name)
    if is_huggingface(document):
        return huggingface_recipe(document, name, model_type=model_type)
    return None


def metadata_recipe(metadata_props: Mapping[str, str]) -> Recipe | None:
    """The recipe that an ONNX file carries itself.

    Raises:
        ModelError: Its value is not understood.
    """
    text = metadata_props.get(METADATA_KEY)
    if text is None:
        return ultralytics_recipe(metadata_props)
    return _spec_recipe(PreprocessSpec.from_json(text), f"ONNX metadata {METADATA_KEY}")


def _spec_recipe(spec: PreprocessSpec, origin: str) -> Recipe:
    host = spec.host
    native = (host.height, host.width)

    def build(size: Size) -> PreprocessSpec:
        rows = host.resize_height * size[0] // native[0]
        columns = host.resize_width * size[1] // native[1]
        if host.resize in ("shortest", "longest"):
            rows = columns = host.resize_height * min(size) // min(native)
        scaled = replace(
            host, height=size[0], width=size[1], resize_height=rows, resize_width=columns
        )
        return replace(spec, host=scaled)

    fields = (
        *("resize", "crop", "interpolation", "mean", "std", "pixel_range"),
        *("channel_order", "alpha"),
    )
    return Recipe(
        build=build,
        origin=origin,
        sizes=(native,),
        size_source=origin,
        sources=dict.fromkeys(fields, origin),
    )


def _model_type(config: Path) -> str | None:
    if not is_there(config):
        return None
    model_type = read_json(config).get("model_type")
    return model_type if isinstance(model_type, str) else None
