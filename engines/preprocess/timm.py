"""timm's config.json: `pretrained_cfg`, or in old files the whole document.

Source: timm 1.0.31, `timm.data.config.resolve_data_config` and `timm.models._pretrained`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast, get_args

from engines.errors import ModelError
from engines.preprocess.config_file import ConfigFields
from engines.preprocess.overrides import fill_border
from engines.preprocess.presets import IMAGENET_MEAN, IMAGENET_STD
from engines.preprocess.recipe import CropMode, Recipe, Size, box_host, crop_pct_box
from engines.preprocess.spec import Interpolation, PreprocessSpec

__all__ = ["check_classes", "is_timm", "timm_recipe"]

_DEFAULTS: dict[str, object] = {
    "input_size": [3, 224, 224],
    "interpolation": "bicubic",
    "crop_pct": 0.875,
    "crop_mode": "center",
    "mean": list(IMAGENET_MEAN),
    "std": list(IMAGENET_STD),
}


def is_timm(document: Mapping[str, object]) -> bool:
    """Whether a config.json was written by timm, in its present or its old form."""
    return isinstance(document.get("pretrained_cfg"), Mapping) or (
        "architecture" in document and "input_size" in document
    )


def check_classes(document: Mapping[str, object], classes: int) -> None:
    """Refuse timm's config.json of another model: the one thing that it tells of the graph.

    `num_classes` outside of `pretrained_cfg` wins, as in timm: inside it may be that of the weights
    from which a model was fine-tuned.

    Args:
        document: The content of config.json, of whatever library.
        classes: Scores that the graph gives for an image.

    Raises:
        ModelError: They differ; with both numbers.
    """
    if not is_timm(document):
        return
    nested = document.get("pretrained_cfg")
    inner = nested if isinstance(nested, Mapping) else {}
    stated = document.get("num_classes", inner.get("num_classes"))
    if type(stated) is int and stated != classes:
        raise ModelError(
            f"config.json: num_classes is {stated}, and the model's graph gives {classes} scores"
            " for an image: the configuration is of another model, and so may be the preprocessing"
            " that it states. Put the right config.json beside the model; or, where the"
            " preprocessing holds all the same, name that file with --preprocess, or give --labels"
        )


def timm_recipe(document: Mapping[str, object], name: str) -> Recipe:
    """The recipe in timm's config.json.

    `test_input_size`, the resolution at which timm validates, is used with `test_crop_pct` where
    the graph or the user asks for that size; `input_size` is preferred where the graph takes any.

    Raises:
        ModelError: A field has the wrong form, or the model does not take 3 channels.
    """
    nested = document.get("pretrained_cfg")
    config = cast(Mapping[str, object], nested if isinstance(nested, Mapping) else document)
    fields = ConfigFields(config, name=name, defaults=_DEFAULTS, default_name="timm")
    trained = _size(fields, "input_size")
    tested = _size(fields, "test_input_size") if "test_input_size" in fields else None
    crop_pct = test_crop_pct = fields.number("crop_pct", "resize")
    if tested is not None and "test_crop_pct" in fields:
        test_crop_pct = fields.number("test_crop_pct", "resize")
    mode = cast(CropMode, _choice(fields, "crop_mode", "crop", get_args(CropMode)))
    interpolation = cast(
        Interpolation, _choice(fields, "interpolation", "interpolation", get_args(Interpolation))
    )
    mean, std = fields.triple("mean", "mean"), fields.divisors("std", "std")

    def build(size: Size) -> PreprocessSpec:
        box = crop_pct_box(size, test_crop_pct if size == tested else crop_pct)
        host = box_host(size, box, mode, interpolation=interpolation)
        return fill_border(PreprocessSpec(host=host, scale=1 / 255, mean=mean, std=std))

    return Recipe(
        build=build,
        origin=name,
        sizes=tuple(dict.fromkeys((trained, tested or trained))),
        size_source=fields.sources["input_size"],
        sources={
            **fields.sources,
            "pixel_range": "timm: 0-1",
            "channel_order": "timm: rgb",
            "alpha": "timm: drop",
        },
    )


def _size(fields: ConfigFields, key: str) -> Size:
    value: Any = fields.value(key, "input_size")
    if (
        not isinstance(value, Sequence)
        or len(value) != 3
        or not all(type(side) is int and side > 0 for side in value)
    ):
        raise fields.error(key, "[channels, height, width]")
    if value[0] != 3:
        raise ModelError(f"{fields.error(key, '3 channels')}: images are RGB here")
    return value[1], value[2]


def _choice(fields: ConfigFields, key: str, field: str, choices: tuple[str, ...]) -> str:
    value = fields.value(key, field)
    if value not in choices:
        raise fields.error(key, f"one of {', '.join(choices)}")
    return str(value)
