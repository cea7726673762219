"""Models that compute the same in fp32 and break in a reduced precision.

ReLU and max pooling scale with their input: multiply an output channel of a convolution by s > 0,
divide the weights that read it by s, and the network computes what it did. So magnitudes can be
moved about freely, which is the other way round what weight equalization does to mend networks
(Nagel et al., Data-Free Quantization Through Weight Equalization and Bias Correction, ICCV 2019).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from shutil import copytree

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, numpy_helper

__all__ = ["break_fp16", "break_int8", "broken_folder"]

FP16_MAX = 65504.0


def break_int8(model: ModelProto) -> None:
    """Spread the channels of an activation over five decades, which no one scale can serve.

    Whatever range the calibration chooses, it clips some channels or rounds others to nothing;
    fp16, whose steps are relative, does not mind.
    """
    second = _convolutions(model)[1]  # the first one may stay out of int8
    channels = len(_read(model, second.input[2]))
    _scale(model, 1, np.logspace(-3, 2, channels))


def break_fp16(model: ModelProto) -> None:
    """Let activations between all convolutions exceed 65,504, while all weights stay below.

    Between all of them: a builder that is free to run some layers in fp32 finds no way around.
    """
    for number, node in enumerate(_convolutions(model)[:-1]):
        weight, bias = (np.abs(_read(model, name)) for name in node.input[1:])
        largest = np.maximum(weight.reshape(len(weight), -1).max(axis=1), bias)
        _scale(model, number, 0.9 * FP16_MAX / largest)


def broken_folder(folder: Path, target: Path, broken: Callable[[ModelProto], None]) -> Path:
    """Copy a model's folder and break the copy; returns it."""
    copytree(folder, target)
    model = onnx.load_model(target / "model.onnx")
    broken(model)
    onnx.checker.check_model(model, full_check=True)
    onnx.save_model(model, target / "model.onnx")
    return target


def _convolutions(model: ModelProto) -> list[NodeProto]:
    return [node for node in model.graph.node if node.op_type == "Conv"]


def _read(model: ModelProto, name: str) -> NDArray[np.float32]:
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == name)
    return numpy_helper.to_array(tensor).astype(np.float32)


def _scale(model: ModelProto, number: int, factors: NDArray[np.floating]) -> None:
    """Multiply the output channels of one convolution, and make good for it in the next."""
    this, following = _convolutions(model)[number : number + 2]
    changes = {
        this.input[1]: factors[:, None, None, None],
        this.input[2]: factors,
        following.input[1]: 1 / factors[None, :, None, None],
    }
    for tensor in model.graph.initializer:
        if tensor.name in changes:
            array = (numpy_helper.to_array(tensor) * changes[tensor.name]).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
