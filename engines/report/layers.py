"""The layers of an engine, from the JSON of TensorRT's engine inspector: 8.6, 10 and 11.

The inspector has no key for a layer's precision. It is taken, in this order, from the name of the
kernel (`..._i8i8_i8i32_f32_...` multiplies int8), from the type of the weights, and from what goes
in and out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from engines.report.tensors import COMPUTE_DTYPES, Tensor, dtype_in, parse_tensor

__all__ = ["Layer", "parse_layers"]

KERNELS = (
    ("int8", r"i8i8|int8|i8816|i16832"),
    ("fp8", r"e4m3|e5m2|fp8"),
    ("tf32", r"tf32"),
    ("bf16", r"bf16"),
    ("fp16", r"f16f16|fp16|h884|h1688|h16816"),
    ("fp32", r"f32f32|fp32|sgemm|scudnn"),
)
"""What a kernel multiplies, and how that is written in the names of TensorRT's kernels."""

IDLE = frozenset({"NoOp", "Constant", "signal", "wait"})
"""Layer types that run no kernel: a view, a constant, a mark between two streams."""

ONNX_NAMES = re.compile(
    r"\[ONNX Layer: (.+?)(?: \| [^\]]*)?\](?=\s*(?:[\x00-\x1f]|\[ONNX Layer: |$))"
)
"""onnx-tensorrt's processMetadata writes this; TensorRT joins those of a fused layer, in 8.6 with
the control character 0x1E, which is why its JSON is none by the letter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """A layer of the engine, in the order of execution.

    Attributes:
        name: TensorRT's; fused layers are joined by ' + '.
        kind: The inspector's `LayerType`, as 'CaskConvolution'; "" where it is not told.
        precision: 'int8', 'fp16', 'tf32', 'fp32', ...; None where nothing tells it.
        tactic: Name of the kernel; "" where it has none.
        tactic_id: As '0xef01fb6e433afa50'; joins the layer to the build log.
        inputs: Tensors that it reads.
        outputs: Tensors that it writes.
        reformat: Whether it only changes dtype or memory format.
        origin: Why there is a reformat: 'REFORMAT', 'CAST', 'QDQ'; else "".
        idle: Whether no kernel runs for it.
        onnx: ONNX nodes that TensorRT itself says are in it.
    """

    name: str
    kind: str = ""
    precision: str | None = None
    tactic: str = ""
    tactic_id: str = ""
    inputs: tuple[Tensor, ...] = ()
    outputs: tuple[Tensor, ...] = ()
    reformat: bool = False
    origin: str = ""
    idle: bool = False
    onnx: tuple[str, ...] = ()


def parse_layers(text: str) -> tuple[Layer, ...]:
    """Read what `EngineInspector.get_engine_information` gave, JSON.

    Raises:
        ValueError: It is something else.
    """
    # strict=False lets control characters pass, see ONNX_NAMES.
    content = json.loads(text, strict=False)
    if not isinstance(content, dict) or not isinstance(content.get("Layers"), list):
        raise ValueError("it has no list of layers")
    try:
        return tuple(_layer(raw) for raw in content["Layers"])
    except (TypeError, AttributeError) as error:
        raise ValueError(f"a layer is not described as expected: {error}") from error


def _layer(raw: object) -> Layer:
    if isinstance(raw, str):  # an engine that was built with names only
        return Layer(name=raw)
    if not isinstance(raw, dict) or "Name" not in raw:
        raise ValueError(f"a layer without a name: {raw!r}"[:200])
    name, kind = str(raw["Name"]), str(raw.get("LayerType", ""))
    inputs = tuple(parse_tensor(tensor) for tensor in raw.get("Inputs", ()))
    outputs = tuple(parse_tensor(tensor) for tensor in raw.get("Outputs", ()))
    tactic = str(raw.get("TacticName", ""))
    idle = kind in IDLE
    reformat = kind == "Reformat" and not idle
    return Layer(
        name=name,
        kind=kind,
        precision=None if idle or reformat else _precision(raw, tactic, (*inputs, *outputs)),
        tactic=tactic,
        tactic_id=str(raw.get("TacticValue", "")),
        inputs=inputs,
        outputs=outputs,
        reformat=reformat,
        origin=str(raw.get("Origin", "")) if reformat else "",
        idle=idle,
        onnx=tuple(dict.fromkeys(ONNX_NAMES.findall(str(raw.get("Metadata", ""))))),
    )


def _precision(raw: Mapping[str, Any], tactic: str, tensors: Iterable[Tensor]) -> str | None:
    candidates = (*_of_kernel(tactic), *_of_weights(raw), *(tensor.dtype for tensor in tensors))
    return next((dtype for dtype in candidates if dtype in COMPUTE_DTYPES | {"tf32"}), None)


def _of_kernel(tactic: str) -> Iterator[str]:
    for precision, pattern in KERNELS:
        if re.search(pattern, tactic, re.IGNORECASE):
            yield precision
            return


def _of_weights(raw: Mapping[str, Any]) -> Iterator[str | None]:
    """Types of weights and of a Scale layer's factors; a bias tells nothing, it is often wider."""
    for key, value in raw.items():
        if key.endswith(("Weights", "Scale")) and isinstance(value, dict):
            yield dtype_in(str(value.get("Type", "")))
