"""Turns a wrapped fp32 graph into its int8 form for one backend."""

from __future__ import annotations

from onnx import ModelProto

from engines.errors import ModelError
from engines.quantize.calibration import Calibration
from engines.quantize.for_cpu import place_for_cpu
from engines.quantize.for_tensorrt import place_for_tensorrt
from engines.quantize.insert import Scheme, insert_pairs
from engines.quantize.normalization import normalize_before_transpose
from engines.quantize.opset import with_opset
from engines.quantize.simplify import simplify
from engines.quantize.target import Target
from engines.quantize.wiring import Wiring

__all__ = ["holds_pairs", "quantize"]

MIN_OPSET: dict[Target, int] = {"tensorrt-8": 13, "tensorrt-10": 19, "onnxruntime": 13}
"""13 brought scales by channel, 19 scales in fp16."""

SCHEMES: dict[Target, Scheme] = {
    # 8.6 reads the bytes of a scale as fp32 whatever they are, wants a zero point that is 0, and
    # takes no stored bytes as weights and no quantized bias.
    "tensorrt-8": Scheme(activations="int8", weights="fp32", biases=False, least_scale=1e-30),
    # Scales become fp16 with the rest: 2**-20 is the smallest that fp16 holds to 3 %.
    "tensorrt-10": Scheme(activations="int8", weights="fp32", biases=False, least_scale=2.0**-20),
    # VNNI multiplies unsigned by signed bytes; signed activations take 2.5 times as long.
    "onnxruntime": Scheme(activations="uint8", weights="int8", biases=True, least_scale=1e-30),
}


def quantize(graph: bytes, calibration: Calibration, target: Target) -> ModelProto:
    """Insert Q/DQ pairs by the target's rules; what is outside of them stays fp32.

    Args:
        graph: The wrapped fp32 graph that was calibrated.
        calibration: Its ranges.
        target: Who will read it.

    Raises:
        ModelError: The calibration is another graph's, or the model cannot be quantized.
    """
    calibration.require_graph(graph)
    model = with_opset(simplify(graph), MIN_OPSET[target], "int8")
    if target != "onnxruntime":
        normalize_before_transpose(model)
    wiring = Wiring(model.graph)
    place = place_for_cpu if target == "onnxruntime" else place_for_tensorrt
    placement = place(wiring)
    if not placement.weights:
        raise ModelError(
            "no layer of the model gains from int8: none is wide enough, or its weights are not "
            "fp32 constants. Use --precision fp16 or fp32."
        )
    insert_pairs(model, placement, calibration.ranges, SCHEMES[target])
    return model


def holds_pairs(model: ModelProto) -> bool:
    """Whether a model came quantized."""
    return any(node.op_type == "DequantizeLinear" for node in model.graph.node)
