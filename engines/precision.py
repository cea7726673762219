"""Precision as a property of the ONNX graph: one recipe for every TensorRT version.

TensorRT 11 has no precision flags any more: strongly typed networks do what the file says. So the
file is rewritten, deterministically and without images: fp16 and bf16 by `engines.half_precision`,
int8 by Q/DQ pairs (`engines.quantize`) from ranges that were measured before. What stays out of
int8 runs in fp16. docs/precision.md has the recipes and where their rules come from.

A model that came with Q/DQ pairs was quantized by its author and is left as it is.
"""

from __future__ import annotations

import onnx
import onnx.inliner
from onnx import ModelProto

from engines.errors import BackendUnavailableError, ModelError
from engines.quantize.calibration import Calibration
from engines.quantize.opset import with_opset
from engines.quantize.placement import OWN_PREFIX as OWN_NODE_PREFIX
from engines.quantize.target import Target

__all__ = ["OWN_NODE_PREFIX", "Target", "apply_precision", "precision_recipe"]

RECIPES = {"fp32": 1, "fp16": 1, "bf16": 1, "int8": 2}
"""Version of each recipe: raised when its output changes, so that engines are built again."""

BF16_OPSET = 22
"""The first whose convolutions and pools take bf16."""


def precision_recipe(precision: str) -> str:
    """Name a precision and the version of its recipe, for the engine's key.

    Raises:
        ValueError: No such recipe.
    """
    if precision not in RECIPES:
        raise ValueError(f"precision {precision!r}: expected one of {', '.join(RECIPES)}")
    return f"{precision}/{RECIPES[precision]}"


def apply_precision(
    graph: bytes,
    precision: str,
    *,
    calibration: Calibration | None = None,
    target: Target = "tensorrt-8",
) -> bytes:
    """Rewrite a wrapped ONNX graph so that the model in it computes in `precision`.

    Inputs, outputs and the nodes around the model keep their dtypes. A model that holds fp16
    weights already is left as its author made it, unless int8 is asked for; one that holds Q/DQ
    pairs is left in any case.

    Args:
        graph: Serialized ModelProto with its weights inside.
        precision: 'fp32' (the graph as it is), 'fp16', 'bf16' or 'int8'.
        calibration: Ranges of this very graph; int8 needs them.
        target: Who will read the result. fp16 is the same for all.

    Returns:
        The serialized graph, topologically sorted and checked.

    Raises:
        ModelError: The precision cannot hold a weight, int8 has no calibration or nothing to gain,
            or the rewritten graph is not valid.
        BackendUnavailableError: The target does not compute in this precision.
        ValueError: No such recipe.
    """
    precision_recipe(precision)
    if precision == "fp32":
        return graph
    model = onnx.load_model_from_string(graph)
    if model.functions:
        model = onnx.inliner.inline_local_functions(model)
    # Imported here: they load onnxruntime, which reading a cached engine does not need.
    from engines.half_precision import holds_halves
    from engines.quantize.apply import holds_pairs

    if holds_pairs(model) or (precision != "int8" and holds_halves(model)):
        return graph
    try:
        rewritten = _rewrite(graph, model, precision, calibration, target)
        onnx.checker.check_model(rewritten, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ModelError(
            f"the model does not survive its conversion to {precision}: {error}. "
            "Use --precision fp32."
        ) from error
    result: bytes = rewritten.SerializeToString()
    return result


def _rewrite(
    graph: bytes,
    model: ModelProto,
    precision: str,
    calibration: Calibration | None,
    target: Target,
) -> ModelProto:
    from engines.half_precision import to_bf16, to_fp16

    if precision == "int8":
        return _int8(graph, model, calibration, target)
    if precision == "bf16":
        if target != "tensorrt-10":
            raise BackendUnavailableError(
                "bf16 needs TensorRT 10 or later; --precision fp16 is as fast, and int8 faster"
            )
        model = with_opset(model, BF16_OPSET, precision)
        to_bf16(model)
        return model
    to_fp16(model)
    return model


def _int8(
    graph: bytes, model: ModelProto, calibration: Calibration | None, target: Target
) -> ModelProto:
    from engines.half_precision import holds_halves, to_fp16
    from engines.quantize.apply import quantize

    if calibration is None:
        raise ModelError(
            "int8 needs images to measure the range of activations on: give --calibration-images, "
            "or use another --precision"
        )
    if holds_halves(model):
        raise ModelError(
            "the model was exported in half precision; int8 starts from fp32: export it in fp32, "
            "or use --precision fp16"
        )
    quantized = quantize(graph, calibration, target)
    if target == "tensorrt-10":
        to_fp16(quantized)
    return quantized
