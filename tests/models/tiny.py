"""Tiny ONNX classifiers with known weights, in the many shapes that exporters give them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from engines.embedding import find_embedding, measure_embedding
from engines.graph import inspect
from engines.model import Model
from engines.preprocess import HostTransform, PreprocessSpec
from engines.wrap import Activation, wrap

ELEMENT_TYPES = {
    "float32": TensorProto.FLOAT,
    "float16": TensorProto.FLOAT16,
    "uint8": TensorProto.UINT8,
}
IR_VERSIONS = {11: 6, 13: 7, 17: 8, 21: 10, 23: 11}
"""Opset to the IR version of the ONNX release that brought it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tiny:
    """How a tiny classifier is exported; the weights depend on seed, classes and dtype alone."""

    size: tuple[int, int] = (4, 6)
    classes: int = 7
    layout: str = "nchw"
    dtype: str = "float32"
    batch: str | int = "batch"
    fixed_size: bool = True
    final: str | None = None
    trailing: bool = False
    opset: int = 17
    input_name: str = "x"
    output_name: str = "logits"
    seed: int = 0
    bias: tuple[float, ...] | None = None

    @property
    def weights(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """float32 [3, classes] and [classes]; with a bias of one's own, all weights are zero."""
        rng = np.random.default_rng(self.seed)
        weight = rng.standard_normal((3, self.classes)).astype(np.float32)
        weight /= 255 if self.dtype == "uint8" else 1
        if self.bias is not None:
            return np.zeros_like(weight), np.array(self.bias, np.float32)
        return weight, rng.standard_normal(self.classes).astype(np.float32)

    def logits(self, inputs: NDArray[np.floating]) -> NDArray[np.float64]:
        """The reference: what the model gives for normalised NCHW input, in float64.

        A pixel weighs as much as its row and column count, so that no two crops look the same.
        """
        weight, bias = self.weights
        pixels = np.asarray(inputs, np.float64) * position_weights(self.size)
        return pixels.sum(axis=(2, 3)) @ weight.astype(np.float64) + bias

    def proto(self) -> ModelProto:
        """The ONNX model."""
        return build(self)


def position_weights(size: tuple[int, int]) -> NDArray[np.float32]:
    """float32 [height, width], averaging 1 / (height * width)."""
    height, width = size
    weights = 1 + np.arange(height)[:, None] + 0.5 * np.arange(width)
    return (weights / weights.sum()).astype(np.float32)


def build(tiny: Tiny) -> ModelProto:
    """Cast ▸ Transpose ▸ weigh pixels ▸ sum ▸ Gemm ▸ (Reshape) ▸ (final) ▸ (Cast)."""
    compute = np.float16 if tiny.dtype == "float16" else np.float32
    weight, bias = tiny.weights
    constants = {
        "position": position_weights(tiny.size).astype(compute),
        "axes": np.array([2, 3], np.int64),
        "weight": weight.astype(compute),
        "bias": bias.astype(compute),
    }
    nodes: list[NodeProto] = []
    end = tiny.input_name

    def add(op_type: str, *inputs: str, output: str | None = None, **attributes: object) -> None:
        nonlocal end
        result = output or f"t{len(nodes)}"
        nodes.append(helper.make_node(op_type, [end, *inputs], [result], **attributes))
        end = result

    if tiny.dtype == "uint8":
        add("Cast", to=TensorProto.FLOAT)
    if tiny.layout == "nhwc":
        add("Transpose", perm=[0, 3, 1, 2])
    if tiny.fixed_size:
        add("Mul", "position")
        if tiny.opset >= 13:
            add("ReduceSum", "axes", keepdims=0)
        else:
            add("ReduceSum", axes=[2, 3], keepdims=0)
    else:
        add("GlobalAveragePool")
        add("Flatten")
    add("Gemm", "weight", "bias")
    if tiny.trailing:
        constants["shape"] = np.array([0, tiny.classes, 1, 1], np.int64)
        add("Reshape", "shape")
    if tiny.final is not None:
        add(tiny.final, **({} if tiny.final == "Sigmoid" else {"axis": 1}))
    nodes[-1].output[0] = tiny.output_name
    return finish(tiny, nodes, constants)


def finish(
    tiny: Tiny, nodes: list[NodeProto], constants: dict[str, NDArray[np.generic]]
) -> ModelProto:
    """Put nodes into a model of the declared input and output."""
    height, width = tiny.size if tiny.fixed_size else ("height", "width")
    image = [3, height, width] if tiny.layout == "nchw" else [height, width, 3]
    element = ELEMENT_TYPES[tiny.dtype]
    out_element = TensorProto.FLOAT if tiny.dtype == "uint8" else element
    used = {name for node in nodes for name in node.input}
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(tiny.input_name, element, [tiny.batch, *image])],
        [
            helper.make_tensor_value_info(
                tiny.output_name,
                out_element,
                [tiny.batch, tiny.classes, *([1, 1] if tiny.trailing else [])],
            )
        ],
        [numpy_helper.from_array(v, name) for name, v in constants.items() if name in used],
    )
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", tiny.opset)],
        ir_version=IR_VERSIONS[tiny.opset],
    )
    onnx.checker.check_model(model)
    return model


def spec_for(
    size: tuple[int, int], *, channel_order: str = "rgb", plain: bool = False
) -> PreprocessSpec:
    """A specification with another mean and std for every channel, or none at all."""
    height, width = size
    host = HostTransform(
        height=height,
        width=width,
        resize="exact",
        resize_height=height,
        resize_width=width,
        interpolation="bilinear",
    )
    if plain:
        return PreprocessSpec(host=host, scale=1.0, channel_order=channel_order)
    return PreprocessSpec(
        host=host,
        scale=1 / 255,
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        channel_order=channel_order,
    )


def normalise(images: NDArray[np.uint8], spec: PreprocessSpec) -> NDArray[np.float64]:
    """float64 NCHW as the specification's formula says, written independently of the graph."""
    values = images.astype(np.float64)
    if spec.channel_order == "bgr":
        values = values[..., ::-1]
    values = (values * spec.scale + spec.offset - np.array(spec.mean)) / np.array(spec.std)
    return values.transpose(0, 3, 1, 2)


def loaded(
    tiny: Tiny,
    *,
    activation: Activation = "softmax",
    top_k: int = 5,
    spec: PreprocessSpec | None = None,
    embedding: bool = False,
) -> Model:
    """A model as `load_model` would return it, without files."""
    proto = tiny.proto()
    spec = spec or spec_for(tiny.size)
    info = inspect(proto)
    tensor = find_embedding(proto, info.output_name) if embedding else None
    wrap(
        proto,
        info,
        spec,
        classes=tiny.classes,
        activation=activation,
        top_k=top_k,
        embedding=tensor,
    )
    found = None
    if tensor is not None:
        height, width = tiny.size
        found = measure_embedding(proto, tensor, batch=info.batch, height=height, width=width)
    return Model(
        name="tiny",
        model_id="tiny@000000000000",
        digest="0" * 64,
        files={"tiny.onnx": "0" * 64},
        labels=tuple(f"class {index}" for index in range(tiny.classes)),
        labels_digest="0" * 64,
        spec=spec,
        activation=activation,
        output_name=info.output_name,
        top_k=top_k,
        embedding=found,
        sources={},
        graph=proto.SerializeToString(),
    )
