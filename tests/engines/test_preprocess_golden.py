"""The whole path from file to normalised pixels, beside what the real libraries made of the images.

tests/golden/make_preprocess_golden.py recorded them, and tells how; the versions are in the file.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from engines.preprocess import PreprocessOverrides, PreprocessSpec, resolve
from engines.preprocess.huggingface_classes import CLASSES
from engines.preprocess.presets import preset
from engines.preprocess.torchvision import WEIGHTS
from shards.decode import Limits, decode
from tests.golden.images import SIZES, TRANSPARENT, pixels

GOLDEN: dict[str, Any] = json.loads(
    (Path(__file__).parents[1] / "golden" / "preprocess" / "golden.json").read_text()
)
ENTRIES = {entry["name"]: entry for entry in GOLDEN["entries"]}

ROUNDING = {"weights VGG16_Weights.IMAGENET1K_FEATURES": 1.6e-5}
"""Where a library's own rounding is larger: torchvision subtracts on 0 to 1, where steps of float32
are 6e-8, and divides by 1/255."""


@functools.cache
def _files() -> tuple[bytes, ...]:
    arrays = [pixels(*size) for size in SIZES] + [pixels(*TRANSPARENT, channels=4)]
    return tuple(_png(array) for array in arrays)


def _png(array: NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG", compress_level=1)
    return file.getvalue()


def _spec(entry: dict[str, Any], folder: Path) -> PreprocessSpec:
    for name, document in entry.get("files", {}).items():
        (folder / name).write_text(json.dumps(document))
    return resolve(
        folder,
        preprocess=entry.get("preprocess", "auto"),
        overrides=PreprocessOverrides(**entry.get("flags", {})),
        graph_size=(entry["height"], entry["width"]),
        metadata_props=entry.get("metadata", {}),
    ).spec


@pytest.mark.parametrize("name", ENTRIES)
def test_every_pixel_is_the_librarys_before_normalisation(name: str, tmp_path: Path) -> None:
    entry = ENTRIES[name]
    spec = _spec(entry, tmp_path)
    out = np.empty((entry["height"], entry["width"], 3), dtype=np.uint8)
    order = -1 if spec.channel_order == "bgr" else 1
    different = []
    for file, expected in zip(_files(), entry["pixels"], strict=True):
        decoded = decode(file, out, spec.host, Limits())
        digest = hashlib.sha256(np.ascontiguousarray(out[..., ::order]).tobytes()).hexdigest()
        if not digest.startswith(expected):
            different.append((decoded.width, decoded.height))
    assert different == []


@pytest.mark.parametrize("name", ENTRIES)
def test_every_level_of_every_channel_is_normalised_as_the_library_does(
    name: str, tmp_path: Path
) -> None:
    entry = ENTRIES[name]
    spec = _spec(entry, tmp_path)
    table = base64.b64decode(GOLDEN["levels"][entry["levels"]])
    levels = np.frombuffer(table, dtype="<f4").reshape(3, 256)
    subtract, multiply = (np.float32(row)[:, np.newaxis] for row in spec.affine())
    images = np.arange(256, dtype=np.uint8)[np.newaxis].astype(np.float32)
    ours = (images - subtract) * multiply
    if spec.channel_order == "bgr":
        ours = ours[::-1]
    # 1e-6 of the value where values exceed 1: EfficientNet's reach 10, Keras' 255.
    np.testing.assert_allclose(ours, levels, rtol=1e-6, atol=ROUNDING.get(name, 1e-6))


@pytest.mark.parametrize("class_name", GOLDEN["huggingface_classes"])
def test_absent_keys_take_the_defaults_of_transformers_own_class(class_name: str) -> None:
    ours = dict(CLASSES[class_name].defaults)
    theirs = {
        name: value
        for name, value in GOLDEN["huggingface_classes"][class_name].items()
        if value is not None
    }
    if class_name == "MobileViTImageProcessor":
        del ours["do_normalize"]  # None there, and never asked: its _preprocess does not normalise.
    for name, value in ours.items():
        assert value == theirs.get(name, False), name
    assert set(theirs) <= set(ours)


def test_the_golden_file_covers_every_class_of_the_table() -> None:
    assert set(GOLDEN["huggingface_classes"]) == set(CLASSES)


def test_every_classifier_of_torchvision_has_the_transforms_of_its_weights() -> None:
    theirs = GOLDEN["torchvision_weights"]
    assert {name for name in theirs if not name.endswith(".DEFAULT")} == set(WEIGHTS)
    for name, arguments in theirs.items():
        crop = arguments["crop"]
        recipe = preset(f"torchvision/{name}")
        spec = recipe.build((crop, crop))
        assert recipe.sizes == ((crop, crop),), name
        assert spec.host.resize_size == (arguments["resize"], arguments["resize"]), name
        assert (spec.host.resize, spec.host.interpolation) == (
            "shortest",
            arguments["interpolation"],
        ), name
        assert (list(spec.mean), list(spec.std)) == (arguments["mean"], arguments["std"]), name


def test_the_documented_distances_of_other_resizes_are_the_measured_ones() -> None:
    page = (Path(__file__).parents[2] / "docs" / "preprocessing.md").read_text()
    for name, distance in GOLDEN["tensor_paths"].items():
        assert f"| {name} | {distance['max']:g} | {distance['mean']:g} |" in page
