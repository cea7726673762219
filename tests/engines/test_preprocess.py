"""Where preprocessing comes from: files, presets, flags, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engines.errors import ModelError
from engines.preprocess import (
    PRESETS,
    HostTransform,
    PreprocessOverrides,
    PreprocessSpec,
    Resolved,
    resolve,
)
from engines.preprocess.resolve import GraphSize
from engines.preprocess.sidecars import METADATA_KEY

ANY: GraphSize = (None, None)
VIT = {"image_processor_type": "ViTImageProcessor", "size": {"height": 224, "width": 224}}
BIT = {
    "image_processor_type": "BitImageProcessor",
    "size": {"shortest_edge": 256},
    "crop_size": {"height": 224, "width": 224},
}
TIMM = {
    "architecture": "convnext_tiny",
    "num_classes": 10,
    "pretrained_cfg": {
        "input_size": [3, 224, 224],
        "test_input_size": [3, 288, 288],
        "crop_pct": 0.875,
        "test_crop_pct": 1.0,
        "interpolation": "bicubic",
        "crop_mode": "center",
    },
}
FLAGS: dict[str, Any] = {
    "mean": (0.5, 0.5, 0.5),
    "std": (0.25, 0.25, 0.25),
    "pixel_range": "0-1",
    "interpolation": "bilinear",
    "crop_mode": "squash",
}


def write(folder: Path, name: str, document: object) -> None:
    (folder / name).write_text(json.dumps(document))


def find(
    model: Path,
    preprocess: str = "auto",
    graph_size: GraphSize = ANY,
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


# Precedence.


def test_nothing_is_guessed_and_the_three_ways_out_are_named(tmp_path: Path) -> None:
    text = refusal(tmp_path, str(tmp_path), "preprocessor_config.json", "--preprocess", "imagenet")
    assert "still missing: --interpolation, --crop-mode, --pixel-range" in text


def test_flags_alone_suffice_where_they_say_everything(tmp_path: Path) -> None:
    found = find(tmp_path, graph_size=(28, 32), **FLAGS)
    assert (found.spec.host.height, found.spec.host.width) == (28, 32)
    assert found.spec.host.resize == "exact"
    assert found.sources["input_size"] == "the graph's input"
    assert found.sources["mean"] == "--mean"
    assert found.sources["alpha"] == "not given: drop"


@pytest.mark.parametrize(
    ("missing", "named"),
    [
        ("interpolation", "--interpolation"),
        ("crop_mode", "--crop-mode"),
        ("pixel_range", "--pixel-range"),
        ("std", "--std"),
        ("mean", "--mean"),
    ],
)
def test_flags_that_say_too_little_are_told_what_is_missing(
    missing: str, named: str, tmp_path: Path
) -> None:
    flags = {name: value for name, value in FLAGS.items() if name != missing}
    assert f"still missing: {named})" in refusal(tmp_path, graph_size=(28, 28), **flags)


def test_a_centre_crop_by_flags_needs_its_size(tmp_path: Path) -> None:
    flags = FLAGS | {"crop_mode": "center", "graph_size": (28, 28)}
    assert "still missing: --crop-pct)" in refusal(tmp_path, **flags)
    assert find(tmp_path, **flags, crop_pct=0.5).spec.host.resize_height == 56
    assert find(tmp_path, **flags, resize_size=31).spec.host.resize_height == 31


def test_files_beside_the_model_are_found_from_the_folder_and_from_the_file(
    tmp_path: Path,
) -> None:
    write(tmp_path, "preprocessor_config.json", VIT)
    model = tmp_path / "model.onnx"
    model.touch()
    assert find(tmp_path) == find(model)
    weights = tmp_path / "onnx"
    weights.mkdir()
    assert find(weights / "model_fp16.onnx") == find(model)
    elsewhere = tmp_path / "other"
    elsewhere.mkdir()
    refusal(elsewhere, "nothing says")


def test_the_first_file_that_speaks_wins(tmp_path: Path) -> None:
    metadata = {METADATA_KEY: find(tmp_path, "raw-0-255", (7, 7)).spec.to_json()}
    assert find(tmp_path, metadata=metadata).sources["mean"] == f"ONNX metadata {METADATA_KEY}"
    write(tmp_path, "config.json", {"model_type": "vit", "id2label": {"0": "a"}})
    assert find(tmp_path, metadata=metadata).sources["mean"].startswith("ONNX metadata")
    write(tmp_path, "config.json", TIMM)
    assert find(tmp_path, metadata=metadata).sources["crop"] == "config.json: crop_mode"
    write(tmp_path, "processor_config.json", {"image_processor": BIT})
    assert find(tmp_path).sources["crop"] == "processor_config.json (image_processor): crop_size"
    write(tmp_path, "preprocessor_config.json", VIT)
    assert find(tmp_path).sources["resize"] == "preprocessor_config.json: size"
    assert find(tmp_path, "torchvision-v1").sources["resize"] == "preset torchvision-v1"
    other = tmp_path / "mine.json"
    write(tmp_path, other.name, BIT)
    assert find(tmp_path, str(other)).sources["crop"] == "mine.json: crop_size"
    assert find(tmp_path, str(other), mean=(0.1, 0.2, 0.3)).sources["mean"] == "--mean"


def test_a_file_that_is_not_understood_gives_way_to_flags_that_say_everything(
    tmp_path: Path,
) -> None:
    write(tmp_path, "preprocessor_config.json", {"image_processor_type": "NewImageProcessor"})
    refusal(tmp_path, "NewImageProcessor", graph_size=(28, 28))
    assert find(tmp_path, graph_size=(28, 28), **FLAGS).sources["std"] == "--std"


def test_every_field_has_a_source(tmp_path: Path) -> None:
    expected = {
        *("input_size", "resize", "crop", "interpolation", "mean", "std", "pixel_range"),
        *("channel_order", "alpha"),
    }
    for document in (VIT, BIT, {"image_processor_type": "MobileViTImageProcessor"}):
        write(tmp_path, "preprocessor_config.json", document)
        assert set(find(tmp_path).sources) == expected
    for name in PRESETS:
        found = find(tmp_path, name, graph_size=(224, 224))
        assert set(found.sources) == expected
        assert all(found.sources.values())
    (tmp_path / "preprocessor_config.json").unlink()
    assert set(find(tmp_path, graph_size=(8, 8), **FLAGS).sources) == expected
    write(tmp_path, "config.json", TIMM)
    assert set(find(tmp_path).sources) == expected


def test_an_unknown_preset_lists_the_presets(tmp_path: Path) -> None:
    refusal(tmp_path, "--preprocess imagnet", "imagenet", "torchvision-v2", preprocess="imagnet")


def test_a_named_file_that_says_nothing_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "x.json", {"id2label": {}})
    refusal(tmp_path, "says nothing", preprocess=str(tmp_path / "x.json"))


# Sizes.


def test_the_size_of_the_file_must_be_the_graphs(tmp_path: Path) -> None:
    write(tmp_path, "preprocessor_config.json", VIT)
    assert find(tmp_path, graph_size=(224, None)).spec.host.height == 224
    refusal(tmp_path, "224x224", "384x384", "--input-size", graph_size=(384, 384))
    found = find(tmp_path, graph_size=(384, 384), input_size=(384, 384))
    assert found.spec.host.resize_size == (384, 384)
    assert found.sources["input_size"] == "--input-size"


def test_an_input_size_that_the_graph_does_not_take_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "preprocessor_config.json", VIT)
    refusal(
        tmp_path, "--input-size 160x160", "224xany", graph_size=(224, None), input_size=(160, 160)
    )


def test_a_size_must_come_from_somewhere(tmp_path: Path) -> None:
    refusal(tmp_path, "timm-default", "anyxany", "--input-size", preprocess="timm-default")
    assert find(tmp_path, "timm-default", input_size=(288, 288)).spec.host.resize_size == (329, 329)


@pytest.mark.parametrize(
    ("document", "size", "resized"),
    [
        (VIT, (160, 192), (160, 192)),
        (BIT, (112, 112), (128, 128)),
        (BIT, (112, 224), (128, 128)),
        ({"image_processor_type": "DeiTImageProcessor"}, (112, 56), (128, 64)),
        ({"image_processor_type": "LevitImageProcessor"}, (112, 112), (128, 128)),
        ({"image_processor_type": "PoolFormerImageProcessor"}, (288, 288), (320, 320)),
        ({"image_processor_type": "ConvNextImageProcessor"}, (192, 192), (219, 219)),
        ({"image_processor_type": "ConvNextImageProcessor"}, (448, 448), (448, 448)),
    ],
)
def test_another_input_size_keeps_the_proportion_of_resize_to_crop(
    document: dict[str, Any], size: tuple[int, int], resized: tuple[int, int], tmp_path: Path
) -> None:
    write(tmp_path, "preprocessor_config.json", document)
    host = find(tmp_path, input_size=size).spec.host
    assert (host.height, host.width) == size
    assert host.resize_size == resized


def test_timm_takes_the_test_crop_at_the_test_size_only(tmp_path: Path) -> None:
    write(tmp_path, "config.json", TIMM)
    assert find(tmp_path).spec.host.resize_size == (256, 256)
    assert find(tmp_path, graph_size=(224, 224)).spec.host.resize_size == (256, 256)
    assert find(tmp_path, graph_size=(288, 288)).spec.host.resize_size == (288, 288)
    assert find(tmp_path, input_size=(320, 320)).spec.host.resize_size == (365, 365)
    refusal(tmp_path, "224x224 or 288x288", "256x256", graph_size=(256, 256))


def test_timm_s_sources_name_the_test_keys_and_the_defaults(tmp_path: Path) -> None:
    write(tmp_path, "config.json", TIMM)
    sources = find(tmp_path, graph_size=(288, 288)).sources
    assert sources["input_size"] == "config.json: input_size, config.json: test_input_size"
    assert sources["resize"] == "config.json: crop_pct, config.json: test_crop_pct"
    write(tmp_path, "config.json", {"pretrained_cfg": {"test_crop_pct": 1.0}})
    absent = find(tmp_path)
    assert absent.spec.host.resize_size == (256, 256)
    assert (absent.sources["input_size"], absent.sources["resize"]) == ("timm default",) * 2


def test_sizes_beyond_reason_are_refused_with_the_files_name(tmp_path: Path) -> None:
    write(tmp_path, "preprocessor_config.json", {**VIT, "size": 10**6})
    refusal(tmp_path, "preprocessor_config.json", "1000000", "16384")


# Flags over files.


def test_every_flag_replaces_its_field_and_no_other(tmp_path: Path) -> None:
    write(tmp_path, "preprocessor_config.json", BIT)
    base = find(tmp_path)
    changes: dict[str, tuple[Any, dict[str, Any]]] = {
        "mean": ((0.1, 0.2, 0.3), {"mean": (0.1, 0.2, 0.3)}),
        "std": ((0.1, 0.2, 0.3), {"std": (0.1, 0.2, 0.3)}),
        "pixel_range": ("-1-1", {"scale": 1 / 127.5, "offset": -1.0}),
        "channel_order": ("bgr", {"channel_order": "bgr"}),
    }
    for flag, (value, fields) in changes.items():
        found = find(tmp_path, **{flag: value})
        for name in ("mean", "std", "scale", "offset", "channel_order", "host"):
            expected = fields.get(name, getattr(base.spec, name))
            assert getattr(found.spec, name) == expected, (flag, name)
        changed = {name for name in base.sources if base.sources[name] != found.sources[name]}
        assert changed == {flag}
    assert find(tmp_path, interpolation="nearest").spec.host.interpolation == "nearest"
    assert find(tmp_path, alpha="drop").spec.host.alpha == "drop"
    assert base.spec.host.alpha == "white"


def test_geometry_flags_rebuild_the_geometry_in_the_files_own_rounding(tmp_path: Path) -> None:
    write(tmp_path, "preprocessor_config.json", BIT)
    host = find(tmp_path, crop_pct=0.5).spec.host
    assert (host.resize, host.resize_size, host.crop_offset) == ("shortest", (448, 448), "floor")
    assert find(tmp_path, crop_pct=0.5).sources["resize"] == "--crop-pct"
    assert find(tmp_path, resize_size=232).spec.host.resize_size == (232, 232)
    squash = find(tmp_path, crop_mode="squash").spec.host
    assert (squash.resize, squash.resize_size) == ("exact", (256, 256))
    exact = find(tmp_path, crop_mode="squash", resize_size=(224, 224)).spec.host
    assert (exact.resize, exact.crop) == ("exact", "none")
    wide = find(tmp_path, input_size=(100, 200), crop_mode="center", crop_pct=0.5).spec.host
    assert (wide.resize, wide.resize_size, wide.rounding) == ("cover", (200, 400), "round")


def test_a_border_has_the_mean_colour_whatever_the_mean_comes_from(tmp_path: Path) -> None:
    write(tmp_path, "preprocessor_config.json", VIT)
    border = {"crop_mode": "border"}
    assert find(tmp_path, **border).spec.host.pad_fill == (128, 128, 128)
    assert find(tmp_path, **border, mean=(0.0, 1.0, 2.0)).spec.host.pad_fill == (0, 255, 255)
    caffe = find(tmp_path, "keras-caffe", (224, 224), **border).spec
    assert caffe.host.pad_fill == (124, 117, 104)  # RGB, though the mean is given as BGR.


def test_one_size_for_an_uneven_squash_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "preprocessor_config.json", {**VIT, "size": {"height": 100, "width": 200}})
    refusal(tmp_path, "--resize-size 120", "100x200", resize_size=120)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"crop_pct": 0.0}, ("--crop-pct 0.0", "at most 1")),
        ({"crop_pct": 1.5}, ("--crop-pct 1.5",)),
        ({"crop_pct": 0.9, "resize_size": 256}, ("--crop-pct and --resize-size",)),
        ({"crop_mode": "middle"}, ("--crop-mode middle", "center, squash, border")),
        ({"interpolation": "cubic"}, ("--interpolation cubic", "bicubic")),
        ({"pixel_range": "0-256"}, ("--pixel-range 0-256", "0-255")),
        ({"channel_order": "grb"}, ("--channel-order grb", "rgb, bgr")),
        ({"alpha": "black"}, ("--alpha black", "drop, white")),
        ({"std": (0.0, 1.0, 1.0)}, ("std is (0.0, 1.0, 1.0)", "above 0")),
        ({"mean": (float("nan"), 0.0, 0.0)}, ("mean is (nan",)),
        ({"input_size": (0, 224)}, ("height is 0", "from 1 to 16384")),
    ],
)
def test_bad_values_are_refused_with_flag_value_and_range(
    flags: dict[str, Any], words: tuple[str, ...], tmp_path: Path
) -> None:
    write(tmp_path, "preprocessor_config.json", VIT)
    refusal(tmp_path, *words, **flags)


# Hugging Face's files.


def test_absent_and_null_keys_take_the_classes_defaults(tmp_path: Path) -> None:
    write(tmp_path, "preprocessor_config.json", {"image_processor_type": "PvtImageProcessor"})
    absent = find(tmp_path)
    assert absent.spec.mean == (0.485, 0.456, 0.406)
    assert absent.sources["mean"] == "PvtImageProcessor default"
    assert absent.sources["input_size"] == "PvtImageProcessor default"
    document = {"image_processor_type": "PvtImageProcessor", "image_mean": None, "size": None}
    write(tmp_path, "preprocessor_config.json", document)
    assert find(tmp_path) == absent


@pytest.mark.parametrize("suffix", ["", "Fast", "Pil"])
def test_the_backends_suffix_of_a_class_changes_nothing(suffix: str, tmp_path: Path) -> None:
    write(
        tmp_path,
        "preprocessor_config.json",
        {**VIT, "image_processor_type": f"ViTImageProcessor{suffix}"},
    )
    assert find(tmp_path).spec.host.resize == "exact"


def test_a_file_without_a_class_takes_the_model_types(tmp_path: Path) -> None:
    write(tmp_path, "preprocessor_config.json", {"do_resize": True, "size": 224})
    refusal(tmp_path, "names no image processor class")
    write(tmp_path, "config.json", {"model_type": "resnet"})
    assert find(tmp_path).sources["mean"] == "ConvNextImageProcessor default"
    write(tmp_path, "config.json", {"model_type": "perceiver"})
    refusal(tmp_path, "PerceiverImageProcessor", "crops a part")
    write(tmp_path, "config.json", {"model_type": "newnet"})
    refusal(tmp_path, "model_type newnet", "ViTImageProcessor")


def test_unknown_and_unreproducible_classes_name_the_ways_out(tmp_path: Path) -> None:
    for name, why in {
        "DINOv3ViTImageProcessorFast": "rescales first",
        "PerceiverFeatureExtractor": "crops a part",
        "ImageGPTImageProcessor": "clusters",
        "TextNetImageProcessor": "multiples of 32",
        "PPLCNetImageProcessor": "tensors only",
        "YolosImageProcessor": "known are BeitImageProcessor",
    }.items():
        write(tmp_path, "preprocessor_config.json", {"image_processor_type": name})
        refusal(tmp_path, why, "--preprocess", "flags")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"size": {"shortest_edge": 224, "longest_edge": 500}}, ("size is", "longest_edge")),
        ({"size": {"longest_edge": 224}}, ("size is", "not reproduced", "--preprocess")),
        ({"size": {"max_height": 224, "max_width": 224}}, ("max_height", "different shapes")),
        ({"size": {"height": 224}}, ("size is",)),
        ({"size": "224"}, ('size is "224"',)),
        ({"size": True}, ("size is true",)),
        ({"size": {"shortest_edge": 224}}, ("do_center_crop is false", "different shapes")),
        ({"do_resize": False}, ("do_center_crop is false",)),
        ({"do_resize": "no"}, ('do_resize is "no"', "true or false")),
        ({"do_center_crop": True, "crop_size": [1, 2, 3]}, ("crop_size is [1, 2, 3]",)),
        ({"do_center_crop": True}, ("crop_size is null",)),
        ({"resample": 9}, ("resample is 9",)),
        ({"resample": "bilinear"}, ('resample is "bilinear"',)),
        ({"image_mean": [0.5, 0.5]}, ("image_mean is [0.5, 0.5]", "3 numbers")),
        ({"image_std": [0.5, 0.0, 0.5]}, ("image_std is [0.5, 0.0, 0.5]", "above 0")),
        ({"image_std": 0}, ("image_std is 0",)),
        ({"rescale_factor": 0}, ("rescale_factor is 0",)),
        ({"do_pad": True}, ("do_pad",)),
    ],
)
def test_values_of_the_wrong_form_are_refused_with_file_key_and_value(
    change: dict[str, Any], words: tuple[str, ...], tmp_path: Path
) -> None:
    write(tmp_path, "preprocessor_config.json", VIT | change)
    refusal(tmp_path, "preprocessor_config.json", *words)


def test_one_number_serves_all_channels(tmp_path: Path) -> None:
    write(tmp_path, "preprocessor_config.json", VIT | {"image_mean": 0.3, "image_std": [0.2]})
    spec = find(tmp_path).spec
    assert (spec.mean, spec.std) == ((0.3, 0.3, 0.3), (0.2, 0.2, 0.2))


def test_a_crop_without_a_resize_is_a_crop_of_the_image_itself(tmp_path: Path) -> None:
    write(
        tmp_path,
        "preprocessor_config.json",
        VIT | {"do_resize": False, "do_center_crop": True, "crop_size": 64},
    )
    host = find(tmp_path).spec.host
    assert (host.resize, host.crop, host.height) == ("none", "center", 64)
    assert find(tmp_path).sources["resize"] == "preprocessor_config.json: do_resize"


def test_the_offset_belongs_to_the_rescaling(tmp_path: Path) -> None:
    document = {"image_processor_type": "EfficientNetImageProcessor", "rescale_offset": True}
    write(tmp_path, "preprocessor_config.json", document)
    assert find(tmp_path).spec.offset == -1
    write(tmp_path, "preprocessor_config.json", document | {"do_rescale": False})
    spec = find(tmp_path).spec
    assert (spec.scale, spec.offset) == (1, 0)


def test_bgr_models_get_their_values_by_rgb_channel(tmp_path: Path) -> None:
    subtract, multiply = find(tmp_path, "keras-caffe", (224, 224)).spec.affine()
    np.testing.assert_allclose(subtract, (123.68, 116.779, 103.939))
    np.testing.assert_allclose(multiply, (1, 1, 1))
    subtract, multiply = find(tmp_path, "keras-tf", (224, 224)).spec.affine()
    np.testing.assert_allclose(subtract, (127.5, 127.5, 127.5))
    np.testing.assert_allclose(multiply, (1 / 127.5,) * 3)


# timm's files.


def test_old_files_that_are_a_pretrained_cfg_are_read(tmp_path: Path) -> None:
    write(tmp_path, "config.json", {"architecture": "x", **TIMM["pretrained_cfg"]})
    assert find(tmp_path).spec.host.resize_size == (256, 256)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"input_size": [1, 28, 28]}, ("input_size is [1, 28, 28]", "3 channels")),
        ({"input_size": [3, 224]}, ("input_size is [3, 224]",)),
        ({"crop_mode": "corner"}, ('crop_mode is "corner"', "center, squash, border")),
        ({"interpolation": "random"}, ('interpolation is "random"',)),
        ({"crop_pct": "all"}, ('crop_pct is "all"',)),
        ({"std": [0.2, -1, 0.2]}, ("std is",)),
    ],
)
def test_values_of_the_wrong_form_in_timms_file_are_refused(
    change: dict[str, Any], words: tuple[str, ...], tmp_path: Path
) -> None:
    write(tmp_path, "config.json", {"pretrained_cfg": {"input_size": [3, 224, 224]} | change})
    refusal(tmp_path, "config.json", *words)


# Files that are no configuration.


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff\xfe", b"[" * 100_000])
def test_a_file_that_is_no_json_object_is_refused_by_name(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "preprocessor_config.json").write_bytes(content)
    refusal(tmp_path, "preprocessor_config.json")


# The specification itself.


def test_json_reads_back_as_the_same_specification(tmp_path: Path) -> None:
    for name in PRESETS:
        spec = find(tmp_path, name, graph_size=(224, 224)).spec
        assert PreprocessSpec.from_json(spec.to_json()) == spec
        assert "\n" not in spec.to_json()
    write(tmp_path, "spec.json", json.loads(spec.to_json()))
    found = find(tmp_path, str(tmp_path / "spec.json"))
    assert found.spec == spec
    assert found.sources["mean"] == "spec.json"


def test_a_specification_scales_to_another_size(tmp_path: Path) -> None:
    spec = find(tmp_path, "torchvision-v1").spec
    host = find(tmp_path, metadata={METADATA_KEY: spec.to_json()}, input_size=(448, 448)).spec.host
    assert (host.height, host.resize_height) == (448, 512)


def test_the_digest_is_of_what_is_done_and_of_nothing_else(tmp_path: Path) -> None:
    write(tmp_path, "preprocessor_config.json", VIT)
    by_file = find(tmp_path)
    by_flags = find(tmp_path, mean=(0.5, 0.5, 0.5))
    assert by_file.spec.digest() == by_flags.spec.digest()
    assert by_file.spec.digest() != find(tmp_path, mean=(0.5, 0.5, 0.4)).spec.digest()
    whole = find(tmp_path, mean=(0, 0, 0)).spec
    assert whole.digest() == find(tmp_path, mean=(0.0, 0.0, 0.0)).spec.digest()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"version": 2}, "version is 2"),
        ({"scale": -1}, "scale is -1"),
        ({"offset": "no"}, "not a preprocessing specification"),
        ({"channel_order": "bgra"}, "channel_order is 'bgra'"),
        ({"std_twice": 1}, "std_twice is 1"),
        ({"unknown": 1}, "unknown"),
        ({"host": {}}, "missing"),
        ({"host": None}, "not a preprocessing specification"),
    ],
)
def test_a_specification_that_is_wrong_is_refused(
    change: dict[str, Any], words: str, tmp_path: Path
) -> None:
    document = json.loads(find(tmp_path, "torchvision-v1").spec.to_json()) | change
    with pytest.raises(ModelError, match=words):
        PreprocessSpec.from_json(json.dumps(document))


@pytest.mark.parametrize("text", ["", "null", "[]", "{}", '{"version": 1}'])
def test_text_that_is_no_specification_is_refused(text: str) -> None:
    with pytest.raises(ModelError, match="not a preprocessing specification"):
        PreprocessSpec.from_json(text)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"height": 0}, "height is 0"),
        ({"width": 1.5}, "width is 1.5"),
        ({"resize": "fit"}, "resize is 'fit'"),
        ({"resize": "shortest", "resize_width": 9}, "one size"),
        ({"crop": "none", "resize_height": 9}, "needs a crop"),
        ({"pad_fill": (0, 0, 256)}, "pad_fill is"),
    ],
)
def test_a_host_transform_checks_its_values(change: dict[str, Any], words: str) -> None:
    values: dict[str, Any] = {
        "height": 8,
        "width": 8,
        "resize": "exact",
        "resize_height": 8,
        "resize_width": 8,
        "interpolation": "bilinear",
        "crop": "center",
    }
    assert HostTransform(**values)
    with pytest.raises(ValueError, match=words):
        HostTransform(**values | change)
