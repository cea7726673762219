"""The benchmark ResNets do torchvision's work, stay finite, and tell images apart once whitened."""

import json

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper
from PIL import Image

from benchmarks.images import write_images
from benchmarks.models import whiten_last_layer, write_model_folder
from benchmarks.resnet import build_resnet


def weights(model):
    return {weight.name: numpy_helper.to_array(weight) for weight in model.graph.initializer}


def multiply_adds(model):
    """Count those of one image, from the weights and the inferred output shapes."""
    kernels = weights(model)
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True)
    shapes = {
        value.name: [axis.dim_value for axis in value.type.tensor_type.shape.dim]
        for value in inferred.graph.value_info
    }
    convolutions = (node for node in model.graph.node if node.op_type == "Conv")
    positions = {node.input[1]: np.prod(shapes[node.output[0]][2:]) for node in convolutions}
    return sum(
        int(kernel.size * positions.get(name, 1))
        for name, kernel in kernels.items()
        if kernel.ndim > 1
    )


def resnet_input(count, size):
    return {
        "pixel_values": np.random.default_rng(0).normal(size=(count, 3, size, size)).astype("f")
    }


def run(model, feeds):
    serialized = model if isinstance(model, str) else model.SerializeToString()
    session = onnxruntime.InferenceSession(serialized, providers=["CPUExecutionProvider"])
    return session.run(["logits"], feeds)[0]


# Parameters: torchvision's documentation. A folded batch norm leaves one of its two per channel.
# Multiply-adds: torchvision's documentation, "GFLOPS" (of multiply-adds), to its two digits.
@pytest.mark.parametrize(
    ("architecture", "parameters", "giga_multiply_adds"),
    [("resnet18", 11_689_512, 1.81), ("resnet50", 25_557_032, 4.09)],
)
def test_resnet_has_torchvisions_parameters_and_work(architecture, parameters, giga_multiply_adds):
    model = build_resnet(architecture)
    sizes = {name: weight.size for name, weight in weights(model).items()}
    folded = sum(
        size for name, size in sizes.items() if name.endswith("bias") and name != "fc.bias"
    )
    assert sum(sizes.values()) + folded == parameters
    assert round(multiply_adds(model) / 1e9, 2) == giga_multiply_adds


def test_resnet50_strides_in_the_3x3_convolution_as_version_1_5_does():
    strides = {
        node.name: onnx.helper.get_node_attr_value(node, "strides")
        for node in build_resnet("resnet50", classes=2).graph.node
        if node.op_type == "Conv"
    }
    assert strides["layer2.0.conv1"] == [1, 1]
    assert strides["layer2.0.conv2"] == [2, 2]


def test_logits_are_of_the_order_of_one_at_any_batch_and_free_size():
    model = build_resnet("resnet18", size=None, classes=50)
    onnx.checker.check_model(model, full_check=True)
    for count, size in ((1, 64), (3, 96)):
        logits = run(model, resnet_input(count, size))
        assert logits.shape == (count, 50)
        assert 0.2 < logits.std() < 5


def test_equal_seeds_give_equal_models_and_others_do_not():
    first, again, other = (
        build_resnet("resnet18", seed=seed, classes=2).SerializeToString(deterministic=True)
        for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other


def test_folder_speaks_hugging_faces_dialect(tmp_path):
    write_model_folder("resnet18", tmp_path, size=64, classes=3)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["id2label"] == {"0": "class_0000", "1": "class_0001", "2": "class_0002"}
    preprocessor = json.loads((tmp_path / "preprocessor_config.json").read_text())
    assert preprocessor["size"] == {"shortest_edge": 73}
    assert preprocessor["crop_size"] == {"height": 64, "width": 64}


def preprocessed(path, size):
    """Resize the shortest edge to 8/7 of `size`, crop the centre, normalize: plainly."""
    with Image.open(path) as image:
        scale = round(size * 8 / 7) / min(image.size)
        width, height = (int(side * scale + 1e-6) for side in image.size)
        resized = image.resize((width, height), Image.Resampling.BILINEAR)
    left, top = (width - size) // 2, (height - size) // 2
    pixels = np.asarray(resized.crop((left, top, left + size, top + size))) / 255
    return ((pixels - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]).transpose(2, 0, 1)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A folder of 24 photographs, and what a model of 64x64 pixels is given for them."""
    folder = tmp_path_factory.mktemp("photos")
    write_images(folder, 24, processes=1)
    batch = np.stack([preprocessed(path, 64) for path in sorted(folder.rglob("*.jpg"))])
    return folder, {"pixel_values": batch.astype("f")}


def whitened(folder, photos, classes):
    images, feeds = photos
    write_model_folder("resnet18", folder, size=64, classes=classes)
    path = folder / "model.onnx"
    before = run(str(path), feeds)
    whiten_last_layer(folder, images, 24)
    onnx.checker.check_model(path, full_check=True)
    return before, run(str(path), feeds)


@pytest.mark.parametrize("classes", [8, 40])
def test_whitened_logits_are_standardised_per_label_and_labels_differ(tmp_path, photos, classes):
    before, after = whitened(tmp_path, photos, classes)
    np.testing.assert_allclose(after.mean(0), 0, atol=1e-3)
    np.testing.assert_allclose(after.std(0), 1, atol=1e-3)
    assert len(set(after.argmax(1))) > min(classes, 24) / 2 > len(set(before.argmax(1)))
    best, second = -np.sort(-after, axis=1)[:, :2].T
    assert np.median(best - second) > 0.05


def test_few_whitened_logits_do_not_correlate(tmp_path, photos):
    _, logits = whitened(tmp_path, photos, 8)
    np.testing.assert_allclose(np.cov(logits.T, bias=True), np.eye(8), atol=1e-3)


def test_the_last_layer_sees_features_without_their_mean(tmp_path, photos):
    """So that fp16 rounds numbers of the logits' size, and no larger ones that cancel."""
    whitened(tmp_path, photos, 8)
    model = onnx.load_model(tmp_path / "model.onnx")
    assert not weights(model)["fc.bias"].any()
    model.graph.output.append(onnx.ValueInfoProto(name="centred"))
    session = onnxruntime.InferenceSession(model.SerializeToString())
    (centred,) = session.run(["centred"], photos[1])
    np.testing.assert_allclose(centred.mean(0), 0, atol=1e-4)


def test_whitening_a_second_time_changes_nothing(tmp_path, photos):
    _, once = whitened(tmp_path, photos, 8)
    whiten_last_layer(tmp_path, photos[0], 24)
    np.testing.assert_array_equal(run(str(tmp_path / "model.onnx"), photos[1]), once)


def test_whitening_on_an_empty_folder_says_what_it_lacks(tmp_path):
    write_model_folder("resnet18", tmp_path / "model", size=32, classes=2)
    with pytest.raises(ValueError, match=r"holds 0 \.jpg files; whitening needs at least 2"):
        whiten_last_layer(tmp_path / "model", tmp_path, 8)
