"""Which preprocessing a model gets, and where every field of it came from.

Explicit flags win over the preset or file that was named, which wins over the files beside the
model, which win over what the ONNX file says of itself. Nothing is guessed: where none of them
speaks, the run ends with an error that says what to do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from engines.errors import ModelError
from engines.preprocess.config_file import read_json
from engines.preprocess.custom_vision import properties_statement
from engines.preprocess.overrides import PreprocessOverrides, apply_overrides, flags_recipe
from engines.preprocess.presets import is_preset, preset
from engines.preprocess.recipe import GraphSize, Recipe, Size, fits
from engines.preprocess.sidecars import (
    METADATA_KEY,
    metadata_recipe,
    recipe_from,
    sidecar_recipe,
    stated,
    stated_size,
)
from engines.preprocess.spec import PreprocessSpec
from engines.preprocess.statement import Statement, complete
from engines.preprocess.suggest import by_name, by_size

__all__ = ["GraphSize", "Resolved", "resolve"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolved:
    """A specification that can explain itself.

    Attributes:
        spec: The preprocessing.
        sources: input_size, resize, crop, interpolation, mean, std, pixel_range, channel_order and
            alpha, each to where it came from: 'preprocessor_config.json: size', '--mean',
            'preset torchvision-v1', 'ViTImageProcessor default'.
    """

    spec: PreprocessSpec
    sources: Mapping[str, str]


def resolve(
    model: Path,
    *,
    preprocess: str = "auto",
    overrides: PreprocessOverrides,
    graph_size: GraphSize,
    metadata_props: Mapping[str, str],
) -> Resolved:
    """Find the preprocessing of a model.

    Args:
        model: The model's folder, or its .onnx file.
        preprocess: 'auto', the name of a preset, or the path of a configuration file.
        overrides: The user's flags.
        graph_size: Size of the model's input as its graph states it.
        metadata_props: Of the ONNX file.

    Raises:
        ModelError: Nothing says what the preprocessing is, or what says it is not understood,
            contradicts itself or contradicts the graph.
    """
    if preprocess == "auto":
        recipe = _found(model, overrides, metadata_props, graph_size)
    else:
        recipe = _named(preprocess, overrides)
    if not recipe.sizes:
        said = stated_size(model)
        recipe = replace(recipe, sizes=said.sizes, size_source=said.size_source)
    size, size_source = _choose_size(recipe, overrides, graph_size)
    try:
        spec, changed = apply_overrides(recipe.build(size), overrides)
    except ValueError as error:
        raise ModelError(f"{recipe.origin}: {error}") from error
    sources = {**recipe.sources, **changed, "input_size": size_source}
    return Resolved(spec=spec, sources=dict(sorted(sources.items())))


def _named(preprocess: str, overrides: PreprocessOverrides) -> Recipe:
    """The recipe of a preset or of a configuration file."""
    file = Path(preprocess)
    if is_preset(preprocess) or not file.is_file():
        return preset(preprocess)
    document = read_json(file)
    recipe = recipe_from(document, file.name)
    if recipe is not None:
        return recipe
    said = properties_statement(document, file.name)
    if not said.origin:
        raise ModelError(
            f"--preprocess {file}: says nothing about preprocessing; expected a "
            "preprocessor_config.json, timm's config.json or a metadata_properties.json"
        )
    completed = complete(said, overrides)
    if isinstance(completed, list):
        raise ModelError(f"--preprocess {file}: {_half_said(said, completed)}")
    return completed


def _found(
    model: Path,
    overrides: PreprocessOverrides,
    metadata_props: Mapping[str, str],
    graph_size: GraphSize,
) -> Recipe:
    """The recipe that the model's own files tell, with the flags where these are needed for it."""
    try:
        whole = sidecar_recipe(model) or metadata_recipe(metadata_props)
        if whole is not None:
            return whole
        said = stated(model, metadata_props)
    except ModelError:
        # A file that is not understood does no harm where flags say everything.
        flags = flags_recipe(overrides)
        if isinstance(flags, Recipe):
            return flags
        raise
    completed = complete(said, overrides)
    if isinstance(completed, list):
        raise ModelError(_ways_out(model, said, completed, graph_size))
    return completed


def _ways_out(model: Path, said: Statement, missing: Sequence[str], graph_size: GraphSize) -> str:
    if said.origin:
        what = _half_said(said, missing)
    else:
        what = (
            "nothing says how images are prepared for this model: beside it is no"
            " preprocessor_config.json, processor_config.json, config.json of timm or export of"
            f" Custom Vision, and the ONNX file's metadata hold neither {METADATA_KEY} nor Image.*"
            " nor what Ultralytics writes"
        )
    close = by_name(model, graph_size)
    similar = f"by its name perhaps {' or '.join(close)}; " if close else ""
    takes = "of any size" if None in graph_size else _text(graph_size)
    return (
        f"{model}: {what}. Three ways out:\n"
        "  1. put the configuration that the model was published with beside it, or name the file"
        " with --preprocess FILE;\n"
        f"  2. name a preset with --preprocess NAME: {similar}for an input {takes} there are"
        f" {', '.join(by_size(graph_size))}, and torchvision's weights by name;\n"
        f"  3. say it in flags (still missing: {', '.join(missing)})."
    )


def _half_said(said: Statement, missing: Sequence[str]) -> str:
    return (
        f"only a part of the preprocessing is stated: {said.in_words()}. Nothing says the rest,"
        f" and nothing is guessed (still missing: {', '.join(missing)})"
    )


def _choose_size(
    recipe: Recipe, overrides: PreprocessOverrides, graph_size: GraphSize
) -> tuple[Size, str]:
    if overrides.input_size is not None:
        if not fits(overrides.input_size, graph_size):
            raise ModelError(
                f"--input-size {_text(overrides.input_size)}: the model's graph takes "
                f"{_text(graph_size)} only"
            )
        return overrides.input_size, "--input-size"
    for size in recipe.sizes:
        if fits(size, graph_size):
            return size, recipe.size_source
    if recipe.sizes:
        stated = " or ".join(_text(size) for size in recipe.sizes)
        raise ModelError(
            f"{recipe.size_source} says {stated}, the model's graph takes {_text(graph_size)}: "
            "correct the one that is wrong, or give --input-size to scale the preprocessing"
        )
    height, width = graph_size
    if height is None or width is None:
        raise ModelError(
            f"{recipe.origin} names no input size and the model's graph takes {_text(graph_size)}: "
            "give --input-size"
        )
    return (height, width), "the graph's input"


def _text(size: GraphSize) -> str:
    return "x".join("any" if side is None else str(side) for side in size)
