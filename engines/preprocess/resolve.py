"""Which preprocessing a model gets, and where every field of it came from.

Explicit flags win over the preset or file that was named, which wins over the files beside the
model, which win over what the ONNX file says of itself. Nothing is guessed: where none of them
speaks, the run ends with an error that says what to do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from engines.errors import ModelError
from engines.preprocess.config_file import read_json
from engines.preprocess.overrides import PreprocessOverrides, apply_overrides, flags_recipe
from engines.preprocess.presets import PRESETS, preset
from engines.preprocess.recipe import Recipe, Size
from engines.preprocess.sidecars import METADATA_KEY, metadata_recipe, recipe_from, sidecar_recipe
from engines.preprocess.spec import PreprocessSpec

__all__ = ["GraphSize", "Resolved", "resolve"]

GraphSize = tuple[int | None, int | None]
"""Height and width of the graph's input; None where it takes any."""


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
    recipe = _recipe(model, preprocess, overrides, metadata_props)
    size, size_source = _choose_size(recipe, overrides, graph_size)
    try:
        spec, changed = apply_overrides(recipe.build(size), overrides)
    except ValueError as error:
        raise ModelError(f"{recipe.origin}: {error}") from error
    sources = {**recipe.sources, **changed, "input_size": size_source}
    return Resolved(spec=spec, sources=dict(sorted(sources.items())))


def _recipe(
    model: Path, preprocess: str, overrides: PreprocessOverrides, metadata: Mapping[str, str]
) -> Recipe:
    if preprocess != "auto":
        file = Path(preprocess)
        if preprocess in PRESETS or not file.is_file():
            return preset(preprocess)
        recipe = recipe_from(read_json(file), file.name)
        if recipe is None:
            raise ModelError(
                f"--preprocess {file}: says nothing about preprocessing; expected a "
                "preprocessor_config.json or timm's config.json"
            )
        return recipe
    flags = flags_recipe(overrides)
    try:
        found = sidecar_recipe(model) or metadata_recipe(metadata)
    except ModelError:
        # A file that is not understood does no harm where flags say everything.
        if isinstance(flags, Recipe):
            return flags
        raise
    if found is not None:
        return found
    if isinstance(flags, Recipe):
        return flags
    presets = ", ".join(sorted(PRESETS))
    raise ModelError(
        f"{model}: nothing says how images are prepared for this model: beside it is no "
        "preprocessor_config.json, processor_config.json or config.json of timm, and its "
        f"metadata have no {METADATA_KEY}. Put the file that the model was published with beside "
        f"it; or name a preset with --preprocess ({presets}); or say it in flags "
        f"(still missing: {', '.join(flags)})"
    )


def _choose_size(
    recipe: Recipe, overrides: PreprocessOverrides, graph_size: GraphSize
) -> tuple[Size, str]:
    if overrides.input_size is not None:
        if not _fits(overrides.input_size, graph_size):
            raise ModelError(
                f"--input-size {_text(overrides.input_size)}: the model's graph takes "
                f"{_text(graph_size)} only"
            )
        return overrides.input_size, "--input-size"
    for size in recipe.sizes:
        if _fits(size, graph_size):
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


def _fits(size: Size, graph_size: GraphSize) -> bool:
    return all(static in (None, side) for side, static in zip(size, graph_size, strict=True))


def _text(size: GraphSize) -> str:
    return "x".join("any" if side is None else str(side) for side in size)
