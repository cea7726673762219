"""The inspector's JSON of three TensorRT versions: a real one of 8.6; 10 and 11 as documented."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from engines.report.layers import parse_layers
from engines.report.shares import IDLE, REFORMAT, group_of, shares_of
from engines.report.tensors import dtype_in, parse_tensor

GOLDEN = Path(__file__).parent.parent / "golden/engine_report/resnet50-fp16-8.6.1.layers.json"

TEN = {
    "Layers": [
        {
            "Name": "Reformatting CopyNode for Input Tensor 0 to conv1 + relu1",
            "LayerType": "Reformat",
            "Inputs": [
                {"Name": "input", "Dimensions": [1, 3, 224, 224], "Format/Datatype": "Half"}
            ],
            "Outputs": [
                {"Name": "copy", "Dimensions": [1, 3, 224, 224], "Format/Datatype": "Half"}
            ],
            "ParameterType": "Reformat",
            "Origin": "REFORMAT",
            "TacticValue": "0x00000000000003e8",
            "StreamId": 0,
            "Metadata": "",
        },
        {
            "Name": "/classifier/classifier_6/Gemm_myl9_4",
            "LayerType": "gemm",
            "Inputs": [
                {"Name": "output'.1_4", "Dimensions": [1, 4096], "Format/Datatype": "Half"},
                {"Name": "__mye574", "Dimensions": [1], "Format/Datatype": "Float"},
            ],
            "Outputs": [{"Name": "output", "Dimensions": [1, 1000], "Format/Datatype": "Half"}],
            "TacticName": "sm50_xmma_cublas_gemvx_f16f16_f32_f32_tn_n_int32_unit_n",
            "StreamId": 0,
            "Metadata": "[ONNX Layer: /classifier/classifier.6/Gemm | Local Function: head]",
        },
        {
            "Name": "__myl_MulSum_myl9_1",
            "LayerType": "kgen",
            "Inputs": [
                {"Name": "shape", "Dimensions": [2], "Format/Datatype": "Int64"},
                {"Name": "x", "Dimensions": [1, 8], "Format/Datatype": "Float"},
            ],
            "Outputs": [],
            "Metadata": "[ONNX Layer: mul]\x1f[ONNX Layer: reduce[0]]",
        },
        {"Name": "wait", "LayerType": "wait", "Inputs": [], "Outputs": [], "Metadata": ""},
    ],
    "Bindings": ["input", "output"],
}

ELEVEN = {
    "Layers": [
        {
            "Name": "conv1",
            "LayerType": "CaskConvolution",
            "Inputs": [
                {
                    "Name": "x",
                    "Dimensions": [8, 64, 56, 56],
                    "Location": "Device",
                    "Format": "Thirty-two wide channel vectorized row major Int8 format (kCHW32)",
                    "Datatype": "Int8",
                }
            ],
            "Outputs": [{"Name": "y", "Dimensions": [8, 64, 56, 56], "DataType": "Half"}],
            "Weights": {"Type": "Int8", "Count": 36864},
            "Bias": {"Type": "Float", "Count": 64},
            "TacticName": "sm80_xmma_fprop_implicit_gemm_interleaved_i8i8_i8i32_f32_nchw_vect_c_32",
            "TacticValue": "0xef01fb6e433afa50",
            "Metadata": "[ONNX Layer: conv1]\x1e[ONNX Layer: relu1]",
        }
    ],
    "I/O Tensors": [{"Name": "x", "IOMode": "Input", "DataType": "Int8", "Dimensions": [8]}],
}


def test_the_real_engine_of_8_6_is_read_control_characters_and_all():
    text = GOLDEN.read_text()
    with pytest.raises(json.JSONDecodeError, match="control character"):
        json.loads(text)
    layers = parse_layers(text)
    assert len(layers) == 23
    assert Counter(map(group_of, layers)) == {
        "fp16": 10,
        "not told": 6,
        "no kernel": 5,
        "reformat": 2,
    }
    conv = next(layer for layer in layers if layer.name == "conv1 + conv1.relu")
    assert (conv.kind, conv.precision, conv.onnx) == (
        "CaskConvolution",
        "fp16",
        ("conv1", "conv1.relu"),
    )
    assert conv.tactic.startswith("sm90_xmma_fprop_image_first_layer_f16f16_f32_f16_nhwc")
    assert conv.tactic_id == "0xc4e457eb6dc4cc67"
    assert (conv.outputs[0].name, conv.outputs[0].shape) == ("conv1.relu", (-1, 64, 112, 112))
    assert (conv.outputs[0].dtype, conv.outputs[0].format) == (None, "")  # dynamic shapes
    scale = next(layer for layer in layers if layer.kind == "Scale")
    assert scale.precision == "fp16"  # from its factors
    cast = next(layer for layer in layers if layer.name == "graph_input_cast0")
    assert (cast.reformat, cast.origin, cast.precision) == (True, "CAST", None)


def test_layers_of_10():
    reformat, gemm, kgen, wait = parse_layers(json.dumps(TEN))
    assert (reformat.reformat, reformat.origin, reformat.onnx) == (True, "REFORMAT", ())
    assert (reformat.inputs[0].dtype, reformat.inputs[0].format) == ("fp16", "")
    assert (gemm.precision, gemm.onnx) == ("fp16", ("/classifier/classifier.6/Gemm",))
    assert (kgen.precision, kgen.onnx) == ("fp32", ("mul", "reduce[0]"))
    assert group_of(wait) == IDLE


def test_layers_of_11_have_format_and_datatype_apart():
    [conv] = parse_layers(json.dumps(ELEVEN))
    assert (conv.precision, conv.onnx) == ("int8", ("conv1", "relu1"))
    assert (conv.inputs[0].dtype, conv.inputs[0].format) == ("int8", "CHW32")
    assert (conv.outputs[0].dtype, conv.outputs[0].format) == ("fp16", "")


@pytest.mark.parametrize(
    ("words", "dtype", "layout"),
    [
        ("Row major linear FP32", "fp32", "LINEAR"),
        ("Row major linear FP16 format", "fp16", "LINEAR"),
        ("Row major Int8 format", "int8", "LINEAR"),
        ("Thirty-two wide channel vectorized row major Int8 format", "int8", "CHW32"),
        ("Four wide channel vectorized row major Int8 format", "int8", "CHW4"),
        ("Channel major FP16 format where channel % 8 == 0", "fp16", "HWC8"),
        (
            "Channel major FP16 format where channel == 4 and column stride % 32 == 0",
            "fp16",
            "HWC4",
        ),
        ("Channel major FP32 format", "fp32", "HWC"),
        ("BFloat16", "bf16", ""),
        ("UInt8", "uint8", ""),
        ("N/A due to dynamic shapes", None, ""),
    ],
)
def test_descriptions_of_tensors(words, dtype, layout):
    tensor = parse_tensor({"Name": "t", "Dimensions": [1], "Format/Datatype": words})
    assert (tensor.dtype, tensor.format) == (dtype, layout)


@pytest.mark.parametrize(
    ("tactic", "precision"),
    [
        ("sm80_xmma_fprop_implicit_gemm_indexed_f32f32_tf32f32_f32_nhwckrsc_nhwc", "tf32"),
        ("sm80_xmma_fprop_implicit_gemm_indexed_f32f32_f32f32_f32_nchwkcrs_nchw", "fp32"),
        ("ampere_scudnn_128x64_relu_xregs_large_nn_v1", "fp32"),
        ("turing_h1688cudnn_256x128_ldg8_relu_exp_medium_nhwc_tn_v1", "fp16"),
        ("sm80_xmma_fprop_implicit_gemm_interleaved_i8i8_i8i32_f32_nchw_vect_c_32", "int8"),
        ("sm90_xmma_gemm_bf16bf16_bf16f32_f32_tn_n", "bf16"),
        ("sm50_xmma_pooling_fw_4d_FP32FP32NCHW_Average_FastDiv", "fp32"),
        ("sm50_xmma_pooling_fw_4d_FP16FP32NHWC_Max_CAlign8", "fp16"),
    ],
)
def test_a_kernel_says_what_it_multiplies(tactic, precision):
    raw = {"Layers": [{"Name": "l", "LayerType": "gemm", "TacticName": tactic}]}
    assert parse_layers(json.dumps(raw))[0].precision == precision


def test_names_alone_are_layers_too():
    [layer] = parse_layers(json.dumps({"Layers": ["conv1 + relu1"], "Bindings": []}))
    assert (layer.name, layer.kind, group_of(layer)) == ("conv1 + relu1", "", "not told")


@pytest.mark.parametrize("text", ["", "[]", '{"Layers": 1}', '{"Layers": [{}]}', '{"Layers": [1]}'])
def test_what_is_no_list_of_layers_is_refused(text):
    with pytest.raises(ValueError, match=r"."):
        parse_layers(text)


def test_shares_are_of_the_time_where_it_is_known_and_else_of_the_kernels():
    layers = parse_layers(json.dumps(TEN))
    counted = {share.group: share for share in shares_of([(layer, None) for layer in layers])}
    assert counted["fp16"].share == pytest.approx(1 / 3)
    assert counted[IDLE].share == 0
    assert counted["fp16"].milliseconds is None
    timed = shares_of(list(zip(layers, (1.0, 2.0, 1.0, 0.0), strict=True)))
    shares = {share.group: (share.milliseconds, share.share) for share in timed}
    assert shares == {"fp16": (2, 0.5), "fp32": (1, 0.25), REFORMAT: (1, 0.25), IDLE: (0, 0)}


def test_no_dtype_is_made_up():
    assert dtype_in("Unknown format") is None


@pytest.mark.parametrize(
    "layer",
    [
        {"Name": "a", "Inputs": 1.5},
        {"Name": "a", "Inputs": [None]},
        {"Name": "a", "Outputs": [{"Name": "b", "Dimensions": [None]}]},
        {"Name": "a", "Outputs": [{"Name": "b", "Dimensions": 3}]},
        {"Name": "a", "Outputs": [{}]},
        {},
        None,
    ],
)
def test_layers_of_another_form_are_refused_in_words_and_break_nothing(layer):
    with pytest.raises(ValueError, match=r"a layer|a tensor"):
        parse_layers(json.dumps({"Layers": [layer]}))
