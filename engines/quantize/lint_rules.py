"""What TensorRT's ONNX parsers and builders refuse or misread in a graph with Q/DQ pairs.

Each rule was read in onnx-tensorrt (branches 8.6-GA and 10.1-GA) or in NvInfer.h of that version,
or was met on a GPU; docs/precision.md has the sources. tests/golden/lint_8_6.json is what TensorRT
8.6.1 made of an example of each.
"""

from __future__ import annotations

import numpy as np
from onnx import NodeProto, TensorProto

from engines.quantize.for_tensorrt import is_scaled_by_channel
from engines.quantize.lint_subject import PARSERS, Check, Parser, Rule, Stage, Subject
from engines.quantize.placement import ACTIVATIONS
from engines.quantize.wiring import Wiring, attribute

__all__ = ["RULES"]

PAIR = ("QuantizeLinear", "DequantizeLinear")

FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16)

OPERATORS_8_6 = frozenset(
    """
    Abs Acos Acosh Add And ArgMax ArgMin Asin Asinh Atan Atanh AveragePool
    BatchNormalization Cast Ceil Celu Clip Concat Constant ConstantOfShape Conv
    ConvTranspose Cos Cosh CumSum DepthToSpace DequantizeLinear Div Dropout Einsum Elu Equal
    Erf Exp Expand EyeLike Flatten Floor GRU Gather GatherElements GatherND Gemm
    GlobalAveragePool GlobalLpPool GlobalMaxPool Greater GreaterOrEqual GridSample
    GroupNormalization HardSigmoid HardSwish Identity If InstanceNormalization IsInf IsNaN
    LRN LSTM LayerNormalization LeakyRelu Less LessOrEqual Log LogSoftmax Loop
    LpNormalization LpPool MatMul Max MaxPool Mean MeanVarianceNormalization Min Mod Mul Neg
    NonMaxSuppression NonZero Not OneHot Or PRelu Pad Pow QuantizeLinear RNN RandomNormal
    RandomNormalLike RandomUniform RandomUniformLike Range Reciprocal ReduceL1 ReduceL2
    ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum
    ReduceSumSquare Relu Reshape Resize ReverseSequence RoiAlign Round Scan Scatter
    ScatterElements ScatterND Selu Shape Shrink Sigmoid Sign Sin Sinh Size Slice Softmax
    Softplus Softsign SpaceToDepth Split Sqrt Squeeze Sub Sum Tan Tanh ThresholdedRelu Tile
    TopK Transpose Trilu Unsqueeze Upsample Where Xor
    """.split()  # noqa: SIM905 - 142 quoted names would be harder to read
)
"""Those with an importer in 8.6; any other is looked for among plugins, and not found."""


def _of_pairs(check: Check) -> Check:
    def checked(subject: Subject, node: NodeProto) -> str | None:
        return check(subject, node) if node.op_type in PAIR else None

    return checked


def _zero_point_missing(_: Subject, node: NodeProto) -> str | None:
    return "has no zero point: write one of int8 zeros" if _lacks_zero_point(node) else None


def _unsigned_by_default(subject: Subject, node: NodeProto) -> str | None:
    name = node.output[0] if node.op_type == "QuantizeLinear" else node.input[0]
    if _lacks_zero_point(node) and subject.dtypes.get(name) == TensorProto.UINT8:
        return "has no zero point, which means uint8, but is computed in int8"
    return None


def _lacks_zero_point(node: NodeProto) -> bool:
    return len(node.input) < 3 or not node.input[2]


def _zero_point_not_zero(subject: Subject, node: NodeProto) -> str | None:
    zero = subject.value(node, 2)
    if zero is not None and np.any(zero != 0):
        return "has a zero point other than 0: quantization must be symmetric"
    return None


def _zero_point_volume(subject: Subject, node: NodeProto) -> str | None:
    scale, zero = subject.value(node, 1), subject.value(node, 2)
    if scale is not None and zero is not None and scale.size != zero.size:
        return f"has {scale.size} scales and {zero.size} zero points: they must be as many"
    return None


def _unsigned(subject: Subject, node: NodeProto) -> str | None:
    dtypes = (subject.dtype(node, 0), subject.dtype(node, 2))
    if TensorProto.UINT8 in dtypes and not _lacks_zero_point(node):
        return "is about uint8, and is computed in int8"
    return None


def _wide_integers(subject: Subject, node: NodeProto) -> str | None:
    if node.op_type == "DequantizeLinear" and subject.dtype(node, 0) == TensorProto.INT32:
        return "dequantizes int32, as of a bias: leave biases in floating point"
    return None


def _scale_not_fp32(subject: Subject, node: NodeProto) -> str | None:
    if subject.dtype(node, 1) not in (0, TensorProto.FLOAT):
        return "has a scale that is not fp32: the parser reads its bytes as fp32, the builder stops"
    return None


def _scale_dtype(subject: Subject, node: NodeProto) -> str | None:
    scale, data = subject.dtype(node, 1), subject.dtype(node, 0)
    if scale == TensorProto.FLOAT or data not in FLOATS or scale == data:
        return None
    return "has a scale in half precision, and data in another precision"


def _scale_not_constant(subject: Subject, node: NodeProto) -> str | None:
    if subject.value(node, 1) is None:
        return "has a scale that is computed: it must be a constant"
    return None


def _scale_not_positive(subject: Subject, node: NodeProto) -> str | None:
    scale = subject.value(node, 1)
    if scale is not None and not np.all(scale > 0):
        return "has a scale that is not positive"
    return None


def _scale_count(subject: Subject, node: NodeProto) -> str | None:
    scale, data = subject.value(node, 1), subject.value(node, 0)
    if scale is None or data is None or scale.size == 1:
        return None
    channels = data.shape[attribute(node, "axis", 1)]
    return None if scale.size == channels else f"has {scale.size} scales for {channels} channels"


def _activation_by_channel(subject: Subject, node: NodeProto) -> str | None:
    scale = subject.value(node, 1)
    if scale is None or scale.size == 1 or subject.is_weight(node.input[0]):
        return None
    return f"has {scale.size} scales for an activation: TensorRT supports several for weights only"


def _scaled_by_channel(subject: Subject, node: NodeProto) -> str | None:
    if node.op_type != "QuantizeLinear":
        return None
    if is_scaled_by_channel(subject.wiring, node.input[0]):
        return "follows a Sub or Mul by channel: the builder fails to merge their scales"
    return None


def _sum_in_floating_point(subject: Subject, node: NodeProto) -> str | None:
    """A convolution in int8, the sum behind it, and something of the sum that is not in int8."""
    wiring = subject.wiring
    if node.op_type != "Add":
        return None
    for fused, skip in (node.input, reversed(node.input)):
        conv = wiring.maker.get(fused)
        if conv is None or conv.op_type != "Conv" or wiring.only_reader(fused) is None:
            continue
        if not subject.is_dequantized(conv.input[0]) or wiring.is_constant(skip):
            continue
        if not subject.is_dequantized(skip):
            return f"adds {skip!r}, which is not in int8, to a convolution in int8"
        end = _after_activation(wiring, node.output[0])
        readers = wiring.read_by(end)
        if end in wiring.outputs or any(r.op_type != "QuantizeLinear" for r in readers):
            return "is computed with a convolution in int8, and not read in int8 by everybody"
    return None


def _after_activation(wiring: Wiring, tensor: str) -> str:
    reader = wiring.only_reader(tensor)
    if reader is None or reader.op_type not in ACTIVATIONS:
        return tensor
    output: str = reader.output[0]
    return output


def _kernel_shape_missing(subject: Subject, node: NodeProto) -> str | None:
    if node.op_type != "Conv" or subject.value(node, 1) is not None:
        return None
    if any(item.name == "kernel_shape" for item in node.attribute):
        return None
    return "lacks kernel_shape, which the parser does not infer from a weight that is computed"


def _bytes_without_cast(subject: Subject, node: NodeProto) -> str | None:
    if node.op_type == "Cast":
        return None
    for index, name in enumerate(node.input):
        if name in subject.inputs and subject.dtype(node, index) == TensorProto.UINT8:
            return f"reads the uint8 input {name!r}, which only a Cast may read"
    return None


def _unknown_operator(_: Subject, node: NodeProto) -> str | None:
    if node.op_type in OPERATORS_8_6 and node.domain in ("", "ai.onnx"):
        return None
    return f"{node.op_type} has no importer"


def _axes_as_input(_: Subject, node: NodeProto) -> str | None:
    if not node.op_type.startswith("Reduce") or node.op_type == "ReduceSum":
        return None
    return "has its axes as an input (opset 18)" if len(node.input) > 1 else None


_ALL = PARSERS
_OLD: tuple[Parser, ...] = ("8.6",)
_TYPED: tuple[Parser, ...] = ("10", "11")


def _rule(name: str, parsers: tuple[Parser, ...], stage: Stage, check: Check) -> Rule:
    return Rule(name=name, parsers=parsers, stage=stage, check=check)


RULES: tuple[Rule, ...] = (
    _rule("zero-point-missing", _OLD, "parser", _of_pairs(_zero_point_missing)),
    _rule("zero-point-missing", _TYPED, "nobody", _of_pairs(_unsigned_by_default)),
    _rule("zero-point-not-zero", _ALL, "parser", _of_pairs(_zero_point_not_zero)),
    _rule("zero-point-volume", _ALL, "parser", _of_pairs(_zero_point_volume)),
    _rule("uint8", _ALL, "nobody", _of_pairs(_unsigned)),
    _rule("int32", _ALL, "parser", _of_pairs(_wide_integers)),
    _rule("scale-not-fp32", _OLD, "builder", _of_pairs(_scale_not_fp32)),
    _rule("scale-dtype", _TYPED, "parser", _of_pairs(_scale_dtype)),
    _rule("scale-not-constant", _ALL, "builder", _of_pairs(_scale_not_constant)),
    _rule("scale-not-positive", _ALL, "parser", _of_pairs(_scale_not_positive)),
    _rule("scale-count", _ALL, "parser", _of_pairs(_scale_count)),
    _rule("activation-by-channel", _ALL, "nobody", _of_pairs(_activation_by_channel)),
    _rule("scaled-by-channel", _OLD, "builder", _scaled_by_channel),
    _rule("sum-in-floating-point", _OLD, "builder", _sum_in_floating_point),
    _rule("kernel-shape-missing", _ALL, "parser", _kernel_shape_missing),
    _rule("uint8-without-cast", _ALL, "parser", _bytes_without_cast),
    _rule("operator", _OLD, "parser", _unknown_operator),
    _rule("axes-as-input", _OLD, "nobody", _axes_as_input),
)
