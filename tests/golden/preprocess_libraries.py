"""What each library makes of an image, as one function from a PIL image to its float32 tensor."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import torch
from numpy.typing import NDArray
from PIL import Image

from tests.golden.images import SIZES, pixels
from tests.golden.preprocess_cases import (
    HALF,
    HUGGINGFACE,
    IMAGE_METADATA,
    IMAGENET_MEAN,
    IMAGENET_STD,
    custom_vision_files,
    ultralytics_metadata,
)

_OPERATORS = torch.library.Library("torchvision", "FRAGMENT")
for _name in ("nms", "qnms"):
    _OPERATORS.define(f"{_name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

import timm  # noqa: E402
import torchvision  # noqa: E402
import transformers  # noqa: E402
from timm.data import create_transform, resolve_data_config  # noqa: E402
from torchvision import models, transforms  # noqa: E402
from torchvision.transforms import InterpolationMode  # noqa: E402
from torchvision.transforms._presets import ImageClassification  # noqa: E402

Library = Callable[[Image.Image], NDArray[np.float32]]

PRESETS: dict[str, Library] = {
    "torchvision-v1": lambda image: ImageClassification(crop_size=224)(image).numpy(),
    "torchvision-v2": lambda image: ImageClassification(crop_size=224, resize_size=232)(
        image
    ).numpy(),
    # openai/CLIP's own clip.clip._transform, in torchvision.
    "clip": transforms.Compose(
        [
            transforms.Resize(224, interpolation=InterpolationMode.BICUBIC),
            transforms.CenterCrop(224),
            transforms.ToTensor(),
            transforms.Normalize(
                (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
            ),
            lambda tensor: tensor.numpy(),
        ]
    ),
    "timm-default": lambda image: create_transform(**resolve_data_config(pretrained_cfg={"a": 1}))(
        image
    ).numpy(),
    "inception": lambda image: create_transform(
        **resolve_data_config(pretrained_cfg={"mean": HALF, "std": HALF})
    )(image).numpy(),
    # ultralytics.data.augment.classify_transforms(224), in torchvision.
    "yolo-cls": transforms.Compose(
        [
            transforms.Resize(224),
            transforms.CenterCrop(224),
            transforms.ToTensor(),
            lambda tensor: tensor.numpy(),
        ]
    ),
}


def ultralytics_library(height: int, width: int) -> Library:
    """ultralytics 8.4, data.augment.classify_transforms((height, width)), in torchvision."""
    edge = height if height == width else (height, width)
    return transforms.Compose(
        [
            transforms.Resize(edge, interpolation=InterpolationMode.BILINEAR),
            transforms.CenterCrop((height, width)),
            transforms.ToTensor(),
            transforms.Normalize(mean=torch.tensor([0.0] * 3), std=torch.tensor([1.0] * 3)),
            lambda tensor: tensor.numpy(),
        ]
    )


def keras_library(mode: str, side: int, resample: Image.Resampling) -> Library:
    """keras 3: utils.load_img(target_size=...), utils.img_to_array and imagenet_utils.

    Source: keras/src/utils/image_utils.py and keras/src/applications/imagenet_utils.py, there
    `_preprocess_numpy_input` for channels_last.
    """

    def transform(image: Image.Image) -> NDArray[np.float32]:
        if image.size != (side, side):
            image = image.resize((side, side), resample)
        x = np.asarray(image, dtype=np.float32).copy()
        if mode == "tf":
            x /= 127.5
            x -= 1.0
        elif mode == "torch":
            x /= 255.0
            x -= np.array(IMAGENET_MEAN, dtype=np.float32)
            x /= np.array(IMAGENET_STD, dtype=np.float32)
        elif mode == "caffe":
            x = x[..., ::-1] - np.array([103.939, 116.779, 123.68], dtype=np.float32)
        return x.transpose(2, 0, 1)

    return transform


def custom_vision_library(side: int, *, bgr: bool, range255: bool) -> Library:
    """Microsoft's customvision-export-samples, samples/python/onnx/classification/predict.py."""

    def transform(image: Image.Image) -> NDArray[np.float32]:
        array = np.array(image.resize((side, side)), dtype=np.float32).transpose(2, 0, 1)
        if bgr:
            array = array[(2, 1, 0), :, :]
        return array if range255 else array / 255

    return transform


WRITTEN_OUT: dict[str, tuple[dict[str, Any], Library]] = {
    "ultralytics 224": (
        {"metadata": ultralytics_metadata(224, 224)},
        ultralytics_library(224, 224),
    ),
    "ultralytics oblong": (
        {"metadata": ultralytics_metadata(96, 160)},
        ultralytics_library(96, 160),
    ),
    "keras tf": ({"preprocess": "keras-tf"}, keras_library("tf", 224, Image.Resampling.NEAREST)),
    "keras torch": (
        {"preprocess": "keras-torch"},
        keras_library("torch", 224, Image.Resampling.NEAREST),
    ),
    "keras caffe": (
        {"preprocess": "keras-caffe"},
        keras_library("caffe", 224, Image.Resampling.NEAREST),
    ),
    # For models with Rescaling inside; load_img(interpolation="bilinear").
    "keras raw": (
        {"preprocess": "raw-0-255"},
        keras_library("raw", 240, Image.Resampling.BILINEAR),
    ),
    "custom vision bgr 0-255": (
        {"files": custom_vision_files("Bgr8", "NominalRange_0_255")},
        custom_vision_library(224, bgr=True, range255=True),
    ),
    "custom vision rgb 0-1": (
        {"files": custom_vision_files("Rgb8", "Normalized_0_1")},
        custom_vision_library(300, bgr=False, range255=False),
    ),
    "onnx Image.* and flags": (
        {
            "metadata": IMAGE_METADATA,
            "flags": {"interpolation": "bilinear", "crop_mode": "squash"},
        },
        lambda image: keras_library("tf", 160, Image.Resampling.BILINEAR)(image)[::-1],
    ),
}


def huggingface_class(document: dict[str, Any]) -> Any:
    """The Pillow backend's class for a configuration, by transformers' own naming."""
    name = document.get("image_processor_type") or document["feature_extractor_type"]
    name = name.replace("FeatureExtractor", "ImageProcessor").removesuffix("Fast")
    for folder in Path(transformers.__file__).parent.glob("models/*/image_processing_pil_*.py"):
        if f"class {name}Pil(" in folder.read_text():
            module = f"transformers.models.{folder.parent.name}.{folder.stem}"
            return getattr(importlib.import_module(module), f"{name}Pil")
    raise LookupError(name)


def huggingface_library(document: dict[str, Any]) -> Library:
    processor = huggingface_class(document).from_dict(document)
    return lambda image: np.asarray(processor(image, return_tensors="np")["pixel_values"][0])


def timm_library(config: dict[str, Any]) -> Library:
    data_config = resolve_data_config(pretrained_cfg=config, use_test_size=True)
    transform = create_transform(**data_config)
    return lambda image: transform(image).numpy()


CLASS_ATTRIBUTES = (
    *("do_resize", "size", "resample", "do_center_crop", "crop_size", "do_rescale", "do_normalize"),
    *("rescale_factor", "image_mean", "image_std", "default_to_square", "do_convert_rgb"),
    *("crop_pct", "rescale_offset", "include_top", "do_flip_channel_order"),
)


def class_attributes() -> dict[str, dict[str, Any]]:
    """Class attributes of every image processor above, which are the defaults of absent keys."""
    attributes: dict[str, dict[str, Any]] = {}
    for document in HUGGINGFACE.values():
        found = huggingface_class(document)
        attributes[found.__name__.removesuffix("Pil")] = {
            name: getattr(found, name) for name in CLASS_ATTRIBUTES if hasattr(found, name)
        }
    return attributes


def torchvision_enums() -> list[Any]:
    """The enumerations of every classifier's weights."""
    enums = [models.get_model_weights(name) for name in models.list_models()]
    # A member's transforms are a partial; get_model_weights goes by model, some share an enum.
    classifiers = [e for e in enums if _preset_of(next(iter(e))) is ImageClassification]
    return sorted(dict.fromkeys(classifiers), key=lambda enum: str(enum.__name__))


def _preset_of(weights: Any) -> Any:
    return getattr(weights.transforms, "func", weights.transforms)


def torchvision_weights() -> dict[str, dict[str, Any]]:
    """Arguments of `transforms()` of every classification weight, and what DEFAULT stands for."""
    members = {
        f"{enum.__name__}.{name}": weights
        for enum in torchvision_enums()
        for name, weights in enum.__members__.items()
    }
    return {name: _arguments(weights.transforms()) for name, weights in members.items()}


def _arguments(transform: Any) -> dict[str, Any]:
    assert transform.antialias, "Pillow's filters are all antialiased"
    return {
        "resize": transform.resize_size[0],
        "crop": transform.crop_size[0],
        "interpolation": transform.interpolation.value,
        "mean": list(transform.mean),
        "std": list(transform.std),
    }


def weights_library(name: str) -> Library:
    enum, _, member = name.partition(".")
    [found] = (candidate for candidate in torchvision_enums() if candidate.__name__ == enum)
    transform = found[member].transforms()
    return lambda image: transform(image).numpy()


def tensor_paths() -> dict[str, dict[str, float]]:
    """Levels between transforms of tensors, or without antialiasing, and those of PIL images."""
    squash = torch.nn.functional.interpolate
    paths: dict[str, tuple[Library, Library]] = {}
    for filter_ in (InterpolationMode.BILINEAR, InterpolationMode.BICUBIC):
        plain = ImageClassification(crop_size=224, mean=[0] * 3, std=[1] * 3, interpolation=filter_)
        paths[f"torchvision on tensors, {filter_.value}"] = (
            lambda image, plain=plain: plain(transforms.functional.pil_to_tensor(image)).numpy(),
            lambda image, plain=plain: plain(image).numpy(),
        )
    raw = {"do_rescale": False, "do_normalize": False}
    for name, kind in (("ViTImageProcessor", "bilinear"), ("BitImageProcessor", "bicubic")):
        document = {"image_processor_type": name} | raw
        on_tensors = getattr(transformers, name).from_dict(document)
        on_images = huggingface_library(document)
        paths[f"transformers' torchvision backend, {kind}"] = (
            lambda image, call=on_tensors: (
                call(image, return_tensors="pt")["pixel_values"][0].numpy() / 255
            ),
            lambda image, call=on_images: call(image) / 255,
        )
    paths["resize without antialiasing, bilinear"] = (
        lambda image: (
            squash(
                transforms.functional.pil_to_tensor(image)[None].float(),
                (224, 224),
                mode="bilinear",
            )[0].numpy()
            / 255
        ),
        lambda image: keras_library("raw", 224, Image.Resampling.BILINEAR)(image) / 255,
    )
    return {name: _distance(*pair) for name, pair in paths.items()}


def _distance(ours: Library, theirs: Library) -> dict[str, float]:
    """In levels of 0 to 255, over the images of photographs' shapes."""
    shapes = [size for size in SIZES if min(size) >= 200]
    differences = [
        np.abs(ours(image).astype(np.float64) - theirs(image)) * 255
        for image in (Image.fromarray(pixels(*size)) for size in shapes)
    ]
    worst = max(float(difference.max()) for difference in differences)
    mean = sum(float(difference.mean()) for difference in differences) / len(differences)
    return {"max": round(worst, 1), "mean": round(mean, 3)}


def versions() -> dict[str, str]:
    """Of every library whose own code made the golden file."""
    modules = (PIL, torch, torchvision, timm, transformers)
    return {module.__name__: module.__version__ for module in modules}
