"""The forms that classifiers come in, as their exporters write them, each to the last score.

What the exporters write was read off: ONNX Model Zoo (resnet50-v1-7 of MXNet, caffe2's bvlc_*-9,
densenet-9, efficientnet-lite4-11), tf2onnx, Keras, Azure Custom Vision, skl2onnx, torch 2.13,
Optimum, onnxruntime.quantization. Sizes are smaller, names are theirs.
"""

from __future__ import annotations

import json

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import numpy_helper

from engines.errors import ModelError
from engines.model import ModelRequest, load_model
from engines.onnx_runtime import OnnxRuntimeClassifier
from engines.ort_session import Session
from engines.preprocess import PreprocessOverrides

SIDE = 8
IMAGES = np.random.default_rng(3).integers(0, 256, (5, SIDE, SIDE, 3), np.uint8)
RNG = np.random.default_rng(4)

CONV = RNG.standard_normal((6, 3, 3, 3)).astype(np.float32) / 3
FC = RNG.standard_normal((6, 4)).astype(np.float32)
WEIGHTS = {
    "conv": CONV,
    "fc": FC,
    "fc_t": FC.T.copy(),
    "fc_conv": FC.T.reshape(4, 6, 1, 1).copy(),
    "bias": RNG.standard_normal(4).astype(np.float32),
    "aux": RNG.standard_normal((6, 4)).astype(np.float32),
    "conv_h": CONV.astype(np.float16),
    "fc_h": FC.astype(np.float16),
    "scale": np.array(0.02, np.float32),
    "zero": np.array(0, np.int8),
    "conv_q": np.clip(np.rint(CONV / 0.02), -127, 127).astype(np.int8),
}


def model(text, *, opset=17, domains="", ir=8):
    """A model from ONNX's text and those of WEIGHTS that it names."""
    parsed = onnx.parser.parse_model(
        f'<ir_version: {ir}, opset_import: ["": {opset}{domains}]> {text}'
    )
    read = {name for node in parsed.graph.node for name in node.input}
    parsed.graph.initializer.extend(
        numpy_helper.from_array(value, name) for name, value in WEIGHTS.items() if name in read
    )
    return parsed


BODY = """map = Conv <kernel_shape = [3, 3]> (INPUT, conv)
          relu = Relu (map)
          pool = GlobalAveragePool (relu)
          flat = Flatten (pool)"""


def body(name):
    return BODY.replace("INPUT", name)


FORMS = {
    "MXNet ResNet: logits, symbolic batch N, classes by Gemm": (
        model(f"""mxnet (float[N, 3, 8, 8] data) => (float[N, 4] resnetv17_dense0_fwd) {{
            {body("data")}
            resnetv17_dense0_fwd = Gemm <transB = 1> (flat, fc_t, bias) }}"""),
        ("logits", "float32", "rgb"),
    ),
    "caffe2 ResNet: batch of 1, BGR of 0 to 255, softmax inside": (
        model(f"""caffe2 (float[1, 3, 8, 8] gpu_0_data_0) => (float[1, 4] gpu_0_softmax_1) {{
            {body("gpu_0_data_0")}
            shape = Constant <value = int64[2] {{1, 6}}> ()
            rows = Reshape (pool, shape)
            pred = Gemm <transB = 1> (rows, fc_t, bias)
            gpu_0_softmax_1 = Softmax <axis = 1> (pred) }}"""),
        ("softmax", "float32", "bgr"),
    ),
    "DenseNet of the zoo: scores by a convolution, [1, 4, 1, 1]": (
        model(f"""densenet (float[1, 3, 8, 8] data_0) => (float[1, 4, 1, 1] fc6_1) {{
            {body("data_0")}
            fc6_1 = Conv (pool, fc_conv, bias) }}"""),
        ("logits", "float32", "rgb"),
    ),
    "EfficientNet-Lite4: NHWC, names with colons, softmax inside": (
        model(f"""tf (float[1, 8, 8, 3] images_0) => (float[1, 4] Softmax_0) {{
            nchw = Transpose <perm = [0, 3, 1, 2]> (images_0)
            {body("nchw")}
            squeezed = Squeeze (pool)
            shape = Constant <value = int64[2] {{1, 6}}> ()
            rows = Reshape (squeezed, shape)
            logits_0 = MatMul (rows, fc)
            dense = Add (logits_0, bias)
            Softmax_0 = Softmax (dense) }}"""),
        ("softmax", "float32", "rgb"),
    ),
    "tf2onnx: everything symbolic, NHWC by its Transpose": (
        model(f"""tf (float[b, h, w, c] input_1) => (float[b, 4] predictions) {{
            nchw = Transpose <perm = [0, 3, 1, 2]> (input_1)
            {body("nchw")}
            dense = MatMul (flat, fc)
            predictions = Add (dense, bias) }}"""),
        ("logits", "float32", "rgb"),
    ),
    "TF-Slim: [batch, 1, 1, classes]": (
        model(f"""slim (float[b, 8, 8, 3] input_0) => (float[b, 1, 1, 4] logits) {{
            nchw = Transpose <perm = [0, 3, 1, 2]> (input_0)
            {body("nchw")}
            scores = Conv (pool, fc_conv, bias)
            logits = Transpose <perm = [0, 2, 3, 1]> (scores) }}"""),
        ("logits", "float32", "rgb"),
    ),
    "Optimum: all dimensions symbolic": (
        model(f"""optimum (float[batch_size, num_channels, height, width] pixel_values)
                        => (float[batch_size, 4] logits) {{
            {body("pixel_values")}
            logits = Gemm (flat, fc, bias) }}"""),
        ("logits", "float32", "rgb"),
    ),
    "GoogLeNet: auxiliary heads beside logits": (
        model(f"""googlenet (float[1, 3, 8, 8] x)
                        => (float[1, 4] logits, float[1, 4] aux_logits1) {{
            {body("x")}
            logits = Gemm (flat, fc, bias)
            aux_logits1 = Gemm (flat, aux, bias) }}"""),
        ("logits", "float32", "rgb"),
    ),
    "a label beside the probabilities": (
        model(f"""labelled (float[n, 3, 8, 8] data)
                        => (int64[n] classLabel, float[n, 4] probabilities) {{
            {body("data")}
            scores = Gemm (flat, fc, bias)
            probabilities = Softmax (scores)
            classLabel = ArgMax <axis = 1, keepdims = 0> (probabilities) }}"""),
        ("softmax", "float32", "rgb"),
    ),
    "Custom Vision and skl2onnx: a dictionary by ZipMap": (
        model(
            f"""zipped (float[n, 3, 8, 8] data)
                        => (int64[n] label, seq(map(int64, float)) loss) {{
            {body("data")}
            scores = Gemm (flat, fc, bias)
            probabilities = Softmax (scores)
            label = ArgMax <axis = 1, keepdims = 0> (probabilities)
            loss = ai.onnx.ml.ZipMap <classlabels_int64s = [0, 1, 2, 3]> (probabilities) }}""",
            domains=', "ai.onnx.ml": 3',
        ),
        ("softmax", "float32", "rgb"),
    ),
    "a vector for one image": (
        model(f"""squeezed (float[1, 3, 8, 8] x) => (float[4] y) {{
            {body("x")}
            rows = Gemm (flat, fc, bias)
            y = Squeeze (rows) }}"""),
        ("logits", "float32", "rgb"),
    ),
    "multi-label: sigmoid inside": (
        model(f"""tags (float[n, 3, 8, 8] x) => (float[n, 4] y) {{
            {body("x")}
            rows = Gemm (flat, fc, bias)
            y = Sigmoid (rows) }}"""),
        ("sigmoid", "float32", "rgb"),
    ),
    "fp16 throughout": (
        model("""half (float16[n, 3, 8, 8] x) => (float16[n, 4] y) {
            map = Conv <kernel_shape = [3, 3]> (x, conv_h)
            relu = Relu (map)
            pool = GlobalAveragePool (relu)
            flat = Flatten (pool)
            y = MatMul (flat, fc_h) }"""),
        ("logits", "float16", "rgb"),
    ),
    "uint8 in, scaled inside": (
        model(f"""bytes (uint8[n, 8, 8, 3] x) => (float[n, 4] y) {{
            floats = Cast <to = 1> (x)
            scaled = Mul (floats, scale)
            nchw = Transpose <perm = [0, 3, 1, 2]> (scaled)
            {body("nchw")}
            y = Gemm (flat, fc, bias) }}"""),
        ("logits", "uint8", "rgb"),
    ),
    "double scores": (
        model(f"""doubles (float[n, 3, 8, 8] x) => (double[n, 4] y) {{
            {body("x")}
            rows = Gemm (flat, fc, bias)
            y = Cast <to = 11> (rows) }}"""),
        ("logits", "float32", "rgb"),
    ),
    "exported for eight images": (
        model(f"""eight (float[8, 3, 8, 8] x) => (float[8, 4] y) {{
            {body("x")}
            shape = Constant <value = int64[2] {{8, 6}}> ()
            rows = Reshape (pool, shape)
            y = Gemm (rows, fc, bias) }}"""),
        ("logits", "float32", "rgb"),
    ),
    "weights listed as inputs, as before IR version 4": (
        model(
            f"""old (float[n, 3, 8, 8] x, float[6, 3, 3, 3] conv, float[4] bias)
                        => (float[n, 4] y) {{
            {body("x")}
            y = Gemm (flat, fc, bias) }}""",
            ir=3,
            opset=11,
        ),
        ("logits", "float32", "rgb"),
    ),
    "functions of the newer exporter": (
        model(
            f"""local (float[n, 3, 8, 8] x) => (float[n, 4] y) {{
                {body("x")}
                y = pkg.head (flat, fc, bias) }}
            <domain: "pkg", opset_import: ["": 17]>
            head (a, w, b) => (c) {{
                m = MatMul (a, w)
                c = Add (m, b) }}""",
            domains=', "pkg": 1',
        ),
        ("logits", "float32", "rgb"),
    ),
    "operators of ONNX Runtime": (
        model(
            f"""vendor (float[n, 3, 8, 8] x) => (float[n, 4] y) {{
            {body("x")}
            g = com.microsoft.Gelu (flat)
            y = Gemm (g, fc, bias) }}""",
            domains=', "com.microsoft": 1',
        ),
        ("logits", "float32", "rgb"),
    ),
    "quantized by its author, Q/DQ": (
        model("""qdq (float[n, 3, 8, 8] x) => (float[n, 4] y) {
            xq = QuantizeLinear (x, scale, zero)
            xd = DequantizeLinear (xq, scale, zero)
            w = DequantizeLinear (conv_q, scale, zero)
            map = Conv <kernel_shape = [3, 3]> (xd, w)
            pool = GlobalAveragePool (map)
            flat = Flatten (pool)
            y = Gemm (flat, fc, bias) }"""),
        ("logits", "float32", "rgb"),
    ),
    "opset 11, Flatten and BatchNormalization": (
        model(
            f"""old (float[n, 3, 8, 8] x) => (float[n, 4] y) {{
            {body("x")}
            y = Gemm (flat, fc, bias) }}""",
            opset=11,
            ir=6,
        ),
        ("logits", "float32", "rgb"),
    ),
}


def write(folder, proto, **config):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(proto.SerializeToString())
    processor = {
        "image_processor_type": "ViTImageProcessor",
        "size": {"height": SIDE, "width": SIDE},
        "image_mean": [0.4, 0.5, 0.6],
        "image_std": [0.2, 0.3, 0.25],
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def own_scores(proto, output, dtype, order):
    """What the model itself gives for normalised pixels, in batches that it accepts."""
    complete = onnx.ModelProto()
    complete.CopyFrom(proto)
    if output not in {value.name for value in complete.graph.output}:  # ZipMap's
        complete.graph.output.append(onnx.ValueInfoProto(name=output))
    weights = {tensor.name for tensor in proto.graph.initializer}
    [images] = [value for value in proto.graph.input if value.name not in weights]
    sizes = [dim.dim_value for dim in images.type.tensor_type.shape.dim]
    x = IMAGES[..., ::-1] if order == "bgr" else IMAGES  # mean and std are in the model's order
    x = x if dtype == "uint8" else (x / 255 - [0.4, 0.5, 0.6]) / [0.2, 0.3, 0.25]
    nhwc = sizes[3] == 3 or any(node.op_type == "Transpose" for node in proto.graph.node[:1])
    x = np.ascontiguousarray(x if nhwc else x.transpose(0, 3, 1, 2), dtype)
    session = Session(complete.SerializeToString(), threads=1, optimise=False)
    size, rows = sizes[0] or len(x), []
    for start in range(0, len(x), size):
        batch = x[np.arange(start, start + size) % len(x)]
        rows.append(np.asarray(session.run([output], {images.name: batch})[0]).reshape(size, 4))
    return np.concatenate(rows)[: len(x)].astype(np.float64)


def classify(folder, **request):
    loaded = load_model(ModelRequest(path=folder, top_k=4, **request))
    with OnnxRuntimeClassifier(loaded, batch_size=5, slots=1, logits=True) as classifier:
        slot = classifier.acquire()
        slot.images[:] = IMAGES
        classifier.submit(slot, 5)
        return loaded, classifier.collect()


@pytest.mark.parametrize("name", FORMS)
def test_every_form_gives_the_scores_that_the_model_gives(tmp_path, name):
    proto, (kind, dtype, order) = FORMS[name]
    folder = write(tmp_path / "model", proto)
    overrides = PreprocessOverrides(channel_order=order)
    loaded, found = classify(folder, overrides=overrides)
    expected = own_scores(proto, loaded.output_name, dtype, order)
    tolerance = 2e-3 if dtype == "float16" else 1e-5
    np.testing.assert_allclose(found.logits, expected, atol=tolerance)
    assert np.ptp(expected, axis=0).min() > 10 * tolerance  # five images, five answers
    assert loaded.activation == ("softmax" if kind == "logits" else "none")
    np.testing.assert_array_equal(found.label_ids[:, 0], expected.argmax(axis=1))
    graph = onnx.load_model_from_string(loaded.graph)
    assert not graph.functions
    assert not {"ZipMap", "ArgMax"} & {node.op_type for node in graph.graph.node}
    read = {value for node in graph.graph.node for value in node.input}
    assert {tensor.name for tensor in graph.graph.initializer} <= read


def test_1001_classes_keep_their_positions(tmp_path):
    """TensorFlow's background is class 0; what it is called is a matter of labels."""
    wide = RNG.standard_normal((6, 1001)).astype(np.float32)
    proto = model(f"""tf (float[n, 8, 8, 3] x) => (float[n, 1001] y) {{
        nchw = Transpose <perm = [0, 3, 1, 2]> (x)
        {body("nchw")}
        y = MatMul (flat, wide) }}""")
    proto.graph.initializer.append(numpy_helper.from_array(wide, "wide"))
    loaded, found = classify(write(tmp_path / "model", proto))
    assert loaded.classes == 1001
    assert found.logits.shape == (5, 1001)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "g (float[n, 3, 8, 8] x) => (float[n, 21, 8, 8] y) { y = Concat <axis = 1> (x) }",
            r"y float\[n, 21, 8, 8\] is not one row of scores.*as of segmentation",
        ),
        (
            "g (float[n, 3, 8, 8] x) => (float[n, 100, 85] y) { y = Identity (x) }",
            "as of detection",
        ),
        (
            "g (float[n, 3, 8, 8] x) => (int64[n] y) { y = Identity (x) }",
            "it holds labels and not scores",
        ),
        (
            "g (float[n, 3, 8, 8] x) => (float[n] y) { y = Identity (x) }",
            "it has no axis for the classes",
        ),
        (
            "g (float[n, 3, 8, 8] x, bool keras_learning_phase) => (float[n, 4] y) {"
            " y = Identity (x) }",
            r"takes x float\[n, 3, 8, 8\]; keras_learning_phase bool\[\]; expected one.*const",
        ),
        (
            "g (double[n, 3, 8, 8] x) => (float[n, 4] y) { y = Identity (x) }",
            r"takes x double.*of float32, float16, uint8",
        ),
        (
            "g (float[n, 3, 8, 8] x) => (float[n, 4] head, float[n, 4] aux) {"
            " head = Identity (x)\n aux = Identity (x) }",
            r"not clear which.*--output-name",
        ),
        (
            "g (float[n, 3, 8, 8] x) => (seq(float[n, 4]) y) { y = SequenceConstruct (x) }",
            "y of type sequence is not one row of scores",
        ),
    ],
)
def test_what_is_no_classifier_of_images_is_told_apart(tmp_path, text, message):
    with pytest.raises(ModelError, match=message):
        load_model(ModelRequest(path=write(tmp_path / "model", model(text))))


def test_an_opset_that_nothing_here_knows_is_refused_with_its_number(tmp_path):
    proto, _ = FORMS["Optimum: all dimensions symbolic"]
    newer = onnx.ModelProto()
    newer.CopyFrom(proto)
    newer.opset_import[0].version = 99
    with pytest.raises(ModelError, match=r"opset 99, and onnx .* knows none after \d\d"):
        load_model(ModelRequest(path=write(tmp_path / "model", newer)))
