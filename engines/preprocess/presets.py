"""Named preprocessing for models that came without a config file."""

from __future__ import annotations

from dataclasses import dataclass, replace

from engines.errors import ModelError
from engines.preprocess.overrides import PIXEL_RANGES, PixelRange, fill_border
from engines.preprocess.recipe import CropMode, Recipe, Size, box_host, crop_pct_box
from engines.preprocess.spec import ChannelOrder, Interpolation, PreprocessSpec, Triple

__all__ = ["CLIP_MEAN", "CLIP_STD", "HALF", "IMAGENET_MEAN", "IMAGENET_STD", "PRESETS", "preset"]

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
    for the native `size`, and keeps its ratio to any other size that is asked for.
    """

    interpolation: Interpolation
    crop_mode: CropMode = "center"
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
        return fill_border(
            PreprocessSpec(
                host=box_host(size, box, self.crop_mode, interpolation=self.interpolation),
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
    # Ultralytics' classify_transforms: shortest edge, centre crop, no normalisation.
    "yolo-cls": _Preset(interpolation="bilinear"),
    # keras.utils.load_img(target_size=...), whose default filter is nearest, then
    # keras.applications.imagenet_utils.preprocess_input(mode=...).
    "keras-tf": replace(_KERAS, pixel_range="-1-1"),
    "keras-caffe": replace(
        _KERAS, pixel_range="0-255", mean=(103.939, 116.779, 123.68), channel_order="bgr"
    ),
    # The graph normalises by itself.
    "raw-0-255": _Preset(interpolation="bilinear", crop_mode="squash", pixel_range="0-255"),
}

_FIELDS = ("resize", "crop", "interpolation", "mean", "std", "pixel_range", "channel_order")


def preset(name: str) -> Recipe:
    """The recipe of a named preset.

    Raises:
        ModelError: There is no such preset; the message lists them.
    """
    if name not in PRESETS:
        raise ModelError(
            f"--preprocess {name}: neither a file nor a preset ({', '.join(sorted(PRESETS))})"
        )
    row = PRESETS[name]
    origin = f"preset {name}"
    return Recipe(
        build=row.build,
        origin=origin,
        sizes=(row.size,) if row.size else (),
        size_source=origin,
        sources=dict.fromkeys(_FIELDS, origin) | {"alpha": origin},
    )
