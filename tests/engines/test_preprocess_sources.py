"""Sources beyond configuration files: metadata, Custom Vision, Triton, weights by name, advice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from engines.errors import ModelError
from engines.preprocess import PreprocessOverrides, Resolved, resolve
from engines.preprocess.recipe import GraphSize
from engines.preprocess.sidecars import METADATA_KEY
from engines.preprocess.suggest import by_name, by_size
from engines.preprocess.text_proto import TextProtoError, parse
from engines.preprocess.torchvision import default_weights
from engines.preprocess.triton import read_triton

SQUARE: GraphSize = (224, 224)
ULTRALYTICS = {"author": "Ultralytics", "task": "classify", "imgsz": "[224, 224]", "channels": "3"}
IMAGE = {"Image.BitmapPixelFormat": "Bgr8", "Image.NominalPixelRange": "NominalRange_0_255"}
RESIZE = {"interpolation": "bilinear", "crop_mode": "squash"}
PROPERTIES = {
    "CustomVision.Postprocess.Method": "ClassificationMultiClass",
    "CustomVision.Preprocess.NormalizeMean": "[0.0, 0.0, 0.0]",
    "CustomVision.Preprocess.NormalizeStd": "[1.0, 1.0, 1.0]",
    "Image.BitmapPixelFormat": "Rgb8",
    "Image.NominalPixelRange": "Normalized_0_1",
}
DENSENET = """
name: "densenet_onnx"  # Triton's own example
platform: "onnxruntime_onnx"
max_batch_size : 0
input [
  { name: "data_0" data_type: TYPE_FP32 format: FORMAT_NCHW dims: [ 3, 160, 224 ]
    reshape { shape: [ 1, 3, 160, 224 ] } }
]
output [ { name: "fc6_1" dims: [ 1000 ] label_filename: "densenet_labels.txt" } ]
"""


def find(
    model: Path,
    preprocess: str = "auto",
    graph_size: GraphSize = SQUARE,
    metadata: dict[str, str] | None = None,
    **flags: Any,
) -> Resolved:
    return resolve(
        model,
        preprocess=preprocess,
        overrides=PreprocessOverrides(**flags),
        graph_size=graph_size,
        metadata_props=metadata or {},
    )


def refusal(model: Path, *words: str, **arguments: Any) -> str:
    with pytest.raises(ModelError) as error:
        find(model, **arguments)
    text = str(error.value)
    for word in words:
        assert word in text
    return text


def write(folder: Path, name: str, document: object) -> None:
    (folder / name).write_text(json.dumps(document))


# Ultralytics.


def test_a_classifier_of_ultralytics_tells_everything_itself(tmp_path: Path) -> None:
    found = find(tmp_path, metadata=ULTRALYTICS, graph_size=(None, None))
    host = found.spec.host
    assert (host.height, host.resize, host.resize_size) == (224, "shortest", (224, 224))
    assert found.sources["input_size"] == "ONNX metadata of Ultralytics: imgsz"
    assert found.sources["mean"] == "ONNX metadata of Ultralytics: task classify"


def test_the_projects_own_key_wins_over_ultralytics(tmp_path: Path) -> None:
    own = {METADATA_KEY: find(tmp_path, "keras-tf").spec.to_json()}
    assert find(tmp_path, metadata=ULTRALYTICS | own).spec.host.interpolation == "nearest"


@pytest.mark.parametrize("task", ["detect", "segment", "pose", "obb"])
def test_what_does_not_classify_is_refused(task: str, tmp_path: Path) -> None:
    text = refusal(tmp_path, f"task is '{task}'", metadata=ULTRALYTICS | {"task": task})
    assert "-cls" in text


@pytest.mark.parametrize(
    "imgsz", ["", "[224", "[224]", "['224', '224']", "__import__('os')", "(" * 100_000]
)
def test_a_size_of_ultralytics_that_is_none_is_refused(imgsz: str, tmp_path: Path) -> None:
    refusal(tmp_path, "imgsz is", "[224, 224]", metadata=ULTRALYTICS | {"imgsz": imgsz})


def test_grey_models_of_ultralytics_are_refused(tmp_path: Path) -> None:
    refusal(tmp_path, "channels is 1", metadata=ULTRALYTICS | {"channels": "1"})


def test_one_number_is_a_square(tmp_path: Path) -> None:
    assert find(tmp_path, metadata=ULTRALYTICS | {"imgsz": "224"}).spec.host.width == 224


def test_a_task_of_another_exporter_says_nothing(tmp_path: Path) -> None:
    refusal(tmp_path, "nothing says", metadata={"task": "image-classification"})


# Image.* of the ONNX standard.


def test_the_standards_keys_say_channels_and_range_and_the_rest_is_asked_for(
    tmp_path: Path,
) -> None:
    text = refusal(tmp_path, "only a part", "Image.BitmapPixelFormat", metadata=IMAGE)
    assert "--channel-order bgr" in text
    assert "--pixel-range 0-255" in text
    assert "still missing: --interpolation, --crop-mode)" in text
    found = find(tmp_path, metadata=IMAGE, **RESIZE)
    assert (found.spec.channel_order, found.spec.scale) == ("bgr", 1.0)
    assert found.sources["channel_order"] == "ONNX metadata: Image.BitmapPixelFormat"
    assert found.sources["interpolation"] == "--interpolation"


def test_flags_win_over_the_standards_keys(tmp_path: Path) -> None:
    found = find(tmp_path, metadata=IMAGE, **RESIZE, channel_order="rgb")
    assert (found.spec.channel_order, found.sources["channel_order"]) == ("rgb", "--channel-order")
    assert found.spec.scale == 1.0


def test_the_standards_keys_and_values_are_read_in_any_case(tmp_path: Path) -> None:
    shouted = {key.upper(): value.upper() for key, value in IMAGE.items()}
    assert find(tmp_path, metadata=shouted, **RESIZE) == find(tmp_path, metadata=IMAGE, **RESIZE)


@pytest.mark.parametrize(
    ("key", "value", "why"),
    [
        ("Image.BitmapPixelFormat", "Gray8", "one grey channel"),
        ("Image.BitmapPixelFormat", "Rgba8", "transparency"),
        ("Image.BitmapPixelFormat", "Bgra8", "transparency"),
        ("Image.BitmapPixelFormat", "Yuv", "no value of the ONNX standard"),
        ("Image.ColorSpaceGamma", "Linear", "not made linear"),
        ("Image.NominalPixelRange", "NominalRange_16_235", "16 to 235"),
    ],
)
def test_pixels_that_are_not_made_are_refused_with_reason_and_way_out(
    key: str, value: str, why: str, tmp_path: Path
) -> None:
    text = refusal(tmp_path, key, value, why, metadata=IMAGE | {key: value})
    assert "--preprocess" in text
    every = {**RESIZE, "pixel_range": "0-1"}
    assert find(tmp_path, metadata=IMAGE | {key: value}, **every).spec.channel_order == "rgb"


def test_a_configuration_beside_the_model_wins_over_its_metadata(tmp_path: Path) -> None:
    write(tmp_path, "preprocessor_config.json", {"image_processor_type": "ViTImageProcessor"})
    metadata = IMAGE | {"Image.ColorSpaceGamma": "Linear"}
    assert find(tmp_path, metadata=metadata).spec.channel_order == "rgb"


# Custom Vision.


def test_a_folder_of_custom_vision_is_enough(tmp_path: Path) -> None:
    write(tmp_path, "cvexport.manifest", {"DomainType": "Classification"})
    write(tmp_path, "metadata_properties.json", PROPERTIES)
    found = find(tmp_path)
    host = found.spec.host
    assert (host.resize, host.interpolation) == ("exact", "bicubic")
    assert found.spec.scale == 1 / 255
    assert found.sources["pixel_range"] == "metadata_properties.json: Image.NominalPixelRange"
    assert found.sources["resize"] == "Custom Vision: resized as Microsoft's sample does"


def test_an_old_export_has_its_channels_in_the_onnx_file(tmp_path: Path) -> None:
    write(tmp_path, "cvexport.manifest", {"DomainType": "Classification"})
    assert find(tmp_path, metadata=IMAGE).spec.channel_order == "bgr"
    refusal(tmp_path, "still missing: --pixel-range, --channel-order)")
    refusal(tmp_path, "still missing: --channel-order)", pixel_range="0-255")
    assert find(tmp_path, pixel_range="0-255", channel_order="bgr").spec.scale == 1


def test_the_properties_alone_and_by_name_say_the_same(tmp_path: Path) -> None:
    write(tmp_path, "metadata_properties.json", PROPERTIES)
    elsewhere = tmp_path / "other"
    elsewhere.mkdir()
    named = find(elsewhere, str(tmp_path / "metadata_properties.json"))
    assert named == find(tmp_path)
    write(elsewhere, "half.json", {"Image.NominalPixelRange": "Normalized_0_1"})
    refusal(tmp_path, "half.json", "--crop-mode", preprocess=str(elsewhere / "half.json"))


@pytest.mark.parametrize(
    ("name", "document", "words"),
    [
        ("cvexport.manifest", {"DomainType": "ObjectDetection"}, "ObjectDetection"),
        (
            "metadata_properties.json",
            PROPERTIES | {"CustomVision.Postprocess.Method": "Yolo"},
            "expected a classification",
        ),
        (
            "metadata_properties.json",
            PROPERTIES | {"CustomVision.Preprocess.NormalizeMean": "[123.675, 116.28, 103.53]"},
            "three times 0",
        ),
        (
            "metadata_properties.json",
            PROPERTIES | {"CustomVision.Preprocess.NormalizeStd": "[58"},
            "three times 1",
        ),
    ],
)
def test_exports_that_cannot_be_followed_are_refused(
    name: str, document: dict[str, str], words: str, tmp_path: Path
) -> None:
    write(tmp_path, name, document)
    refusal(tmp_path, name, words, metadata=IMAGE)


# Triton.


def test_tritons_configuration_gives_the_size_and_leaves_the_pixels_to_be_asked(
    tmp_path: Path,
) -> None:
    (tmp_path / "config.pbtxt").write_text(DENSENET)
    (tmp_path / "1").mkdir()
    model = tmp_path / "1" / "model.onnx"
    model.touch()
    text = refusal(model, "the input size 160x224 (config.pbtxt: dims)", graph_size=(None, None))
    assert "still missing: --interpolation, --crop-mode, --pixel-range" in text
    for place in (model, tmp_path):
        found = find(place, "timm-default", graph_size=(None, None))
        assert (found.spec.host.height, found.spec.host.width) == (160, 224)
        assert found.sources["input_size"] == "config.pbtxt: dims"
    refusal(model, "config.pbtxt: dims says 160x224", "224x224", preprocess="timm-default")


def test_other_configurations_lie_beside_tritons(tmp_path: Path) -> None:
    (tmp_path / "config.pbtxt").write_text(DENSENET)
    write(tmp_path, "preprocessor_config.json", {"image_processor_type": "ViTImageProcessor"})
    (tmp_path / "3").mkdir()
    assert find(tmp_path / "3" / "model.onnx").spec.host.height == 224


@pytest.mark.parametrize(
    ("inputs", "size"),
    [
        ("input { format: FORMAT_NHWC dims: [ 96, 128, 3 ] }", (96, 128)),
        ("input < format: FORMAT_NHWC, dims: 96; dims: 128; dims: 3 >", (96, 128)),
        ("input { dims: [ 3, 96, 128 ] }", (96, 128)),
        ("input { dims: [ 96, 128, 3 ] }", (96, 128)),
        ("input { dims: [ 1, 3, 96, 128 ] }", (96, 128)),
        ("input { dims: [ 3, -1, -1 ] }", None),
        ("input { dims: [ 3, 96, 3 ] }", None),
        ("input { dims: [ 150528 ] }", None),
        ("input { dims: [ 3, 8, 8 ] } input { dims: [ 3, 8, 8 ] }", None),
        ("", None),
    ],
)
def test_the_size_is_read_in_the_layout_that_is_stated(
    inputs: str, size: tuple[int, int] | None, tmp_path: Path
) -> None:
    (tmp_path / "config.pbtxt").write_text(inputs)
    config = read_triton(tmp_path)
    assert config is not None
    assert config.size == size


def test_files_of_labels_are_named_by_output(tmp_path: Path) -> None:
    (tmp_path / "config.pbtxt").write_text(DENSENET)
    config = read_triton(tmp_path)
    assert config is not None
    assert config.label_files == {"fc6_1": "densenet_labels.txt"}


@pytest.mark.parametrize("content", [b"input {", b"\xff\xfe", b"x" * (1 << 21)])
def test_a_configuration_of_triton_that_is_none_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "config.pbtxt").write_bytes(content)
    refusal(tmp_path, "config.pbtxt")


def test_the_text_format_has_many_spellings_of_one_message() -> None:
    assert parse('a: \'x\' "y\\n\\"" b <c: -1.5 d: ENUM> # end') == {
        "a": ['xy\n"'],
        "b": [{"c": [-1.5], "d": ["ENUM"]}],
    }
    assert parse("a: [1, 2] a: 3; m { } m: [{n: 1}, {}]") == {
        "a": [1, 2, 3],
        "m": [{}, {"n": [1]}, {}],
    }
    assert parse("") == {}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a", "line 1: the text ends"),
        ("a: 1\nb 2", "line 2: '2'"),
        ("\n\n}", "line 3: '}'"),
        ('a: "x', "line 1"),
        ("a: [1", "the text ends"),
        ("m {" * 100, "more than 32"),
        ("a: ]", "where a value"),
    ],
)
def test_a_text_that_is_no_message_is_refused_by_its_line(text: str, words: str) -> None:
    with pytest.raises(TextProtoError, match=words):
        parse(text)


# Weights of torchvision.


def test_weights_are_named_as_torchvision_names_them(tmp_path: Path) -> None:
    found = find(tmp_path, "ResNet50_Weights.IMAGENET1K_V2")
    assert found.spec.host.resize_size == (232, 232)
    assert found.sources["resize"] == "torchvision ResNet50_Weights.IMAGENET1K_V2"
    for name in ("torchvision/ResNet50_Weights.IMAGENET1K_V2", "ResNet50_Weights.DEFAULT"):
        assert find(tmp_path, name) == found
    refusal(tmp_path, "300x300", "224x224", preprocess="EfficientNet_B3_Weights.DEFAULT")


@pytest.mark.parametrize(
    ("name", "similar"),
    [
        ("resnet50_weights.imagenet1k_v2", "ResNet50_Weights.IMAGENET1K_V2"),
        ("torchvision/EfficientNet_B3.DEFAULT", "EfficientNet_B3_Weights.DEFAULT"),
        ("ResNet50", "ResNet50_Weights.DEFAULT"),
        ("imagnet", "imagenet"),
    ],
)
def test_a_name_that_is_none_is_answered_with_similar_ones(
    name: str, similar: str, tmp_path: Path
) -> None:
    refusal(tmp_path, f"--preprocess {name}:", similar, "torchvision-v2", preprocess=name)


def test_there_is_no_default_of_an_unknown_enumeration(tmp_path: Path) -> None:
    assert default_weights("ResNet51_Weights") is None
    refusal(tmp_path, "neither a file nor a preset", preprocess="ResNet51_Weights.DEFAULT")


# Advice.


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("resnet50-v2-7.onnx", "ResNet50"),
        ("resnet50/model.onnx", "ResNet50"),
        ("resnet50", "ResNet50"),
        ("resnext101_64x4d.onnx", "ResNeXt101_64X4D"),
        ("mobilenetv2-12.onnx", "MobileNet_V2"),
        ("vgg16_bn.onnx", "VGG16_BN"),
    ],
)
def test_weights_are_suggested_by_the_models_name(path: str, expected: str) -> None:
    names = by_name(Path("models") / path, SQUARE)
    assert names
    assert all(name.startswith(f"torchvision/{expected}_Weights.") for name in names)


def test_suggestions_fit_the_size_of_the_graph() -> None:
    assert by_name(Path("vit_b_16.onnx"), (384, 384)) == (
        "torchvision/ViT_B_16_Weights.IMAGENET1K_SWAG_E2E_V1",
    )
    assert by_name(Path("resnet50.onnx"), (256, 256)) == ()
    assert by_name(Path("model.onnx"), SQUARE) == ()
    assert "imagenet" in by_size(SQUARE)
    assert "imagenet" not in by_size((299, 299))
    assert "timm-default" in by_size((299, 299))


def test_the_message_for_a_bare_model_names_what_comes_closest(tmp_path: Path) -> None:
    text = refusal(tmp_path / "resnet50.onnx", "1. put the", "2. name a", "3. say it")
    assert "torchvision/ResNet50_Weights.IMAGENET1K_V2 or" in text
    assert "for an input 224x224 there are clip, imagenet" in text
    assert "(still missing: --interpolation, --crop-mode, --pixel-range)" in text
