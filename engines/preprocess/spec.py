"""The one canonical description of preprocessing, whatever file or flag it came from.

An image becomes what a model expects in two parts. The *host* part (`HostTransform`) resizes, crops
and pads 8-bit RGB pixels, as Pillow does; the *device* part (`PreprocessSpec.affine`) is one
subtraction and one multiplication per channel, which the graph does on uint8 pixels. Every training
stack's evaluation transform that is supported is a value of these two classes.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, Self, cast, get_args

from engines.errors import ModelError

__all__ = [
    "Alpha",
    "ChannelOrder",
    "HostTransform",
    "Interpolation",
    "PreprocessSpec",
    "ResizeMode",
    "Triple",
]

_SPEC_VERSION = 1
"""Rises when the meaning of a field changes, so that digests of the old meaning do not match."""

MAX_SIDE = 16_384
"""Pixels; no classifier takes more, and a slip of the pen should not allocate terabytes."""

Triple = tuple[float, float, float]
ResizeMode = Literal["none", "exact", "shortest", "longest", "cover", "contain"]
Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"]
Rounding = Literal["trunc", "round"]
Crop = Literal["none", "center"]
CropOffset = Literal["round", "floor"]
PadBias = Literal["floor", "ceil"]
Alpha = Literal["drop", "white"]
ChannelOrder = Literal["rgb", "bgr"]

_CHOICES = {
    "resize": ResizeMode,
    "interpolation": Interpolation,
    "rounding": Rounding,
    "crop": Crop,
    "crop_offset": CropOffset,
    "pad_bias": PadBias,
    "alpha": Alpha,
    "channel_order": ChannelOrder,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class HostTransform:
    """What turns a decoded image into uint8 RGB of `height` x `width`, on the host.

    Attributes:
        height: Rows of the result.
        width: Columns of the result.
        resize: 'none'; 'exact' (to resize_height x resize_width, aspect ratio ignored); 'shortest'
            or 'longest' (that edge becomes resize_height, which equals resize_width); 'cover' or
            'contain' (the ratio is kept, and the result covers, or fits into, the box).
        resize_height: Rows that `resize` aims at; the result's where `resize` is 'none'.
        resize_width: Columns that `resize` aims at.
        interpolation: Pillow's filter of that name, antialiased as Pillow does.
        rounding: How the side that follows from the ratio becomes a whole number: torchvision and
            Hugging Face truncate, timm rounds half to even.
        crop: 'center', or 'none' where the resized image has the result's size already.
        crop_offset: Where the crop starts, for an odd difference d: 'round' is round-half-even(d/2)
            (torchvision, timm), 'floor' is floor(d/2) (Hugging Face).
        pad_fill: RGB of what is put around an image that is smaller than the crop.
        pad_bias: Of an odd padding p, what goes to the top and left: floor(p/2) (torchvision, timm)
            or ceil(p/2) (Hugging Face).
        alpha: 'drop' the alpha channel, or put the image on 'white'.
    """

    height: int
    width: int
    resize: ResizeMode
    resize_height: int
    resize_width: int
    interpolation: Interpolation
    rounding: Rounding = "trunc"
    crop: Crop = "none"
    crop_offset: CropOffset = "round"
    pad_fill: tuple[int, int, int] = (0, 0, 0)
    pad_bias: PadBias = "floor"
    alpha: Alpha = "drop"

    def __post_init__(self) -> None:
        _check_choices(self)
        for name in ("height", "width", "resize_height", "resize_width"):
            value = getattr(self, name)
            if type(value) is not int or not 1 <= value <= MAX_SIDE:
                raise ValueError(f"{name} is {value!r}; expected an integer from 1 to {MAX_SIDE}")
        fill: tuple[int, ...] = self.pad_fill
        if len(fill) != 3 or not all(0 <= value <= 255 for value in fill):
            raise ValueError(f"pad_fill is {self.pad_fill!r}; expected 3 integers from 0 to 255")
        if self.resize in ("shortest", "longest") and self.resize_height != self.resize_width:
            raise ValueError(f"resize={self.resize!r} has one size, not {self.resize_size}")
        exact = self.resize == "exact" and self.resize_size == (self.height, self.width)
        if self.crop == "none" and not exact:
            raise ValueError(
                f"{self.resize!r} to {self.resize_size} needs a crop to reach its size"
            )

    @property
    def resize_size(self) -> tuple[int, int]:
        """Rows and columns that `resize` aims at."""
        return self.resize_height, self.resize_width


@dataclass(frozen=True, slots=True, kw_only=True)
class PreprocessSpec:
    """Everything between a decoded image and the model's input tensor.

    With u the uint8 pixel, channel c of the model's input is `(u * scale + offset - mean[c])
    / std[c]`, divided by std[c] once more where `std_twice`. Layout and dtype are the graph's own.

    Attributes:
        host: What happens to the pixels before they enter the graph.
        scale: Factor that brings 0..255 to the model's range.
        offset: Added after scaling.
        mean: Subtracted, in the model's order of channels.
        std: Divisors, in the model's order of channels.
        std_twice: Divide by std twice, as Hugging Face's EfficientNet does with `include_top`.
        channel_order: Order in which the model expects the channels; images are always RGB.
    """

    host: HostTransform
    scale: float
    offset: float = 0.0
    mean: Triple = (0.0, 0.0, 0.0)
    std: Triple = (1.0, 1.0, 1.0)
    std_twice: bool = False
    channel_order: ChannelOrder = "rgb"

    def __post_init__(self) -> None:
        _check_choices(self)
        for name in ("mean", "std"):
            values = getattr(self, name)
            if len(values) != 3 or not all(math.isfinite(value) for value in values):
                raise ValueError(f"{name} is {values!r}; expected 3 finite numbers")
        if not all(value > 0 for value in self.std):
            raise ValueError(f"std is {self.std!r}; expected numbers above 0")
        if not (math.isfinite(self.scale) and self.scale > 0):
            raise ValueError(f"scale is {self.scale!r}; expected a finite number above 0")
        if not math.isfinite(self.offset):
            raise ValueError(f"offset is {self.offset!r}; expected a finite number")
        if type(self.std_twice) is not bool:
            raise ValueError(f"std_twice is {self.std_twice!r}; expected true or false")

    def affine(self) -> tuple[Triple, Triple]:
        """Normalisation as `(image - subtract) * multiply` on uint8 pixels.

        Returns:
            subtract and multiply in float64, per RGB channel of the image: the same channel's
            values where the model wants BGR, which reorders the channels afterwards.
        """
        power = 2 if self.std_twice else 1
        subtract = [(mean - self.offset) / self.scale for mean in self.mean]
        multiply = [self.scale / std**power for std in self.std]
        step = -1 if self.channel_order == "bgr" else 1
        return cast(Triple, tuple(subtract[::step])), cast(Triple, tuple(multiply[::step]))

    def to_json(self) -> str:
        """Canonical JSON: one line, sorted keys, floats that read back exactly."""
        document = {"version": _SPEC_VERSION, **asdict(self)}
        for name in ("scale", "offset"):
            document[name] = float(document[name])
        for name in ("mean", "std"):
            document[name] = [float(value) for value in document[name]]
        return json.dumps(document, sort_keys=True, separators=(",", ":"))

    def digest(self) -> str:
        """SHA-256 of the canonical JSON, in hexadecimal."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Read what `to_json` wrote.

        Raises:
            ModelError: It is not such JSON, or of another version; the message says what is wrong.
        """
        try:
            document = json.loads(text)
        except ValueError as error:
            raise ModelError(f"not a preprocessing specification: {error}") from error
        if not isinstance(document, dict):
            raise ModelError("not a preprocessing specification: not a JSON object")
        return cls.from_document(document)

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Self:
        """The specification in JSON that was parsed already.

        Raises:
            ModelError: It is of another version, or a field is missing, unknown or wrong.
        """
        try:
            rest = dict(document)
            version = rest.pop("version")
            if version != _SPEC_VERSION:
                raise ValueError(f"version is {version!r}; this program reads {_SPEC_VERSION}")
            host = HostTransform(**_tuples(rest.pop("host")))
            return cls(host=host, **_tuples(rest))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ModelError(f"not a preprocessing specification: {error}") from error


def _tuples(document: Mapping[str, Any]) -> dict[str, Any]:
    """JSON has lists where the dataclasses have tuples."""
    return {
        key: tuple(value) if isinstance(value, list) else value for key, value in document.items()
    }


def _check_choices(value: HostTransform | PreprocessSpec) -> None:
    for field in fields(value):
        choices = get_args(_CHOICES.get(field.name))
        given = getattr(value, field.name)
        if choices and given not in choices:
            raise ValueError(f"{field.name} is {given!r}; expected one of {', '.join(choices)}")
