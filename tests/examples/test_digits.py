"""The digits example is what its README says, measured with nothing of this project."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from PIL import Image

EXAMPLE = Path(__file__).parents[2] / "examples" / "digits"
MODEL = EXAMPLE / "model"
IMAGES = sorted((EXAMPLE / "images").glob("*/*"))
CONFIG = json.loads((MODEL / "config.json").read_text(encoding="utf-8"))
LABELS = [CONFIG["id2label"][str(index)] for index in range(CONFIG["num_labels"])]


@pytest.fixture(scope="module")
def pixels():
    """float32 [images, 3, 32, 32], as preprocessor_config.json says."""
    config = json.loads((MODEL / "preprocessor_config.json").read_text(encoding="utf-8"))
    size = (config["size"]["width"], config["size"]["height"])
    mean, std = np.float32(config["image_mean"]), np.float32(config["image_std"])
    batch = []
    for path in IMAGES:
        with Image.open(path) as image:
            resized = image.convert("RGB").resize(size, config["resample"])
        scaled = np.asarray(resized, np.float32) * np.float32(config["rescale_factor"])
        batch.append(((scaled - mean) / std).transpose(2, 0, 1))
    return np.stack(batch)


@pytest.fixture(scope="module")
def session():
    return onnxruntime.InferenceSession(MODEL / "model.onnx", providers=["CPUExecutionProvider"])


def test_there_are_45_held_out_images_of_every_label():
    assert Counter(path.parent.name for path in IMAGES) == dict.fromkeys(LABELS, 45)


def test_images_are_small_ordinary_rgb_files_of_both_formats_and_many_shapes():
    formats, sizes = Counter(), set()
    for path in IMAGES:
        with Image.open(path) as image:
            image.load()
            assert image.mode == "RGB", path
            assert 24 <= min(image.size) <= max(image.size) <= 96, path
            assert path.suffix == {"JPEG": ".jpg", "PNG": ".png"}[image.format], path
            formats[image.format] += 1
            sizes.add(image.size)
    assert min(formats["JPEG"], formats["PNG"]) > 100
    assert len(sizes) > 200
    assert sum(path.stat().st_size for path in IMAGES) < 2 * 2**20


def test_no_two_images_are_equal():
    assert len({path.read_bytes() for path in IMAGES}) == len(IMAGES)


def test_labels_read_the_same_in_both_directions():
    assert CONFIG["label2id"] == {label: index for index, label in enumerate(LABELS)}


def test_model_is_one_valid_file_of_opset_17_with_a_free_batch():
    model = onnx.load_model(MODEL / "model.onnx", load_external_data=False)
    onnx.checker.check_model(model, full_check=True)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 17)]
    assert all(
        weight.data_location == onnx.TensorProto.DEFAULT for weight in model.graph.initializer
    )
    assert {
        value.name: [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    } == {"pixel_values": ["batch", 3, 32, 32], "logits": ["batch", 10]}


def test_model_names_at_least_97_percent_of_the_held_out_images_rightly(session, pixels):
    (logits,) = session.run(["logits"], {"pixel_values": pixels})
    named = [LABELS[index] for index in logits.argmax(1)]
    right = sum(name == path.parent.name for name, path in zip(named, IMAGES, strict=True))
    assert right / len(IMAGES) >= 0.97


def test_an_image_gets_the_same_logits_alone_and_in_a_batch(session, pixels):
    (together,) = session.run(["logits"], {"pixel_values": pixels[:32]})
    for index in range(32):
        (alone,) = session.run(["logits"], {"pixel_values": pixels[index : index + 1]})
        np.testing.assert_allclose(alone[0], together[index], rtol=1e-4, atol=1e-4)
