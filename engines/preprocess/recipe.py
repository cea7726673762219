"""What one source says about preprocessing, before the input size is chosen."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from engines.preprocess.spec import HostTransform, Interpolation, PreprocessSpec, ResizeMode

__all__ = ["CropMode", "GraphSize", "Recipe", "Size", "box_host", "crop_pct_box", "fits"]

Size = tuple[int, int]
"""Height and width in pixels."""

GraphSize = tuple[int | None, int | None]
"""Height and width of the graph's input; None where it takes any."""

CropMode = Literal["center", "squash", "border"]
"""timm's names: keep the ratio and cut; squash to a box and cut; keep the ratio and pad."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Preprocessing as one file, preset or set of flags states it.

    Attributes:
        build: The specification for an input of (height, width); it raises ModelError where the
            source does not work out for that size.
        origin: The whole source in words, for messages.
        sizes: Input sizes that the source names, preferred first; empty where any will do.
        size_source: Where `sizes` came from, in words.
        sources: Field of the specification to where its value came from, in words.
    """

    build: Callable[[Size], PreprocessSpec]
    origin: str
    sizes: tuple[Size, ...] = ()
    size_source: str = ""
    sources: Mapping[str, str] = field(default_factory=dict)


def fits(size: Size, graph_size: GraphSize) -> bool:
    """Whether a graph takes images of a size."""
    return all(static in (None, side) for side, static in zip(size, graph_size, strict=True))


def crop_pct_box(size: Size, crop_pct: float) -> Size:
    """The size to resize to, of which a crop of `size` shows the part `crop_pct`.

    Source: timm 1.0.31, `timm.data.transforms_factory.transforms_imagenet_eval`.
    """
    height, width = size
    return math.floor(height / crop_pct), math.floor(width / crop_pct)


def box_host(
    size: Size, box: Size, crop_mode: CropMode, *, interpolation: Interpolation
) -> HostTransform:
    """Evaluation geometry of timm: resize towards `box`, then take `size` from the centre.

    Source: timm 1.0.31, `timm.data.transforms_factory.transforms_imagenet_eval`. For 'center' it
    uses torchvision's resize of the shortest edge, which truncates, where the box is square, and
    its own, which rounds, where it is not.
    """
    resizes: dict[CropMode, ResizeMode] = {
        "squash": "exact",
        "border": "contain",
        "center": "shortest" if box[0] == box[1] else "cover",
    }
    resize = resizes[crop_mode]
    return HostTransform(
        height=size[0],
        width=size[1],
        resize=resize,
        resize_height=box[0],
        resize_width=box[1],
        interpolation=interpolation,
        rounding="trunc" if resize == "shortest" else "round",
        crop="none" if resize == "exact" and box == size else "center",
    )
