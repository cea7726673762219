"""Small wrapped networks, put together from blocks that real ones consist of."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

__all__ = ["BLOCKS", "CLASSES", "network", "photographs"]

CLASSES = 10
SIDE = 32
BLOCKS = (
    "plain",
    "relu6",
    "leaky",
    "before",
    "identity",
    "downsample",
    "depthwise",
    "batch_norm",
    "max_pool",
    "average_pool",
    "concat",
    "squeeze",
    "swish",
)


class _Network:
    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.nodes: list[NodeProto] = []
        self.weights: dict[str, np.ndarray] = {}
        self.count = 0

    def name(self, what: str) -> str:
        self.count += 1
        return f"{what}_{self.count}"

    def weight(self, *shape: int, scale: float = 1.0) -> str:
        name = self.name("w")
        fan_in = int(np.prod(shape[1:])) if len(shape) > 1 else 1
        values = self.random.normal(size=shape) * scale * (2 / fan_in) ** 0.5
        self.weights[name] = values.astype(np.float32)
        return name

    def add(self, op_type: str, *inputs: str, **attributes: object) -> str:
        name = self.name(op_type.lower())
        self.nodes.append(helper.make_node(op_type, inputs, [name], name, **attributes))
        return name

    def conv(
        self,
        source: str,
        channels_in: int,
        channels_out: int,
        *,
        kernel: int = 3,
        stride: int = 1,
        group: int = 1,
        bias: bool = True,
        scale: float = 1.0,
    ) -> str:
        weight = self.weight(channels_out, channels_in // group, kernel, kernel, scale=scale)
        inputs = [source, weight, *([self.weight(channels_out, scale=0.1)] if bias else [])]
        return self.add("Conv", *inputs, pads=[kernel // 2] * 4, strides=[stride] * 2, group=group)

    def block(self, kind: str, x: str, channels: int) -> tuple[str, int]:
        """Append a block; returns its output and the number of its channels."""
        match kind:
            case "plain":
                return self.add("Relu", self.conv(x, channels, channels)), channels
            case "relu6":
                for name, value in (("zero", 0.0), ("six", 6.0)):
                    self.weights[name] = np.array(value, np.float32)
                return self.add("Clip", self.conv(x, channels, channels), "zero", "six"), channels
            case "leaky":
                return self.add("LeakyRelu", self.conv(x, channels, channels)), channels
            case "before":  # a residual block whose norm and activation stand before its weights
                norm = self.add("Relu", self.norm(x, channels))
                return self.add("Add", x, self.conv(norm, channels, channels, scale=0.5)), channels
            case "identity":
                return self.residual(x, x, channels, channels, 1), channels
            case "downsample":
                skip = self.conv(x, channels, 2 * channels, kernel=1, stride=2)
                return self.residual(x, skip, channels, 2 * channels, 2), 2 * channels
            case "depthwise":
                deep = self.add("Relu", self.conv(x, channels, channels, group=channels))
                return self.add("Add", self.conv(deep, channels, channels, kernel=1), x), channels
            case "batch_norm":
                conv = self.conv(x, channels, channels, bias=False)
                return self.add("Relu", self.norm(conv, channels)), channels
            case "max_pool":
                conv = self.add("Relu", self.conv(x, channels, channels))
                return self.add("MaxPool", conv, kernel_shape=[2, 2], strides=[1, 1]), channels
            case "average_pool":
                conv = self.add("Relu", self.conv(x, channels, channels))
                return self.add("AveragePool", conv, kernel_shape=[2, 2]), channels
            case "concat":
                branches = [self.add("Relu", self.conv(x, channels, channels)) for _ in range(2)]
                return self.add("Concat", *branches, axis=1), 2 * channels
            case "squeeze":
                return self.squeeze(x, channels), channels
            case _:
                conv = self.conv(x, channels, channels)
                return self.add("Mul", conv, self.add("Sigmoid", conv)), channels

    def residual(self, x: str, skip: str, channels: int, wide: int, stride: int) -> str:
        branch = self.add("Relu", self.conv(x, channels, wide, stride=stride))
        branch = self.conv(branch, wide, wide, scale=0.5)
        return self.add("Relu", self.add("Add", branch, skip))

    def norm(self, x: str, channels: int) -> str:
        parameters = [self.weight(channels) for _ in range(4)]
        self.weights[parameters[3]] = np.abs(self.weights[parameters[3]]) + np.float32(0.5)
        return self.add("BatchNormalization", x, *parameters)

    def squeeze(self, x: str, channels: int) -> str:
        """Squeeze and excitation: channels weighed by what all pixels say."""
        x = self.add("Relu", self.conv(x, channels, channels))
        pooled = self.add("GlobalAveragePool", x)
        hidden = self.add("Relu", self.conv(pooled, channels, 16, kernel=1))
        gate = self.add("Sigmoid", self.conv(hidden, 16, channels, kernel=1))
        return self.add("Mul", x, gate)


def network(blocks: Sequence[str], seed: int = 0) -> bytes:
    """A wrapped network: uint8 [batch, 32, 32, 3] in; scores, label_ids and logits out."""
    net = _Network(seed)
    net.weights["nightshift/mean"] = np.float32([[[115]], [[120]], [[125]]])
    net.weights["nightshift/factor"] = np.float32([[[1 / 58]], [[1 / 60]], [[1 / 62]]])
    net.weights["nightshift/k"] = np.array([5], np.int64)
    own = helper.make_node
    net.nodes += [
        own("Cast", ["images"], ["n/f"], "nightshift/cast", to=TensorProto.FLOAT),
        own("Transpose", ["n/f"], ["n/t"], "nightshift/transpose", perm=[0, 3, 1, 2]),
        own("Sub", ["n/t", "nightshift/mean"], ["n/s"], "nightshift/subtract"),
        own("Mul", ["n/s", "nightshift/factor"], ["pixels"], "nightshift/multiply"),
    ]
    x, channels = net.add("Relu", net.conv("pixels", 3, 16, stride=2)), 16
    for kind in blocks:
        x, channels = net.block(kind, x, channels)
    flat = net.add("Flatten", net.add("GlobalAveragePool", x))
    raw = net.add("Gemm", flat, net.weight(CLASSES, channels), net.weight(CLASSES), transB=1)
    net.nodes += [
        own("Cast", [raw], ["logits"], "nightshift/cast_output", to=TensorProto.FLOAT),
        own("Softmax", ["logits"], ["n/p"], "nightshift/softmax", axis=1),
        own("TopK", ["n/p", "nightshift/k"], ["scores", "n/i"], "nightshift/top_k"),
        own("Cast", ["n/i"], ["label_ids"], "nightshift/cast_indices", to=TensorProto.INT32),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        net.nodes,
        "network",
        [value("images", TensorProto.UINT8, ["batch", SIDE, SIDE, 3])],
        [
            value("scores", TensorProto.FLOAT, ["batch", 5]),
            value("label_ids", TensorProto.INT32, ["batch", 5]),
            value("logits", TensorProto.FLOAT, ["batch", CLASSES]),
        ],
        [numpy_helper.from_array(array, name) for name, array in net.weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    serialized: bytes = model.SerializeToString()
    return serialized


def photographs(count: int, seed: int = 0) -> np.ndarray:
    """uint8 [count, 32, 32, 3]: light and dark areas of 8x8 pixels, and a little noise."""
    random = np.random.default_rng(seed)
    areas = random.integers(20, 236, (count, 4, 4, 3)).repeat(8, axis=1).repeat(8, axis=2)
    noise = random.integers(-20, 20, areas.shape)
    return np.asarray(areas + noise).astype(np.uint8)
