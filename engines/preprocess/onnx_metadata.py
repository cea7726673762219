"""What an ONNX file's `metadata_props` say of preprocessing.

Three writers are known. Nightshift's own key holds a whole specification. Ultralytics names the
task and the size, and its transform for classifiers is one and the same for all models. The ONNX
standard's `Image.*` (docs/MetadataProps.md) names the channels and the range of the pixels, which
is a part: how images reach their size is not in it.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import replace
from typing import TypeVar

from engines.errors import ModelError
from engines.preprocess.overrides import PixelRange, PreprocessOverrides
from engines.preprocess.presets import preset
from engines.preprocess.recipe import Recipe, Size
from engines.preprocess.spec import ChannelOrder
from engines.preprocess.statement import Statement

__all__ = ["image_statement", "literal", "ultralytics_recipe"]

ULTRALYTICS = "ONNX metadata of Ultralytics"
_CLASSIFY = "classify"

_CHANNEL_ORDERS: dict[str, ChannelOrder] = {"rgb8": "rgb", "bgr8": "bgr"}
_RANGES: dict[str, PixelRange] = {
    "nominalrange_0_255": "0-255",
    "normalized_0_1": "0-1",
    "normalized_1_1": "-1-1",
}
_FORMAT, _GAMMA, _RANGE = (
    "Image.BitmapPixelFormat",
    "Image.ColorSpaceGamma",
    "Image.NominalPixelRange",
)

_Value = TypeVar("_Value", bound=str)

MAX_LITERAL_CHARACTERS = 16 << 20
"""The names of 21,843 classes are 1 MiB."""


def ultralytics_recipe(metadata_props: Mapping[str, str]) -> Recipe | None:
    """The recipe of a classifier that Ultralytics exported; None for any other file.

    Source: ultralytics 8.4, `engine.exporter.Exporter` for the keys and
    `data.augment.classify_transforms` for the transform.

    Raises:
        ModelError: The model detects, segments or estimates poses; or a value is not understood.
    """
    task = metadata_props.get("task")
    if task is None or "imgsz" not in metadata_props:
        return None
    if task != _CLASSIFY:
        raise ModelError(
            f"{ULTRALYTICS}: task is {task!r}; expected 'classify'. This model gives no scores of"
            " classes for a whole image; export one of Ultralytics' -cls models"
        )
    if metadata_props.get("channels", "3") != "3":
        raise ModelError(
            f"{ULTRALYTICS}: channels is {metadata_props['channels']}; expected 3: images are RGB"
        )
    recipe = preset("yolo-cls")
    return replace(
        recipe,
        origin=ULTRALYTICS,
        sizes=(_imgsz(metadata_props["imgsz"]),),
        size_source=f"{ULTRALYTICS}: imgsz",
        sources=dict.fromkeys(recipe.sources, f"{ULTRALYTICS}: task classify"),
    )


def _imgsz(text: str) -> Size:
    value = literal(text)
    sides = [value, value] if isinstance(value, int) else value
    if isinstance(sides, list) and len(sides) == 2 and all(type(side) is int for side in sides):
        return sides[0], sides[1]
    raise ModelError(f"{ULTRALYTICS}: imgsz is {text[:80]!r}; expected as '[224, 224]'")


def literal(text: str) -> object:
    """The value that Python wrote with `str()`; None where the text is no such value."""
    if len(text) > MAX_LITERAL_CHARACTERS:
        return None
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None


def image_statement(properties: Mapping[str, object], name: str) -> Statement:
    """What the `Image.*` keys of the ONNX standard say; keys and values in any case.

    Args:
        properties: `metadata_props`, or the content of Custom Vision's metadata_properties.json.
        name: Of these, for sources and messages.

    Raises:
        ModelError: They ask for pixels that are not made here, as grey or linear ones; or a value
            is none of the standard's.
    """
    known = {key.lower(): str(value) for key, value in properties.items()}
    _check_gamma(known, name)
    order = _chosen(known, _FORMAT, _CHANNEL_ORDERS, name)
    pixel_range = _chosen(known, _RANGE, _RANGES, name)
    sources = {
        field: f"{name}: {key}"
        for field, key, value in (
            ("channel_order", _FORMAT, order),
            ("pixel_range", _RANGE, pixel_range),
        )
        if value is not None
    }
    return Statement(
        origin=name if sources else "",
        values=PreprocessOverrides(channel_order=order, pixel_range=pixel_range),
        sources=sources,
    )


_NOT_MADE = {
    "gray8": "the model takes one grey channel, and images are RGB here",
    "rgba8": "the model takes a fourth channel of transparency, and images are RGB here",
    "bgra8": "the model takes a fourth channel of transparency, and images are RGB here",
    "nominalrange_16_235": "video's range of 16 to 235 is not made here",
}


def _chosen(
    known: Mapping[str, str], key: str, choices: Mapping[str, _Value], name: str
) -> _Value | None:
    given = known.get(key.lower())
    if given is None:
        return None
    if given.lower() in choices:
        return choices[given.lower()]
    why = _NOT_MADE.get(given.lower(), "that is no value of the ONNX standard")
    raise ModelError(
        f"{name}: {key} is {given[:80]}: {why}. Expected {' or '.join(choices)}; where the"
        " metadata are wrong, name a preset with --preprocess, or say the preprocessing in flags"
    )


def _check_gamma(known: Mapping[str, str], name: str) -> None:
    gamma = known.get(_GAMMA.lower(), "srgb")
    if gamma.lower() != "srgb":
        raise ModelError(
            f"{name}: {_GAMMA} is {gamma[:80]}: pixels are taken as images store them, which is"
            " SRGB, and not made linear. Where the metadata are wrong, name a preset with"
            " --preprocess, or say the preprocessing in flags"
        )
