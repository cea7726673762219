"""What the engine inspector says of a tensor: its dtype and how it lies in memory.

TensorRT 8.6 says both in one sentence under `Format/Datatype` ("Thirty-two wide channel vectorized
row major Int8 format"), 10 often only the dtype ("Half"), and 11 two keys, `Format` and `Datatype`.
An engine with dynamic shapes says "N/A due to dynamic shapes" unless the inspector is given an
execution context with shapes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["COMPUTE_DTYPES", "Tensor", "dtype_in", "parse_tensor"]

DTYPES = (
    ("uint8", r"uint8"),
    ("int8", r"int8"),
    ("fp8", r"fp8|float8|e4m3|e5m2"),
    ("int4", r"int4"),
    ("fp4", r"fp4|float4|e2m1"),
    ("bf16", r"bf16|bfloat16"),
    ("fp16", r"fp16|half|float16"),
    ("int64", r"int64"),
    ("int32", r"int32"),
    ("bool", r"bool"),
    ("fp32", r"fp32|float"),
)
"""Our name of a dtype, and how TensorRT writes it; the first that is found counts."""

COMPUTE_DTYPES = frozenset({"int8", "fp8", "int4", "fp4", "bf16", "fp16", "fp32"})
"""What a model's values can be; the others are images, indices and shapes."""

WIDTHS = {"two": 2, "four": 4, "eight": 8, "sixteen": 16, "thirty-two": 32}


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """An input or output of a layer.

    Attributes:
        name: As TensorRT calls it; mostly as in the ONNX graph.
        shape: Sizes; -1 where they are not fixed.
        dtype: As 'fp16'; None where TensorRT does not say.
        format: As TensorRT's TensorFormat: 'LINEAR', 'HWC8', 'CHW32'; "" where it does not say.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str | None
    format: str


def parse_tensor(raw: Mapping[str, Any]) -> Tensor:
    """Read one of a layer's `Inputs` or `Outputs`.

    Raises:
        ValueError: It has no name, or sizes that are no integers.
    """
    if "Name" not in raw:
        raise ValueError(f"a tensor without a name: {raw!r}"[:200])
    # NVIDIA writes the second key both ways.
    dtype = raw.get("Datatype", raw.get("DataType", ""))
    both = str(raw.get("Format/Datatype", f"{raw.get('Format', '')} {dtype}"))
    return Tensor(
        name=str(raw["Name"]),
        shape=tuple(int(size) for size in raw.get("Dimensions", ())),
        dtype=dtype_in(str(dtype)) or dtype_in(both),
        format=_format_in(both),
    )


def dtype_in(words: str) -> str | None:
    """The dtype that a description names, if any."""
    if words.startswith("N/A"):
        return None
    return next(
        (name for name, pattern in DTYPES if re.search(pattern, words, re.IGNORECASE)), None
    )


def _format_in(words: str) -> str:
    """A description in the words of NvInferRuntime.h's TensorFormat."""
    words = words.lower()
    if named := re.search(r"\(k([a-z0-9_]+)\)", words):
        return named[1].upper()
    if wide := re.search(rf"({'|'.join(WIDTHS)})[- ]wide channel vectorized", words):
        return f"CHW{WIDTHS[wide[1]]}"
    if "channel major" in words:
        multiple = re.search(r"channel (?:% (\d+) == 0|== (\d+))", words)
        return f"HWC{(multiple[1] or multiple[2]) if multiple else ''}"
    return "LINEAR" if "row major" in words else ""
