"""Hugging Face's preprocessor_config.json, in its present, nested and 2021 forms.

Source: transformers 5.23.0, `image_processing_backends.PilBackend` and the classes on top of it.
What is reproduced are its pixels; the torchvision backend of the same version is some levels off.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import cast

from engines.errors import ModelError
from engines.preprocess.config_file import ConfigFields
from engines.preprocess.huggingface_classes import (
    CLASS_OF_MODEL_TYPE,
    CLASSES,
    REFUSED,
    Geometry,
)
from engines.preprocess.recipe import Recipe, Size
from engines.preprocess.spec import (
    Alpha,
    ChannelOrder,
    HostTransform,
    Interpolation,
    PreprocessSpec,
    ResizeMode,
    Triple,
)

__all__ = ["huggingface_recipe", "is_huggingface"]

_INTERPOLATIONS: tuple[Interpolation, ...] = (
    "nearest",
    "lanczos",
    "bilinear",
    "bicubic",
    "box",
    "hamming",
)
"""By the numbers of PIL.Image.Resampling, which the files hold."""

_ZERO: Triple = (0.0, 0.0, 0.0)
_ONE: Triple = (1.0, 1.0, 1.0)

_SIZE_FORMS = "a number, [height, width], {height, width} or {shortest_edge}"
_BOUNDS = {"longest_edge", "max_height", "max_width", "max_pixels", "min_pixels"}
_ONLY_BOUNDED = (
    ". Bounds leave images of different shapes at different sizes, as detectors take them, and are"
    " not reproduced; name a preset with --preprocess, or say the preprocessing in flags"
)

_WARP_EDGE = 384
"""From this size on ConvNext squashes the whole image and crops nothing (its `resize`)."""


def is_huggingface(document: Mapping[str, object]) -> bool:
    """Whether a JSON file configures an image processor."""
    return any(key in document for key in ("image_processor_type", "feature_extractor_type")) or (
        "do_resize" in document or "image_mean" in document
    )


def huggingface_recipe(
    document: Mapping[str, object], name: str, *, model_type: str | None = None
) -> Recipe:
    """The recipe in an image processor's configuration.

    Args:
        document: The parsed file, or the `image_processor` part of processor_config.json.
        name: The file's name, for sources and messages.
        model_type: Of the config.json beside it; names the class where the file does not.

    Raises:
        ModelError: The class is unknown or cannot be reproduced, or a field has the wrong form.
    """
    class_name = _class_name(document, name, model_type)
    processor = CLASSES[class_name]
    fields = ConfigFields(document, name=name, defaults=processor.defaults, default_name=class_name)
    if fields.flag("do_pad"):
        raise ModelError(f"{name}: do_pad pads images to a common size, which is not reproduced")
    geometry = _geometry(processor.geometry, fields)
    interpolation = _interpolation(fields)
    normalization = asdict(_normalization(class_name, fields))
    alpha: Alpha = "white" if fields.flag("do_convert_rgb", "alpha") else "drop"

    def build(size: Size) -> PreprocessSpec:
        mode, (height, width) = geometry.target(size)
        host = HostTransform(
            height=size[0],
            width=size[1],
            resize=mode,
            resize_height=height,
            resize_width=width,
            interpolation=interpolation,
            crop="none" if mode == "exact" and (height, width) == size else "center",
            crop_offset="floor",
            pad_bias="ceil",
            alpha=alpha,
        )
        return PreprocessSpec(host=host, **normalization)

    return Recipe(
        build=build,
        origin=f"{name} ({class_name})",
        sizes=(geometry.native,),
        size_source=fields.sources["crop" if geometry.crops else "resize"],
        sources=fields.sources,
    )


def _class_name(document: Mapping[str, object], name: str, model_type: str | None) -> str:
    given = document.get("image_processor_type") or document.get("feature_extractor_type")
    if given is None and model_type is not None:
        given = CLASS_OF_MODEL_TYPE.get(model_type, f"of model_type {model_type}")
    class_name = str(given).replace("FeatureExtractor", "ImageProcessor")
    class_name = class_name.removesuffix("Fast").removesuffix("Pil")
    if class_name in CLASSES:
        return class_name
    ways_out = "name a preset with --preprocess, or say the preprocessing in flags"
    if class_name in REFUSED:
        raise ModelError(
            f"{name}: {class_name} {REFUSED[class_name]}, which is not reproduced; {ways_out}"
        )
    what = "names no image processor class" if given is None else f"unknown class {class_name}"
    raise ModelError(
        f"{name}: {what}; known are {', '.join(sorted(CLASSES))}. "
        f"Put the right image_processor_type into the file, {ways_out}"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Geometry:
    """Resize and crop as the file states them.

    Attributes:
        kind: How the class reads `size`.
        mode: 'exact' for a height and width, 'shortest' for an edge, 'none' without a resize.
        stated: `size`; both numbers are the edge for 'shortest'.
        native: Size of the result that the file asks for.
        crop_pct: Of the classes that have one.
        crops: Whether `native` is the size of a crop of its own.
    """

    kind: Geometry
    mode: ResizeMode
    stated: Size
    native: Size
    crop_pct: float | None
    crops: bool

    def target(self, size: Size) -> tuple[ResizeMode, Size]:
        """The resize that makes an input of `size`, in the file's proportion of resize to crop."""
        height, width = size
        if self.mode == "none":
            return "none", size
        if self.mode == "shortest":
            edge = self._edge(self.stated[0] * min(size) // min(self.native))
            warp = self.kind == "convnext" and min(size) >= _WARP_EDGE
            return ("exact", size) if warp else ("shortest", (edge, edge))
        box = (
            self.stated[0] * height // self.native[0],
            self.stated[1] * width // self.native[1],
        )
        if self.kind != "poolformer":
            return "exact", box
        edges = self._edge(box[0]), self._edge(box[1])
        return ("shortest" if edges[0] == edges[1] else "exact"), edges

    def _edge(self, stated: int) -> int:
        if self.kind == "levit":
            return int((256 / 224) * stated)
        return stated if self.crop_pct is None else int(stated / self.crop_pct)


def _geometry(kind: Geometry, fields: ConfigFields) -> _Geometry:
    mode, stated = _stated_size(fields)
    crops = fields.flag("do_center_crop", "crop")
    crop_pct = fields.number("crop_pct", "resize") if kind in ("convnext", "poolformer") else None
    native = stated
    if crops:
        native = _crop_size(fields)
    elif kind == "convnext":
        fields.sources["crop"] = "ConvNextImageProcessor: size"
    elif mode != "exact":
        raise fields.error(
            "do_center_crop", "true: without a crop, images of different shapes get different sizes"
        )
    if kind == "convnext" and (mode != "shortest" or native != stated):
        raise fields.error("size", "a shortest_edge, and no other crop: this class crops to it")
    return _Geometry(
        kind=kind, mode=mode, stated=stated, native=native, crop_pct=crop_pct, crops=crops
    )


def _stated_size(fields: ConfigFields) -> tuple[ResizeMode, Size]:
    if not fields.flag("do_resize", "resize"):
        return "none", (1, 1)
    fields.sources.pop("resize")
    value = fields.value("size", "resize")
    if _is_side(value):
        side = cast(int, value)
        return ("exact" if fields.flag("default_to_square") else "shortest"), (side, side)
    if isinstance(value, Mapping) and set(value) == {"shortest_edge"}:
        edge = value["shortest_edge"]
        if _is_side(edge):
            return "shortest", (edge, edge)
    box = _box(value)
    if box is None:
        bounds = isinstance(value, Mapping) and not _BOUNDS.isdisjoint(value)
        raise fields.error("size", _SIZE_FORMS + (_ONLY_BOUNDED if bounds else ""))
    return "exact", box


def _crop_size(fields: ConfigFields) -> Size:
    fields.sources.pop("crop")
    value = fields.value("crop_size", "crop")
    box = (value, value) if _is_side(value) else _box(value)
    if box is None:
        raise fields.error("crop_size", "a number, [height, width] or {height, width}")
    return cast(Size, box)


def _box(value: object) -> Size | None:
    if isinstance(value, Mapping) and set(value) == {"height", "width"}:
        value = [value["height"], value["width"]]
    if isinstance(value, Sequence) and len(value) == 2 and all(_is_side(side) for side in value):
        return value[0], value[1]
    return None


def _is_side(value: object) -> bool:
    return type(value) is int and value > 0


def _interpolation(fields: ConfigFields) -> Interpolation:
    value = fields.value("resample", "interpolation")
    if type(value) is not int or not 0 <= value < len(_INTERPOLATIONS):
        raise fields.error("resample", f"0 to {len(_INTERPOLATIONS) - 1}, a filter of Pillow")
    return _INTERPOLATIONS[value]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Normalization:
    """The device part of the specification, by its field names."""

    scale: float
    offset: float
    mean: Triple
    std: Triple
    std_twice: bool
    channel_order: ChannelOrder


def _normalization(class_name: str, fields: ConfigFields) -> _Normalization:
    own = CLASSES[class_name].own_keys
    scale, offset = 1.0, False
    if fields.flag("do_rescale", "pixel_range"):
        fields.sources.pop("pixel_range")
        scale = fields.number("rescale_factor", "pixel_range")
        offset = "rescale_offset" in own and fields.flag("rescale_offset", "pixel_range")
    flips = "do_flip_channel_order" in own
    mean, std, twice = _ZERO, _ONE, False
    if flips:  # MobileViT's own _preprocess has no normalisation, whatever do_normalize says.
        fields.sources["mean"] = fields.sources["std"] = f"{class_name}: none"
        flips = fields.flag("do_flip_channel_order", "channel_order")
    else:
        fields.sources["channel_order"] = f"{class_name}: rgb"
        mean, std, twice = _mean_std("include_top" in own, fields)
    return _Normalization(
        scale=scale,
        offset=-1.0 if offset else 0.0,
        mean=mean,
        std=std,
        std_twice=twice,
        channel_order="bgr" if flips else "rgb",
    )


def _mean_std(divides_twice: bool, fields: ConfigFields) -> tuple[Triple, Triple, bool]:
    normalizes = fields.flag("do_normalize", "mean")
    again = divides_twice and fields.flag("include_top", "std")
    if not normalizes:
        fields.sources.setdefault("std", fields.sources["mean"])
        return _ZERO, fields.divisors("image_std", "std") if again else _ONE, False
    fields.sources.pop("mean")
    return fields.triple("image_mean", "mean"), fields.divisors("image_std", "std"), again
