"""Explicit flags: they win over every file and preset."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Literal, get_args

from engines.errors import ModelError
from engines.preprocess.recipe import CropMode, Recipe, Size, box_host, crop_pct_box
from engines.preprocess.spec import (
    Alpha,
    ChannelOrder,
    HostTransform,
    Interpolation,
    PreprocessSpec,
    Triple,
)

__all__ = [
    "PIXEL_RANGES",
    "PixelRange",
    "PreprocessOverrides",
    "apply_overrides",
    "fill_border",
    "flag",
    "flags_recipe",
]

PixelRange = Literal["0-1", "0-255", "-1-1"]

PIXEL_RANGES: dict[str, tuple[float, float]] = {
    "0-1": (1 / 255, 0.0),
    "0-255": (1.0, 0.0),
    "-1-1": (1 / 127.5, -1.0),
}
"""Name to the scale and offset that bring 0..255 there."""

_CHOICES = {
    "crop_mode": get_args(CropMode),
    "interpolation": get_args(Interpolation),
    "pixel_range": get_args(PixelRange),
    "channel_order": get_args(ChannelOrder),
    "alpha": get_args(Alpha),
}

_GEOMETRY = ("resize_size", "crop_pct", "crop_mode")


@dataclass(frozen=True, slots=True, kw_only=True)
class PreprocessOverrides:
    """The user's flags; None means that the flag was not given.

    Attributes:
        input_size: Height and width of the model's input.
        resize_size: Size before the crop: one number for the shortest edge (or both sides of a
            square), or height and width.
        crop_pct: Part of the resized image that the crop shows; instead of `resize_size`.
        crop_mode: timm's 'center', 'squash' or 'border'.
        interpolation: Filter of the resize.
        mean: Subtracted after scaling to `pixel_range`, in the model's order of channels.
        std: Divisors, in the model's order of channels.
        pixel_range: Range of the pixels before mean and std.
        channel_order: Order in which the model expects the channels.
        alpha: What becomes of transparency.

    Raises:
        ModelError: A value is out of its range; the message names the flag.
    """

    input_size: Size | None = None
    resize_size: int | Size | None = None
    crop_pct: float | None = None
    crop_mode: CropMode | None = None
    interpolation: Interpolation | None = None
    mean: Triple | None = None
    std: Triple | None = None
    pixel_range: PixelRange | None = None
    channel_order: ChannelOrder | None = None
    alpha: Alpha | None = None

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            value = getattr(self, name)
            if value is not None and value not in choices:
                raise ModelError(f"{flag(name)} {value}: expected one of {', '.join(choices)}")
        if self.crop_pct is not None and not 0 < self.crop_pct <= 1:
            raise ModelError(f"--crop-pct {self.crop_pct}: expected a number above 0, at most 1")
        if self.crop_pct is not None and self.resize_size is not None:
            raise ModelError("--crop-pct and --resize-size say the same thing: give one of them")

    @property
    def given(self) -> tuple[str, ...]:
        """Names of the fields that were given."""
        return tuple(f.name for f in fields(self) if getattr(self, f.name) is not None)


def flag(name: str) -> str:
    """The command line's spelling of a field."""
    return "--" + name.replace("_", "-")


def flags_recipe(overrides: PreprocessOverrides) -> Recipe | list[str]:
    """Preprocessing from flags alone, or the flags that are missing for it.

    Nothing is assumed but what the flags themselves imply: a pixel range without mean and std means
    that none is applied, and 'squash' or 'border' without a size before the crop that all of the
    image is shown.
    """
    missing = [
        name
        for name in ("interpolation", "crop_mode", "pixel_range")
        if getattr(overrides, name) is None
    ]
    if (overrides.mean is None) != (overrides.std is None):
        missing.append("std" if overrides.std is None else "mean")
    if overrides.crop_mode == "center" and overrides.crop_pct is overrides.resize_size is None:
        missing.append("crop_pct")
    if missing:
        return [flag(name) for name in missing]
    interpolation = overrides.interpolation
    assert interpolation is not None
    sources = {
        "mean": "not given: 0",
        "std": "not given: 1",
        "channel_order": "not given: rgb",
        "alpha": "not given: drop",
    }

    def build(size: Size) -> PreprocessSpec:
        host = box_host(size, size, "squash", interpolation=interpolation)
        return PreprocessSpec(host=host, scale=1.0)

    return Recipe(build=build, origin="flags", sources=sources)


def apply_overrides(
    spec: PreprocessSpec, overrides: PreprocessOverrides
) -> tuple[PreprocessSpec, dict[str, str]]:
    """Replace what flags were given for.

    Returns:
        The specification, and the source of each field that a flag decided.

    Raises:
        ModelError: Flags do not fit what they would change.
    """
    sources = {name: flag(name) for name in overrides.given if name not in _GEOMETRY}
    host = spec.host
    if overrides.interpolation is not None:
        host = replace(host, interpolation=overrides.interpolation)
    if overrides.alpha is not None:
        host = replace(host, alpha=overrides.alpha)
    spec = replace(spec, host=host)
    for name in ("mean", "std", "channel_order"):
        if getattr(overrides, name) is not None:
            spec = replace(spec, **{name: getattr(overrides, name)})
    if overrides.std is not None:
        spec = replace(spec, std_twice=False)
    if overrides.pixel_range is not None:
        scale, offset = PIXEL_RANGES[overrides.pixel_range]
        spec = replace(spec, scale=scale, offset=offset)
    geometry = [flag(name) for name in _GEOMETRY if name in overrides.given]
    if geometry:
        spec = replace(spec, host=_geometry(spec.host, overrides))
        sources["resize"] = sources["crop"] = ", ".join(geometry)
    return fill_border(spec), sources


def fill_border(spec: PreprocessSpec) -> PreprocessSpec:
    """Pad a border with the mean colour, as timm's 'border' does: what normalises to zero."""
    if spec.host.resize != "contain":
        return spec
    red, green, blue = (min(max(round(value), 0), 255) for value in spec.affine()[0])
    return replace(spec, host=replace(spec.host, pad_fill=(red, green, blue)))


def _geometry(host: HostTransform, overrides: PreprocessOverrides) -> HostTransform:
    size = (host.height, host.width)
    mode = overrides.crop_mode or _crop_mode(host)
    if overrides.crop_pct is not None:
        box = crop_pct_box(size, overrides.crop_pct)
    else:
        box = _box(overrides.resize_size or host.resize_size, size, mode)
    changed = box_host(size, box, mode, interpolation=host.interpolation)
    return replace(changed, crop_offset=host.crop_offset, pad_bias=host.pad_bias, alpha=host.alpha)


def _crop_mode(host: HostTransform) -> CropMode:
    modes: dict[str, CropMode] = {
        "exact": "squash",
        "contain": "border",
        "shortest": "center",
        "cover": "center",
    }
    if host.resize not in modes:
        raise ModelError(f"this model's resize is {host.resize!r}: give --crop-mode as well")
    return modes[host.resize]


def _box(resize_size: int | Size, size: Size, mode: CropMode) -> Size:
    if not isinstance(resize_size, int):
        return resize_size
    if mode != "center" and size[0] != size[1]:
        raise ModelError(
            f"--resize-size {resize_size}: --crop-mode {mode} to {size[0]}x{size[1]} needs a "
            "height and a width"
        )
    return resize_size, resize_size
