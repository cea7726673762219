"""Small graphs that TensorRT's parsers accept or refuse, and which rule says so.

`python -m benchmarks.gpu.lint_examples` puts each through the real parser and builder, and
tests/golden/lint_8_6.json is what TensorRT 8.6.1 said of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

__all__ = ["EXAMPLES", "Example"]

CHANNELS, SIDE = 64, 8
SCALE = np.float32(0.05)
ZERO = np.int8(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A graph and what is expected of it.

    Attributes:
        name: Says what is special about it.
        graph: Serialized model, with one input.
        breaks: The rules it breaks, by the version of the parser; none for the versions left out.
        says: Part of what TensorRT 8.6 says where it refuses it; None where that is not on record.
    """

    name: str
    graph: bytes
    breaks: dict[str, frozenset[str]]
    says: str | None = None

    def digest(self) -> str:
        """SHA-256 of what the graph says, whichever version of onnx wrote it down."""
        model = onnx.load_model_from_string(self.graph)
        said: list[object] = [(opset.domain, opset.version) for opset in model.opset_import]
        for node in model.graph.node:
            values = {item.name: helper.get_attribute_value(item) for item in node.attribute}
            said.append((node.op_type, list(node.input), list(node.output), sorted(values.items())))
        for weight in model.graph.initializer:
            content = numpy_helper.to_array(weight).tobytes()
            said.append((weight.name, weight.data_type, list(weight.dims), content))
        for value in model.graph.input:  # an output's shape is as much as onnx infers
            kind = value.type.tensor_type
            shape = [size.dim_param or size.dim_value for size in kind.shape.dim]
            said.append((value.name, kind.elem_type, shape))
        return hashlib.sha256(repr(said).encode()).hexdigest()


class _Graph:
    """Collects nodes and constants."""

    def __init__(self) -> None:
        self.nodes: list[NodeProto] = []
        self.constants: dict[str, np.ndarray] = {}

    def constant(self, name: str, value: object) -> str:
        self.constants[name] = np.asarray(value)
        return name

    def add(self, op_type: str, inputs: Sequence[str], output: str, **attributes: object) -> str:
        self.nodes.append(helper.make_node(op_type, inputs, [output], output, **attributes))
        return output

    def pair(
        self,
        source: str,
        *,
        scale: object = SCALE,
        zero: object | None = ZERO,
        **attributes: object,
    ) -> str:
        """A Q/DQ pair behind `source`; `zero` None leaves the zero point out."""
        parameters = [self.constant(f"{source}.scale", scale)]
        if zero is not None:
            parameters.append(self.constant(f"{source}.zero", zero))
        quantized = self.add("QuantizeLinear", [source, *parameters], f"{source}.q", **attributes)
        return self.add("DequantizeLinear", [quantized, *parameters], f"{source}.dq", **attributes)

    def weight(self, outputs: int = CHANNELS, inputs: int = CHANNELS, scales: int = 0) -> str:
        """A weight and its pair, by channel; with `scales` scales instead of one for each."""
        random = np.random.default_rng(0)
        name = self.constant(
            "weight", random.normal(size=(outputs, inputs, 3, 3)).astype(np.float32)
        )
        count = scales or outputs
        scale, zero = np.full(count, 0.02, np.float32), np.zeros(count, np.int8)
        return self.pair(name, scale=scale, zero=zero, axis=0)

    def conv(self, source: str, weight: str, *bias: str, kernel: Sequence[int] = (3, 3)) -> str:
        """A convolution; without `kernel` its attributes do not tell the sides of its weight."""
        shape: dict[str, object] = {"kernel_shape": kernel} if kernel else {}
        return self.add("Conv", [source, weight, *bias], "y", pads=[1, 1, 1, 1], **shape)

    def model(
        self, *, opset: int = 17, dtype: int = TensorProto.FLOAT, shape: Sequence[int | str] = ()
    ) -> bytes:
        """A model of one input, `x`, and the last node's output."""
        shape = shape or ["batch", CHANNELS, SIDE, SIDE]
        output = self.nodes[-1].output[0]
        graph = helper.make_graph(
            self.nodes,
            "example",
            [helper.make_tensor_value_info("x", dtype, shape)],
            [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)],
            [numpy_helper.from_array(value, name) for name, value in self.constants.items()],
        )
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8
        )
        inferred = onnx.shape_inference.infer_shapes(model)
        (found,) = inferred.graph.output
        model.graph.output[0].CopyFrom(found)
        serialized: bytes = model.SerializeToString()
        return serialized


def _conv(**of_pair: object) -> bytes:
    graph = _Graph()
    graph.conv(graph.pair("x", **of_pair), graph.weight())
    return graph.model()


def _bias() -> bytes:
    graph = _Graph()
    bias = graph.constant("bias", np.ones(CHANNELS, np.float32))
    graph.conv(graph.pair("x"), graph.weight(), bias)
    return graph.model()


def _half_of_the_scales() -> bytes:
    graph = _Graph()
    graph.conv(graph.pair("x"), graph.weight(scales=CHANNELS // 2))
    return graph.model()


def _no_kernel_shape() -> bytes:
    graph = _Graph()
    graph.conv(graph.pair("x"), graph.weight(), kernel=())
    return graph.model()


def _residual(*, skip: bool = True, end: bool = True) -> bytes:
    """A block of a ResNet, its skip connection and what reads it in int8 or not."""
    graph = _Graph()
    pair = graph.pair("x")
    branch = graph.conv(pair, graph.weight())
    total = graph.add("Add", [branch, pair if skip else "x"], "sum")
    relu = graph.add("Relu", [total], "relu")
    graph.add("GlobalAveragePool", [graph.pair(relu) if end else relu], "average")
    return graph.model()


def _gemm() -> bytes:
    graph = _Graph()
    graph.constant("weight", np.full((CHANNELS, CHANNELS), 0.1, np.float32))
    scale, zero = np.full(CHANNELS, 0.02, np.float32), np.zeros(CHANNELS, np.int8)
    weight = graph.pair("weight", scale=scale, zero=zero, axis=0)
    graph.add("Gemm", [graph.pair("x"), weight], "y", transB=1)
    return graph.model(shape=["batch", CHANNELS])


def _pool() -> bytes:
    graph = _Graph()
    relu = graph.add("Relu", [graph.conv(graph.pair("x"), graph.weight())], "relu")
    pooled = graph.add("MaxPool", [graph.pair(relu)], "pooled", kernel_shape=[2, 2], strides=[2, 2])
    graph.add("GlobalAveragePool", [graph.pair(pooled)], "average")
    return graph.model()


def _normalized(*, by_channel: bool, nhwc: bool = False, clip: bool = False) -> bytes:
    """What wraps a model, and a first convolution in int8 behind it."""
    graph = _Graph()
    graph.add("Cast", ["x"], "float", to=TensorProto.FLOAT)
    shape = ((3,) if nhwc else (3, 1, 1)) if by_channel else ()
    mean = np.linspace(100, 120, 3) if by_channel else np.array(110)
    graph.constant("mean", mean.astype(np.float32).reshape(shape))
    graph.constant("factor", np.full(shape, 1 / 58, np.float32))
    source = "float"
    steps = ["Sub", "Mul", "Transpose"] if nhwc else ["Transpose", "Sub", "Mul"]
    for op_type in steps:
        if op_type == "Transpose":
            source = graph.add("Transpose", [source], "nchw", perm=[0, 3, 1, 2])
        else:
            constant = "mean" if op_type == "Sub" else "factor"
            source = graph.add(op_type, [source, constant], f"{op_type.lower()}ed")
    if clip:
        for name, value in (("low", -3.0), ("high", 3.0)):
            graph.constant(name, np.float32(value))
        source = graph.add("Clip", [source, "low", "high"], "clipped")
    graph.conv(graph.pair(source), graph.weight(inputs=3))
    return graph.model(dtype=TensorProto.UINT8, shape=["batch", SIDE, SIDE, 3])


def _transposed_bytes() -> bytes:
    graph = _Graph()
    graph.add("Transpose", ["x"], "nchw", perm=[0, 3, 1, 2])
    graph.add("Cast", ["nchw"], "y", to=TensorProto.FLOAT)
    return graph.model(dtype=TensorProto.UINT8, shape=["batch", SIDE, SIDE, 3])


def _stored_weight() -> bytes:
    graph = _Graph()
    graph.constant("weight", np.ones((CHANNELS, CHANNELS, 3, 3), np.int8))
    graph.constant("scale", np.full(CHANNELS, 0.02, np.float32))
    graph.constant("zero", np.zeros(CHANNELS, np.int8))
    weight = graph.add("DequantizeLinear", ["weight", "scale", "zero"], "weight.dq", axis=0)
    graph.conv(graph.pair("x"), weight)
    return graph.model()


def _int32_bias() -> bytes:
    graph = _Graph()
    graph.constant("bias", np.ones(CHANNELS, np.int32))
    graph.constant("scale", np.full(CHANNELS, 0.001, np.float32))
    graph.constant("zero", np.zeros(CHANNELS, np.int32))
    bias = graph.add("DequantizeLinear", ["bias", "scale", "zero"], "bias.dq", axis=0)
    graph.conv(graph.pair("x"), graph.weight(), bias)
    return graph.model()


def _computed_scale() -> bytes:
    graph = _Graph()
    graph.add("ReduceMax", [graph.add("Abs", ["x"], "size")], "scale", keepdims=0)
    graph.constant("zero", ZERO)
    graph.add("QuantizeLinear", ["x", "scale", "zero"], "q")
    graph.add("DequantizeLinear", ["q", "scale", "zero"], "dq")
    graph.conv("dq", graph.weight())
    return graph.model()


def _half(*, data: int) -> bytes:
    """Scales in fp16, as opset 19 allows; behind fp32 data no ONNX checker accepts them."""
    graph = _Graph()
    source = "x"
    if data == TensorProto.FLOAT16:
        source = graph.add("Cast", ["x"], "half", to=data)
    pair = graph.pair(source, scale=np.float16(0.05))
    graph.add("Cast", [pair], "y", to=TensorProto.FLOAT)
    return graph.model(opset=19)


def _operator(op_type: str, opset: int) -> bytes:
    graph = _Graph()
    graph.add(op_type, ["x"], "y")
    return graph.model(opset=opset)


def _mean(*, axes_as_input: bool) -> bytes:
    graph = _Graph()
    if axes_as_input:
        graph.add("ReduceMean", ["x", graph.constant("axes", np.array([2, 3]))], "y")
        return graph.model(opset=18)
    graph.add("ReduceMean", ["x"], "y", axes=[2, 3])
    return graph.model()


def _example(
    name: str, make: Callable[[], bytes] | bytes, *, says: str | None = None, **breaks: str
) -> Example:
    """`old`, `ten` and `eleven` name the rule that is broken there; `every` that of all three."""
    versions = {"old": ["8.6"], "ten": ["10"], "eleven": ["11"], "every": ["8.6", "10", "11"]}
    rules: dict[str, set[str]] = {}
    for key, names in breaks.items():
        for version in versions[key]:
            rules.setdefault(version, set()).update(names.split())
    graph = make if isinstance(make, bytes) else make()
    found = {version: frozenset(names) for version, names in rules.items()}
    return Example(name=name, graph=graph, breaks=found, says=says)


EXAMPLES: tuple[Example, ...] = (
    _example("conv", _conv),
    _example("conv with a bias in fp32", _bias),
    _example("residual block", _residual),
    _example("gemm", _gemm),
    _example("pools between pairs", _pool),
    _example("first conv, normalized as a whole", lambda: _normalized(by_channel=False)),
    _example(
        "first conv, normalized by channel in NHWC",
        lambda: _normalized(by_channel=True, nhwc=True),
    ),
    _example("ReduceMean, axes as an attribute", lambda: _mean(axes_as_input=False)),
    _example("HardSwish", lambda: _operator("HardSwish", 14)),
    _example("uint8 activation", lambda: _conv(zero=np.uint8(0)), every="uint8"),
    _example(
        "no zero point, so uint8",
        lambda: _conv(zero=None),
        every="zero-point-missing",
        says="_M_range_check",
    ),
    _example(
        "zero point 3",
        lambda: _conv(zero=np.int8(3)),
        every="zero-point-not-zero",
        says="only supports symmetric quantization",
    ),
    _example(
        "two zero points for one scale",
        lambda: _conv(zero=np.zeros(2, np.int8)),
        every="zero-point-volume",
        says="must have the same volume",
    ),
    _example(
        "scale 0",
        lambda: _conv(scale=np.float32(0)),
        every="scale-not-positive",
        says="Scale coefficients must all be positive",
    ),
    _example(
        "negative scale",
        lambda: _conv(scale=np.float32(-1)),
        every="scale-not-positive",
        says="Scale coefficients must all be positive",
    ),
    _example(
        "half as many scales as channels",
        _half_of_the_scales,
        every="scale-count",
        says="number of scales is not equal",
    ),
    _example(
        "activation by channel",
        lambda: _conv(scale=np.full(CHANNELS, SCALE), zero=np.zeros(CHANNELS, np.int8), axis=1),
        every="activation-by-channel",
    ),
    _example("weight stored as int8", _stored_weight),
    _example(
        "bias in int32",
        _int32_bias,
        every="int32",
        says="only activation types allowed",
    ),
    _example(
        "scale that is computed",
        _computed_scale,
        every="scale-not-constant",
        says="All of the candidates were removed",
    ),
    _example(
        "scale in fp16, data in fp16",
        lambda: _half(data=TensorProto.FLOAT16),
        old="scale-not-fp32",
        says="type() == expectedDataType",
    ),
    _example(
        "scale in fp16, data in fp32",
        lambda: _half(data=TensorProto.FLOAT),
        old="scale-not-fp32",
        ten="scale-dtype",
        eleven="scale-dtype",
        says="type() == expectedDataType",
    ),
    _example(
        "no kernel_shape", _no_kernel_shape, every="kernel-shape-missing", says="checkSpatialDims"
    ),
    _example(
        "first conv, normalized by channel",
        lambda: _normalized(by_channel=True),
        old="scaled-by-channel",
        says="mergeScales",
    ),
    _example(
        "first conv behind a Clip, normalized by channel",
        lambda: _normalized(by_channel=True, clip=True),
        old="scaled-by-channel",
        says="mergeScales",
    ),
    _example(
        "residual block, skip connection in fp32",
        lambda: _residual(skip=False),
        old="sum-in-floating-point",
        says="All of the candidates were removed",
    ),
    _example(
        "residual block that is read in fp32",
        lambda: _residual(end=False),
        old="sum-in-floating-point",
        says="All of the candidates were removed",
    ),
    _example(
        "uint8 into a Transpose",
        _transposed_bytes,
        every="uint8-without-cast",
        says="does not support UINT8 types for intermediate tensors",
    ),
    _example("Gelu", lambda: _operator("Gelu", 20), old="operator", says="Plugin not found"),
    _example("Mish", lambda: _operator("Mish", 18), old="operator", says="Plugin not found"),
    _example(
        "ReduceMean, axes as an input", lambda: _mean(axes_as_input=True), old="axes-as-input"
    ),
)
