"""Graphs as exporters write them for a batch of one, in ONNX's own text; weights drawn at random.

The nodes and constants are those of torch 2.13 (both exporters), torchvision 0.28 and timm 1.0 for
the architecture that a name says, with fewer layers, channels and pixels.
"""

from __future__ import annotations

import re

import numpy as np
import onnx.parser
from onnx import ModelProto, numpy_helper

__all__ = ["EXPORTS", "export", "for_batches_of", "open_batch", "parse"]


def parse(text: str, weights: dict[str, tuple[int, ...]], *, opset: int = 17) -> ModelProto:
    """Read a graph's text, and give it weights from N(0, 0.3) of the shapes named."""
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": {opset}]>\n{text}')
    rng = np.random.default_rng(0)
    for name, shape in weights.items():
        values = (0.3 * rng.standard_normal(shape)).astype(np.float32)
        model.graph.initializer.append(numpy_helper.from_array(values, name))
    for index, node in enumerate(model.graph.node):
        node.name = f"/{node.op_type}_{index}"
    onnx.checker.check_model(model, full_check=True)
    return model


def export(name: str) -> ModelProto:
    """The model of `EXPORTS` that has this name; images of 8 x 8, five classes."""
    return parse(*EXPORTS[name])


HEAD = {"fc": (5, 8), "fc_bias": (5,)}

EXPORTS: dict[str, tuple[str, dict[str, tuple[int, ...]]]] = {
    "a linear classifier, Reshape [1, -1]": (
        """mlp (float[1, 3, 8, 8] x) => (float[1, 5] logits) {
            target = Constant <value = int64[2] {1, -1}> ()
            flat = Reshape (x, target)
            logits = Gemm <transB = 1> (flat, fc, fc_bias)
        }""",
        {"fc": (5, 192), "fc_bias": (5,)},
    ),
    "ResNet of the newer exporter": (
        """resnet (float[1, 3, 8, 8] x) => (float[1, 5] logits) {
            map = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (x, conv)
            axes = Constant <value = int64[2] {-1, -2}> ()
            mean = ReduceMean <axes = [-1, -2], keepdims = 1> (map)
            target = Constant <value = int64[2] {1, 8}> ()
            view = Reshape <allowzero = 1> (mean, target)
            logits = Gemm <transB = 1> (view, fc, fc_bias)
        }""",
        {"conv": (8, 3, 3, 3), **HEAD},
    ),
    "ShuffleNet, channels in groups": (
        """shuffle (float[1, 3, 8, 8] x) => (float[1, 5] logits) {
            map = Conv <kernel_shape = [3, 3], strides = [2, 2]> (x, conv)
            groups = Constant <value = int64[5] {1, 2, 4, 3, 3}> ()
            split = Reshape (map, groups)
            mixed = Transpose <perm = [0, 2, 1, 3, 4]> (split)
            whole = Constant <value = int64[4] {1, 8, 3, 3}> ()
            joined = Reshape (mixed, whole)
            weighed = Mul (joined, position)
            pooled = ReduceMean <axes = [2, 3], keepdims = 0> (weighed)
            logits = Gemm <transB = 1> (pooled, fc, fc_bias)
        }""",
        {"conv": (8, 3, 3, 3), "position": (8, 3, 3), **HEAD},
    ),
    "ViT of the older exporter, class token by Expand": (
        """vit (float[1, 3, 8, 8] x) => (float[1, 5] logits) {
            map = Conv <kernel_shape = [4, 4], strides = [4, 4]> (x, conv)
            patches_shape = Constant <value = int64[3] {1, 8, 4}> ()
            flat = Reshape <allowzero = 0> (map, patches_shape)
            patches = Transpose <perm = [0, 2, 1]> (flat)
            wanted = Constant <value = int64[3] {1, -1, -1}> ()
            rank = Constant <value = int64[1] {3}> ()
            ones = ConstantOfShape <value = int64[1] {1}> (rank)
            minus = Constant <value_int = -1> ()
            unknown = Mul (ones, minus)
            same = Equal (wanted, unknown)
            shape = Where (same, ones, wanted)
            token = Expand (cls, shape)
            tokens = Concat <axis = 1> (token, patches)
            placed = Add (tokens, pos)
            qkv = MatMul (placed, in_weight)
            heads = Constant <value = int64[5] {1, 5, 3, 2, 4}> ()
            split = Reshape (qkv, heads)
            by_kind = Transpose <perm = [2, 0, 3, 1, 4]> (split)
            i0 = Constant <value_int = 0> ()
            i1 = Constant <value_int = 1> ()
            i2 = Constant <value_int = 2> ()
            q = Gather <axis = 0> (by_kind, i0)
            k = Gather <axis = 0> (by_kind, i1)
            v = Gather <axis = 0> (by_kind, i2)
            kt = Transpose <perm = [0, 1, 3, 2]> (k)
            scores = MatMul (q, kt)
            attention = Softmax <axis = -1> (scores)
            mixed = MatMul (attention, v)
            by_token = Transpose <perm = [0, 2, 1, 3]> (mixed)
            joined = Constant <value = int64[3] {1, 5, 8}> ()
            out = Reshape (by_token, joined)
            sum = Add (placed, out)
            first = Gather <axis = 1> (sum, i0)
            logits = Gemm <transB = 1> (first, fc, fc_bias)
        }""",
        {"conv": (8, 3, 4, 4), "cls": (1, 1, 8), "pos": (1, 5, 8), "in_weight": (8, 24), **HEAD},
    ),
    "torchvision ViT of the newer exporter, tokens before batch": (
        """vit (float[1, 3, 8, 8] x) => (float[1, 5] logits) {
            map = Conv <kernel_shape = [4, 4], strides = [4, 4]> (x, conv)
            s0 = Constant <value = int64[3] {1, 8, 4}> ()
            flat = Reshape <allowzero = 1> (map, s0)
            patches = Transpose <perm = [0, 2, 1]> (flat)
            tokens = Concat <axis = 1> (cls, patches)
            tokens_first = Transpose <perm = [1, 0, 2]> (tokens)
            qkv = MatMul (tokens_first, in_weight)
            s1 = Constant <value = int64[4] {5, 1, 3, 8}> ()
            split = Reshape <allowzero = 1> (qkv, s1)
            a0 = Constant <value = int64[1] {0}> ()
            wide = Unsqueeze (split, a0)
            by_kind = Transpose <perm = [3, 1, 2, 0, 4]> (wide)
            a1 = Constant <value = int64[1] {-2}> ()
            kinds = Squeeze (by_kind, a1)
            i0 = Constant <value_int = 0> ()
            i1 = Constant <value_int = 1> ()
            i2 = Constant <value_int = 2> ()
            q = Gather <axis = 0> (kinds, i0)
            k = Gather <axis = 0> (kinds, i1)
            v = Gather <axis = 0> (kinds, i2)
            s2 = Constant <value = int64[3] {5, 2, 4}> ()
            qh = Reshape <allowzero = 1> (q, s2)
            qt = Transpose <perm = [1, 0, 2]> (qh)
            kh = Reshape <allowzero = 1> (k, s2)
            kt = Transpose <perm = [1, 2, 0]> (kh)
            vh = Reshape <allowzero = 1> (v, s2)
            vt = Transpose <perm = [1, 0, 2]> (vh)
            s3 = Constant <value = int64[4] {1, 2, 5, 4}> ()
            q4 = Reshape <allowzero = 1> (qt, s3)
            v4 = Reshape <allowzero = 1> (vt, s3)
            s4 = Constant <value = int64[4] {1, 2, 4, 5}> ()
            k4 = Reshape <allowzero = 0> (kt, s4)
            scores = MatMul (q4, k4)
            attention = Softmax <axis = -1> (scores)
            mixed = MatMul (attention, v4)
            by_token = Transpose <perm = [2, 0, 1, 3]> (mixed)
            s5 = Constant <value = int64[2] {5, 8}> ()
            rows = Reshape <allowzero = 1> (by_token, s5)
            projected = Gemm <transB = 1> (rows, out_weight)
            s6 = Constant <value = int64[3] {5, 1, 8}> ()
            back = Reshape <allowzero = 1> (projected, s6)
            out = Transpose <perm = [1, 0, 2]> (back)
            first = Gather <axis = 1> (out, i0)
            logits = Gemm <transB = 1> (first, fc, fc_bias)
        }""",
        {
            "conv": (8, 3, 4, 4),
            "cls": (1, 1, 8),
            "in_weight": (8, 24),
            "out_weight": (8, 8),
            **HEAD,
        },
    ),
    "Swin, windows in the place of the batch, shapes asked for": (
        """swin (float[1, 3, 8, 8] x) => (float[1, 5] logits) {
            map = Conv <kernel_shape = [2, 2], strides = [2, 2]> (x, conv)
            rows = Transpose <perm = [0, 2, 3, 1]> (map)
            sizes = Shape (rows)
            one = Constant <value = int64[1] {1}> ()
            two = Constant <value = int64[1] {2}> ()
            i1 = Constant <value = int64[1] {1}> ()
            height = Gather <axis = 0> (sizes, i1)
            half = Div (height, two)
            width = Constant <value = int64[1] {8}> ()
            grid = Concat <axis = 0> (one, half, two, half, two, width)
            tiles = Reshape (rows, grid)
            sorted = Transpose <perm = [0, 1, 3, 2, 4, 5]> (tiles)
            windows_shape = Constant <value = int64[3] {4, 4, 8}> ()
            windows = Reshape (sorted, windows_shape)
            kt = Transpose <perm = [0, 2, 1]> (windows)
            scores = MatMul (windows, kt)
            masked_shape = Constant <value = int64[4] {1, 4, 4, 4}> ()
            apart = Reshape (scores, masked_shape)
            masked = Add (apart, mask)
            together = Constant <value = int64[3] {4, 4, 4}> ()
            flat = Reshape (masked, together)
            attention = Softmax <axis = -1> (flat)
            mixed = MatMul (attention, windows)
            image_shape = Constant <value = int64[4] {1, 4, 4, 8}> ()
            image = Reshape (mixed, image_shape)
            pooled = ReduceMean <axes = [1, 2], keepdims = 0> (image)
            logits = Gemm <transB = 1> (pooled, fc, fc_bias)
        }""",
        {"conv": (8, 3, 2, 2), "mask": (1, 4, 4, 4), **HEAD},
    ),
    "ConvNeXt of the newer exporter, as_strided": (
        """convnext (float[1, 3, 8, 8] x) => (float[1, 5] logits) {
            map = Conv <kernel_shape = [3, 3]> (x, conv)
            mean = ReduceMean <axes = [-1, -2], keepdims = 1> (map)
            all = Constant <value = int64[1] {-1}> ()
            values = Reshape (mean, all)
            order = Constant <value = int64[1, 8, 1, 1] {0, 1, 2, 3, 4, 5, 6, 7}> ()
            strided = Gather <axis = 0> (values, order)
            flat = Flatten <axis = 1> (strided)
            logits = Gemm <transB = 1> (flat, fc, fc_bias)
        }""",
        {"conv": (8, 3, 3, 3), **HEAD},
    ),
    "a batch squeezed away and put back": (
        """squeezing (float[1, 3, 8, 8] x) => (float[1, 5] logits) {
            axes = Constant <value = int64[1] {0}> ()
            pooled = GlobalAveragePool (x)
            vector = Squeeze (pooled)
            row = Unsqueeze (vector, axes)
            logits = Gemm <transB = 1> (row, fc, fc_bias)
        }""",
        {"fc": (5, 3), "fc_bias": (5,)},
    ),
    "a map resized to given sizes": (
        """hrnet (float[1, 3, 8, 8] x) => (float[1, 5] logits) {
            map = Conv <kernel_shape = [4, 4], strides = [4, 4]> (x, conv)
            sizes = Constant <value = int64[4] {1, 8, 4, 4}> ()
            large = Resize <mode = "nearest", coordinate_transformation_mode = "asymmetric",
                            nearest_mode = "floor"> (map, , , sizes)
            weighed = Mul (large, position)
            pooled = ReduceMean <axes = [2, 3], keepdims = 0> (weighed)
            logits = Gemm <transB = 1> (pooled, fc, fc_bias)
        }""",
        {"conv": (8, 3, 4, 4), "position": (1, 8, 4, 4), **HEAD},
    ),
    "attention by Einsum": (
        """coat (float[1, 3, 8, 8] x) => (float[1, 5] logits) {
            map = Conv <kernel_shape = [4, 4], strides = [4, 4]> (x, conv)
            heads = Constant <value = int64[4] {1, 2, 4, 4}> ()
            split = Reshape (map, heads)
            scores = Einsum <equation = "b h d i, b h d j -> b h i j"> (split, split)
            attention = Softmax <axis = -1> (scores)
            mixed = Einsum <equation = "bhij,bhdj->bhdi"> (attention, split)
            joined = Constant <value = int64[3] {1, 8, 4}> ()
            out = Reshape (mixed, joined)
            best = ReduceMax <axes = [2], keepdims = 0> (out)
            logits = Gemm <transB = 1> (best, fc, fc_bias)
        }""",
        {"conv": (8, 3, 4, 4), **HEAD},
    ),
}


def for_batches_of(count: int, name: str) -> ModelProto:
    """The same exported for a larger batch: every leading 1 of a constant becomes `count`."""
    text, weights = EXPORTS[name]
    text = re.sub(r"\[1, 3, 8, 8\]", f"[{count}, 3, 8, 8]", text)
    text = re.sub(r"\[1, 5\]", f"[{count}, 5]", text)
    text = re.sub(r"\{1, (?=-?\d+, )", f"{{{count}, ", text)
    text = re.sub(r"\{1, (-?\d+)\}", rf"{{{count}, \1}}", text)
    model = parse(text, weights)
    for tensor in model.graph.initializer:
        if tensor.name == "cls":
            rows = np.repeat(numpy_helper.to_array(tensor), count, axis=0)
            tensor.CopyFrom(numpy_helper.from_array(rows, tensor.name))
    onnx.checker.check_model(model, full_check=True)
    return model


def open_batch(model: ModelProto) -> ModelProto:
    """The same, said to take any batch in its signature alone, as `dynamic_axes` may do."""
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    return model
