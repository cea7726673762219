"""Named preprocessing for models that came without a config file."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, replace

from engines.errors import ModelError
from engines.preprocess.overrides import PIXEL_RANGES, PixelRange, fill_border
from engines.preprocess.recipe import CropMode, Recipe, Size, box_host, crop_pct_box
from engines.preprocess.spec import ChannelOrder, Interpolation, PreprocessSpec, Triple
from engines.preprocess.torchvision import WEIGHTS, WeightsTransform, default_weights

__all__ = [
    "CLIP_MEAN",
    "CLIP_STD",
    "HALF",
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "PRESETS",
    "is_preset",
    "preset",
]

IMAGENET_MEAN: Triple = (0.485, 0.456, 0.406)
IMAGENET_STD: Triple = (0.229, 0.224, 0.225)
CLIP_MEAN: Triple = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD: Triple = (0.26862954, 0.26130258, 0.27577711)
HALF: Triple = (0.5, 0.5, 0.5)
_ZERO: Triple = (0.0, 0.0, 0.0)
_ONE: Triple = (1.0, 1.0, 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Preset:
    """One row of the table.

    `crop_pct` is the part of the resized image that is shown; `resize_edge` is the shortest edge
    for the native `size`, and keeps its ratio to any other size that is asked for. `oblong` is the
    crop mode where height and width differ, if that is another one.
    """

    interpolation: Interpolation
    crop_mode: CropMode = "center"
    oblong: CropMode | None = None
    crop_pct: float = 1.0
    size: Size | None = None
    resize_edge: int | None = None
    pixel_range: PixelRange = "0-1"
    mean: Triple = _ZERO
    std: Triple = _ONE
    channel_order: ChannelOrder = "rgb"

    def build(self, size: Size) -> PreprocessSpec:
        box = crop_pct_box(size, self.crop_pct)
        if self.size is not None and self.resize_edge is not None:
            native, edge = self.size[0], self.resize_edge
            box = (size[0] * edge // native, size[1] * edge // native)
        scale, offset = PIXEL_RANGES[self.pixel_range]
        mode = self.oblong if self.oblong is not None and size[0] != size[1] else self.crop_mode
        return fill_border(
            PreprocessSpec(
                host=box_host(size, box, mode, interpolation=self.interpolation),
                scale=scale,
                offset=offset,
                mean=self.mean,
                std=self.std,
                channel_order=self.channel_order,
            )
        )


_TORCHVISION = _Preset(
    interpolation="bilinear",
    size=(224, 224),
    resize_edge=256,
    mean=IMAGENET_MEAN,
    std=IMAGENET_STD,
)
_TIMM = _Preset(interpolation="bicubic", crop_pct=0.875, mean=IMAGENET_MEAN, std=IMAGENET_STD)
_KERAS = _Preset(interpolation="nearest", crop_mode="squash")

PRESETS: dict[str, _Preset] = {
    # torchvision's ImageClassification(crop_size=224, resize_size=256 or 232), antialiased.
    "imagenet": _TORCHVISION,
    "torchvision-v1": _TORCHVISION,
    "torchvision-v2": replace(_TORCHVISION, resize_edge=232),
    # What timm assumes where a pretrained_cfg says nothing.
    "timm-default": _TIMM,
    "inception": replace(_TIMM, mean=HALF, std=HALF),
    "clip": _Preset(interpolation="bicubic", mean=CLIP_MEAN, std=CLIP_STD),
    # Ultralytics 8.4's classify_transforms: T.Resize(edge) and a centre crop for squares, T.Resize
    # of height and width for other sizes; no normalisation.
    "yolo-cls": _Preset(interpolation="bilinear", oblong="squash"),
    # keras.utils.load_img(target_size=...), whose default filter is nearest, then
    # keras.applications.imagenet_utils.preprocess_input(mode=...).
    "keras-tf": replace(_KERAS, pixel_range="-1-1"),
    "keras-torch": replace(_KERAS, mean=IMAGENET_MEAN, std=IMAGENET_STD),
    "keras-caffe": replace(
        _KERAS, pixel_range="0-255", mean=(103.939, 116.779, 123.68), channel_order="bgr"
    ),
    # The graph normalises by itself.
    "raw-0-255": _Preset(interpolation="bilinear", crop_mode="squash", pixel_range="0-255"),
}

_FIELDS = (
    "resize",
    "crop",
    "interpolation",
    "mean",
    "std",
    "pixel_range",
    "channel_order",
    "alpha",
)

_TORCHVISION_PREFIX = "torchvision/"

_STATISTICS: dict[str, tuple[Triple, Triple]] = {
    "imagenet": (IMAGENET_MEAN, IMAGENET_STD),
    "half": (HALF, HALF),
    # Caffe's means, in RGB on 0-1, and no division: (u/255 - mean) / (1/255).
    "vgg_features": ((0.48235, 0.45882, 0.40784), (1 / 255, 1 / 255, 1 / 255)),
}


def is_preset(name: str) -> bool:
    """Whether `preset` knows a name."""
    return name in PRESETS or _weights(name) is not None


def preset(name: str) -> Recipe:
    """The recipe of a named preset.

    Args:
        name: Of `PRESETS`; or of torchvision's weights, as `ResNet50_Weights.IMAGENET1K_V2`,
            `ResNet50_Weights.DEFAULT` or either after `torchvision/`.

    Raises:
        ModelError: There is no such preset; the message lists them, the most similar first.
    """
    weights = _weights(name)
    if name in PRESETS:
        row, origin = PRESETS[name], f"preset {name}"
    elif weights is not None:
        row, origin = _of_weights(WEIGHTS[weights]), f"torchvision {weights}"
    else:
        raise ModelError(_unknown(name))
    return Recipe(
        build=row.build,
        origin=origin,
        sizes=(row.size,) if row.size else (),
        size_source=origin,
        sources=dict.fromkeys(_FIELDS, origin),
    )


def _weights(name: str) -> str | None:
    """The full name of torchvision's weights that a preset's name means."""
    enum, _, version = name.removeprefix(_TORCHVISION_PREFIX).partition(".")
    if version == "DEFAULT":
        return default_weights(enum)
    return f"{enum}.{version}" if f"{enum}.{version}" in WEIGHTS else None


def _of_weights(transform: WeightsTransform) -> _Preset:
    mean, std = _STATISTICS[transform.statistics]
    return _Preset(
        interpolation=transform.interpolation,
        size=(transform.crop, transform.crop),
        resize_edge=transform.resize,
        mean=mean,
        std=std,
    )


def _unknown(name: str) -> str:
    enums = sorted({weights.partition(".")[0] for weights in WEIGHTS})
    spelled = {known.lower(): known for known in (*PRESETS, *WEIGHTS, *enums)}
    asked = name.removeprefix(_TORCHVISION_PREFIX).lower()
    begins = [known for known in spelled if known.startswith(asked.partition(".")[0] + "_weights")]
    close = begins or difflib.get_close_matches(asked, spelled, n=3)
    similar = [
        f"{spelled[known]}.DEFAULT" if spelled[known] in enums else spelled[known]
        for known in close
    ]
    meant = f" (similar: {', '.join(similar)})" if similar else ""
    return (
        f"--preprocess {name}: neither a file nor a preset{meant}; expected the path of a"
        f" configuration, one of {', '.join(sorted(PRESETS))}, or the name of torchvision's"
        " weights, as ResNet50_Weights.IMAGENET1K_V2"
    )
