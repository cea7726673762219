"""Defaults of Hugging Face's image processor classes: what a key that a file leaves out means.

Source: the class attributes in transformers 5.23.0, `models/*/image_processing_pil_*.py`, which
tests/golden/make_preprocess_golden.py holds this table against.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from engines.preprocess.presets import CLIP_MEAN, CLIP_STD, HALF, IMAGENET_MEAN, IMAGENET_STD

__all__ = ["CLASSES", "CLASS_OF_MODEL_TYPE", "REFUSED", "Geometry", "ProcessorClass"]

Geometry = Literal["plain", "convnext", "levit", "poolformer"]
"""How a class reads `size`: as it stands, or in its own way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessorClass:
    """One image processor class.

    Attributes:
        defaults: Its class attributes.
        geometry: How it reads `size`.
        own_keys: Keys that this class alone understands; in another class's file they mean nothing.
    """

    defaults: Mapping[str, object]
    geometry: Geometry = "plain"
    own_keys: tuple[str, ...] = ()


_BILINEAR, _BICUBIC = 2, 3


def _square(side: int) -> dict[str, int]:
    return {"height": side, "width": side}


def _class(
    size: Mapping[str, int],
    *,
    crop: int | None = None,
    crops: bool = True,
    resample: int = _BICUBIC,
    mean: tuple[float, float, float] = HALF,
    std: tuple[float, float, float] = HALF,
    geometry: Geometry = "plain",
    white: bool = False,
    int_is_edge: bool = False,
    **own: object,
) -> ProcessorClass:
    defaults: dict[str, object] = {
        "do_resize": True,
        "size": dict(size),
        "resample": resample,
        "do_center_crop": crop is not None and crops,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(mean),
        "image_std": list(std),
        "default_to_square": not (int_is_edge or "shortest_edge" in size),
        "do_convert_rgb": white,
    }
    if crop is not None:
        defaults["crop_size"] = _square(crop)
    return ProcessorClass(defaults=defaults | own, geometry=geometry, own_keys=tuple(own))


_CLIP = _class({"shortest_edge": 224}, crop=224, mean=CLIP_MEAN, std=CLIP_STD, white=True)
_MOBILENET = _class({"shortest_edge": 256}, crop=224, resample=_BILINEAR)

CLASSES: dict[str, ProcessorClass] = {
    "BeitImageProcessor": _class(_square(224), crop=224, crops=False),
    "BitImageProcessor": _CLIP,
    "CLIPImageProcessor": _CLIP,
    "ConvNextImageProcessor": _class({"shortest_edge": 384}, geometry="convnext", crop_pct=0.875),
    "DeiTImageProcessor": _class(_square(256), crop=224),
    "EfficientNetImageProcessor": _class(
        _square(346), crop=289, crops=False, rescale_offset=False, include_top=True
    ),
    "LevitImageProcessor": _class(
        {"shortest_edge": 224}, crop=224, geometry="levit", mean=IMAGENET_MEAN, std=IMAGENET_STD
    ),
    "MobileNetV1ImageProcessor": _MOBILENET,
    "MobileNetV2ImageProcessor": _MOBILENET,
    "MobileViTImageProcessor": _class({"shortest_edge": 224}, crop=256, do_flip_channel_order=True),
    "PoolFormerImageProcessor": _class(
        {"shortest_edge": 224},
        crop=224,
        geometry="poolformer",
        crop_pct=0.9,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
    ),
    "PvtImageProcessor": _class(_square(224), mean=IMAGENET_MEAN, std=IMAGENET_STD),
    "SegformerImageProcessor": _class(
        _square(512), resample=_BILINEAR, mean=IMAGENET_MEAN, std=IMAGENET_STD
    ),
    "SiglipImageProcessor": _class(_square(224), white=True, int_is_edge=True),
    "ViTImageProcessor": _class(_square(224), resample=_BILINEAR),
}

REFUSED = {
    "DonutImageProcessor": "turns, shrinks and pads pages of documents",
    "DINOv3ViTImageProcessor": "rescales first, so that it resizes floating-point pixels",
    "ImageGPTImageProcessor": "turns pixels into colour clusters",
    "PPLCNetImageProcessor": "exists for torchvision's tensors only, whose resize has other pixels",
    "PerceiverImageProcessor": "crops a part of the original image before it resizes",
    "Siglip2ImageProcessor": "cuts images of any size into patches",
    "TextNetImageProcessor": "rounds the sides up to multiples of 32, after which sizes differ",
}
"""Classes that are known and cannot be reproduced: name to why."""

CLASS_OF_MODEL_TYPE = {
    "beit": "BeitImageProcessor",
    "bit": "BitImageProcessor",
    "clip": "CLIPImageProcessor",
    "convnext": "ConvNextImageProcessor",
    "convnextv2": "ConvNextImageProcessor",
    "cvt": "ConvNextImageProcessor",
    "data2vec-vision": "BeitImageProcessor",
    "deit": "DeiTImageProcessor",
    "dinat": "ViTImageProcessor",
    "dinov2": "BitImageProcessor",
    "dinov3_convnext": "DINOv3ViTImageProcessor",
    "dinov3_vit": "DINOv3ViTImageProcessor",
    "donut-swin": "DonutImageProcessor",
    "efficientnet": "EfficientNetImageProcessor",
    "focalnet": "BitImageProcessor",
    "hiera": "BitImageProcessor",
    "ijepa": "ViTImageProcessor",
    "imagegpt": "ImageGPTImageProcessor",
    "levit": "LevitImageProcessor",
    "metaclip_2": "CLIPImageProcessor",
    "mobilenet_v1": "MobileNetV1ImageProcessor",
    "mobilenet_v2": "MobileNetV2ImageProcessor",
    "mobilevit": "MobileViTImageProcessor",
    "mobilevitv2": "MobileViTImageProcessor",
    "perceiver": "PerceiverImageProcessor",
    "poolformer": "PoolFormerImageProcessor",
    "pp_lcnet": "PPLCNetImageProcessor",
    "pvt": "PvtImageProcessor",
    "pvt_v2": "PvtImageProcessor",
    "regnet": "ConvNextImageProcessor",
    "resnet": "ConvNextImageProcessor",
    "segformer": "SegformerImageProcessor",
    "siglip": "SiglipImageProcessor",
    "siglip2": "Siglip2ImageProcessor",
    "swiftformer": "ViTImageProcessor",
    "swin": "ViTImageProcessor",
    "swinv2": "ViTImageProcessor",
    "textnet": "TextNetImageProcessor",
    "vit": "ViTImageProcessor",
    "vit_msn": "ViTImageProcessor",
}
"""config.json's model_type to the class that transformers takes where the file names none."""
