"""Graphs in an operator set that a precision can be written in."""

from __future__ import annotations

import onnx
import onnx.version_converter
from onnx import ModelProto

from engines.errors import ModelError
from engines.graph import model_opset

__all__ = ["with_opset"]


def with_opset(model: ModelProto, opset: int, precision: str) -> ModelProto:
    """The model in an opset that `precision` can be written in: its own, or the one given.

    Raises:
        ModelError: An operator cannot be converted.
    """
    if model_opset(model) >= opset:
        return model
    try:
        converted: ModelProto = onnx.version_converter.convert_version(model, opset)
    except Exception as error:  # a C++ exception of whatever kind the operator's adapter throws
        raise ModelError(
            f"{precision} needs opset {opset}, and the model, of opset {model_opset(model)}, "
            f"cannot be converted: {' '.join(str(error).split())}. Export it again, in opset "
            f"{opset}, or use --precision fp32."
        ) from error
    return converted
