"""ResNet-18 and ResNet-50 as ONNX graphs with random weights, made without PyTorch.

The architecture is torchvision's (version 1.5: a bottleneck strides in its 3x3 convolution), with
the batch norms folded into the convolutions, in opset 17.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

__all__ = ["BLOCKS", "FEATURES", "Architecture", "build_resnet"]

Architecture = Literal["resnet18", "resnet50"]

BLOCKS: dict[Architecture, tuple[int, ...]] = {"resnet18": (2, 2, 2, 2), "resnet50": (3, 4, 6, 3)}
STAGE_CHANNELS = (64, 128, 256, 512)
BOTTLENECK_EXPANSION = 4
FEATURES = "features"  # the tensor before the last layer, float32 [batch, 512 or 2048]

# He's initialisation keeps a plain network's activations level, but every residual sum would add as
# much again. With branches scaled by this, features of photographs measure 1.4 (ResNet-18) and 2.9
# (ResNet-50) in the root of their mean square, far from the limits of fp16.
BRANCH_SCALE = 0.3
BIAS_SIGMA = 0.05  # what folding a batch norm leaves: small, but not zero


class _Graph:
    """Collects the nodes and random weights of a network, first to last."""

    def __init__(self, seed: int) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self._rng = np.random.default_rng(seed)

    def add(self, op: str, name: str, inputs: Sequence[str], **attributes: object) -> str:
        """Append a node whose only output bears its name."""
        node = helper.make_node(op, inputs, [name], name)
        node.attribute.extend(helper.make_attribute(*attribute) for attribute in attributes.items())
        self.nodes.append(node)
        return name

    def weight(self, name: str, shape: Sequence[int], sigma: float) -> str:
        """Append a normally distributed weight."""
        values = self._rng.standard_normal(shape, np.float32) * np.float32(sigma)
        self.weights.append(numpy_helper.from_array(values, name))
        return name

    def conv(
        self,
        name: str,
        source: str,
        channels: tuple[int, int],
        *,
        kernel: int,
        stride: int = 1,
        scale: float = 1.0,
    ) -> str:
        """Append a convolution with bias; channels are (in, out), `scale` is on He's weights."""
        channels_in, channels_out = channels
        fan_in = channels_in * kernel * kernel
        shape = (channels_out, channels_in, kernel, kernel)
        inputs = [
            source,
            self.weight(f"{name}.weight", shape, scale * (2 / fan_in) ** 0.5),
            self.weight(f"{name}.bias", (channels_out,), scale * BIAS_SIGMA),
        ]
        return self.add(
            "Conv",
            name,
            inputs,
            kernel_shape=[kernel] * 2,
            pads=[kernel // 2] * 4,
            strides=[stride] * 2,
        )

    def relu(self, source: str) -> str:
        """Append a ReLU named after what it follows."""
        return self.add("Relu", f"{source}.relu", [source])


def build_resnet(
    architecture: Architecture,
    *,
    seed: int = 0,
    size: int | None = 224,
    classes: int = 1000,
) -> onnx.ModelProto:
    """Build a ResNet.

    Args:
        architecture: 'resnet18' or 'resnet50'.
        seed: Decides the weights.
        size: Height and width in pixels; None leaves both free.
        classes: Number of logits.

    Returns:
        A model from `pixel_values` float32 [batch, 3, height, width], ImageNet-normalized RGB, to
        `logits` float32 [batch, classes], of about 1 in size.
    """
    graph = _Graph(seed)
    features, channels = _backbone(graph, architecture)
    weight = graph.weight("fc.weight", (classes, channels), channels**-0.5)
    bias = graph.weight("fc.bias", (classes,), BIAS_SIGMA)
    graph.nodes.append(
        helper.make_node("Gemm", [features, weight, bias], ["logits"], "fc", transB=1)
    )
    sides = ("height", "width") if size is None else (size, size)
    pixels = helper.make_tensor_value_info("pixel_values", TensorProto.FLOAT, ["batch", 3, *sides])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", classes])
    return helper.make_model(
        helper.make_graph(graph.nodes, architecture, [pixels], [logits], graph.weights),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,  # of opset 17; what TensorRT 8.6's parser was built with
        producer_name="nightshift-benchmarks",
    )


def _backbone(graph: _Graph, architecture: Architecture) -> tuple[str, int]:
    """Append all but the last layer; returns the features' name and their number."""
    add_block = _basic_block if architecture == "resnet18" else _bottleneck
    current = graph.relu(graph.conv("conv1", "pixel_values", (3, 64), kernel=7, stride=2))
    current = graph.add(
        "MaxPool", "maxpool", [current], kernel_shape=[3, 3], pads=[1] * 4, strides=[2, 2]
    )
    channels = 64
    for stage, (width, blocks) in enumerate(
        zip(STAGE_CHANNELS, BLOCKS[architecture], strict=True), start=1
    ):
        for block in range(blocks):
            stride = 2 if stage > 1 and block == 0 else 1
            name = f"layer{stage}.{block}"
            current, channels = add_block(graph, name, current, channels, width, stride)
    pooled = graph.add("GlobalAveragePool", "avgpool", [current])
    return graph.add("Flatten", FEATURES, [pooled], axis=1), channels


def _basic_block(
    graph: _Graph, name: str, source: str, channels: int, width: int, stride: int
) -> tuple[str, int]:
    """Append ResNet-18's block: two 3x3 convolutions."""
    branch = graph.conv(f"{name}.conv1", source, (channels, width), kernel=3, stride=stride)
    branch = graph.conv(
        f"{name}.conv2", graph.relu(branch), (width, width), kernel=3, scale=BRANCH_SCALE
    )
    return _join(graph, name, branch, source, (channels, width), stride)


def _bottleneck(
    graph: _Graph, name: str, source: str, channels: int, width: int, stride: int
) -> tuple[str, int]:
    """Append ResNet-50's block: 1x1, 3x3 with the stride, 1x1 to four times the width."""
    wide = width * BOTTLENECK_EXPANSION
    branch = graph.conv(f"{name}.conv1", source, (channels, width), kernel=1)
    branch = graph.conv(
        f"{name}.conv2", graph.relu(branch), (width, width), kernel=3, stride=stride
    )
    branch = graph.conv(
        f"{name}.conv3", graph.relu(branch), (width, wide), kernel=1, scale=BRANCH_SCALE
    )
    return _join(graph, name, branch, source, (channels, wide), stride)


def _join(
    graph: _Graph, name: str, branch: str, source: str, channels: tuple[int, int], stride: int
) -> tuple[str, int]:
    """Add the branch to the shortcut, which is projected where the shape changes."""
    channels_in, channels_out = channels
    shortcut = source
    if stride != 1 or channels_in != channels_out:
        shortcut = graph.conv(f"{name}.downsample", source, channels, kernel=1, stride=stride)
    return graph.relu(graph.add("Add", f"{name}.add", [branch, shortcut])), channels_out
