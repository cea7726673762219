"""Record what timm, torchvision and Hugging Face make of the golden images.

Run by hand, in an environment of its own, from the root of the repository:

    python -m venv /tmp/golden
    /tmp/golden/bin/pip install torch numpy pillow==13.0.0 safetensors huggingface_hub pyyaml \
        regex tokenizers packaging tqdm filelock typer
    /tmp/golden/bin/pip install --no-deps torchvision==0.29.2 timm==1.0.31 transformers==5.23.0
    PYTHONPATH=. /tmp/golden/bin/python tests/golden/make_preprocess_golden.py

Only transforms of PIL images are called. Where torchvision's compiled operators do not load (its
wheels are built against one torch), two of them are declared so that it can be imported; the
transforms use none.

Normalisation maps each of the 256 levels of a channel to one number. So the file holds, for every
configuration, that number for every level (from images of one colour), and for every image the
SHA-256 of its levels, found back in that table from the library's own output: together, the output.
"""

from __future__ import annotations

import base64
import hashlib
import importlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import torch
from numpy.typing import NDArray
from PIL import Image

from tests.golden.images import SIZES, TRANSPARENT, pixels

_OPERATORS = torch.library.Library("torchvision", "FRAGMENT")
for _name in ("nms", "qnms"):
    _OPERATORS.define(f"{_name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

import timm  # noqa: E402
import torchvision  # noqa: E402
import transformers  # noqa: E402
from timm.data import create_transform, resolve_data_config  # noqa: E402
from torchvision import transforms  # noqa: E402
from torchvision.transforms import InterpolationMode  # noqa: E402
from torchvision.transforms._presets import ImageClassification  # noqa: E402

OUTPUT = Path(__file__).parent / "preprocess" / "golden.json"
HALF = [0.5, 0.5, 0.5]

Library = Callable[[Image.Image], NDArray[np.float32]]

TIMM: dict[str, dict[str, Any]] = {
    "center": {"input_size": [3, 224, 224], "interpolation": "bicubic", "crop_pct": 0.875},
    "defaults": {"input_size": [3, 224, 224]},
    "center bilinear .95": {
        "input_size": [3, 224, 224],
        "interpolation": "bilinear",
        "crop_pct": 0.95,
    },
    "center lanczos 1.0": {"input_size": [3, 224, 224], "interpolation": "lanczos", "crop_pct": 1},
    "center nearest": {"input_size": [3, 160, 160], "interpolation": "nearest", "crop_pct": 0.9},
    "center box": {"input_size": [3, 160, 160], "interpolation": "box", "crop_pct": 0.9},
    "center hamming": {"input_size": [3, 160, 160], "interpolation": "hamming", "crop_pct": 0.9},
    "center wide": {"input_size": [3, 160, 224], "interpolation": "bicubic", "crop_pct": 0.9},
    "center tall": {"input_size": [3, 192, 112], "interpolation": "bilinear", "crop_pct": 0.875},
    "center 300": {"input_size": [3, 300, 300], "interpolation": "bicubic", "crop_pct": 0.904},
    "squash": {"crop_mode": "squash", "input_size": [3, 224, 224], "crop_pct": 1.0},
    "squash wide": {"crop_mode": "squash", "input_size": [3, 128, 192], "crop_pct": 0.95},
    "border": {"crop_mode": "border", "input_size": [3, 224, 224], "crop_pct": 1.0},
    "border .9": {
        "crop_mode": "border",
        "input_size": [3, 224, 224],
        "crop_pct": 0.9,
        "interpolation": "bilinear",
    },
    "border wide": {
        "crop_mode": "border",
        "input_size": [3, 160, 224],
        "crop_pct": 0.95,
        "mean": HALF,
        "std": HALF,
    },
}

HUGGINGFACE: dict[str, dict[str, Any]] = {
    "vit": {"image_processor_type": "ViTImageProcessor"},
    "vit 2021": {
        "feature_extractor_type": "ViTFeatureExtractor",
        "size": 224,
        "do_normalize": True,
        "do_resize": True,
        "image_mean": HALF,
        "image_std": HALF,
        "resample": 2,
    },
    "vit wide bicubic": {
        "image_processor_type": "ViTImageProcessorFast",
        "size": {"height": 160, "width": 208},
        "resample": 3,
        "image_mean": [0.485, 0.456, 0.406],
        "image_std": [0.229, 0.224, 0.225],
    },
    "vit crop": {
        "image_processor_type": "ViTImageProcessor",
        "size": {"height": 150, "width": 170},
        "do_center_crop": True,
        "crop_size": {"height": 127, "width": 128},
    },
    "vit raw": {
        "image_processor_type": "ViTImageProcessor",
        "do_rescale": False,
        "do_normalize": False,
    },
    "deit": {"image_processor_type": "DeiTImageProcessor"},
    "beit": {"image_processor_type": "BeitImageProcessor"},
    "convnext 224": {
        "image_processor_type": "ConvNextImageProcessor",
        "size": {"shortest_edge": 224},
        "crop_pct": 0.875,
    },
    "convnext 2022": {
        "feature_extractor_type": "ConvNextFeatureExtractor",
        "size": 224,
        "image_mean": [0.485, 0.456, 0.406],
        "image_std": [0.229, 0.224, 0.225],
    },
    "convnext 288": {
        "image_processor_type": "ConvNextImageProcessor",
        "size": {"shortest_edge": 288},
        "crop_pct": 0.95,
    },
    "convnext 384": {"image_processor_type": "ConvNextImageProcessor"},
    "efficientnet": {"image_processor_type": "EfficientNetImageProcessor"},
    "efficientnet b0": {
        "image_processor_type": "EfficientNetImageProcessor",
        "size": {"height": 224, "width": 224},
        "resample": 0,
        "image_mean": [0.485, 0.456, 0.406],
        "image_std": [0.47853944, 0.4732864, 0.47434163],
        "include_top": True,
    },
    "efficientnet offset": {
        "image_processor_type": "EfficientNetImageProcessor",
        "size": {"height": 224, "width": 224},
        "rescale_factor": 1 / 127.5,
        "rescale_offset": True,
        "do_normalize": False,
        "include_top": False,
    },
    "bit": {"image_processor_type": "BitImageProcessor"},
    "bit padded": {
        "image_processor_type": "BitImageProcessor",
        "size": {"shortest_edge": 151},
        "crop_size": {"height": 224, "width": 200},
    },
    "dinov2": {
        "image_processor_type": "BitImageProcessor",
        "size": {"shortest_edge": 256},
        "crop_size": {"height": 224, "width": 224},
        "image_mean": [0.485, 0.456, 0.406],
        "image_std": [0.229, 0.224, 0.225],
        "do_convert_rgb": True,
    },
    "clip": {"image_processor_type": "CLIPImageProcessor"},
    "clip 2021": {"feature_extractor_type": "CLIPFeatureExtractor", "size": 224, "crop_size": 224},
    "mobilenet v1": {"image_processor_type": "MobileNetV1ImageProcessor"},
    "mobilenet v2": {"image_processor_type": "MobileNetV2ImageProcessor"},
    "mobilevit": {"image_processor_type": "MobileViTImageProcessor"},
    "levit": {"image_processor_type": "LevitImageProcessor"},
    "poolformer": {"image_processor_type": "PoolFormerImageProcessor"},
    "pvt": {"image_processor_type": "PvtImageProcessor"},
    "segformer": {
        "image_processor_type": "SegformerImageProcessor",
        "size": {"height": 128, "width": 128},
    },
    "siglip": {"image_processor_type": "SiglipImageProcessor"},
}

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

CLASS_ATTRIBUTES = (
    *("do_resize", "size", "resample", "do_center_crop", "crop_size", "do_rescale", "do_normalize"),
    *("rescale_factor", "image_mean", "image_std", "default_to_square", "do_convert_rgb"),
    *("crop_pct", "rescale_offset", "include_top", "do_flip_channel_order"),
)


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
    transform = create_transform(**resolve_data_config(pretrained_cfg=config))
    return lambda image: transform(image).numpy()


def level_table(library: Library) -> NDArray[np.float32]:
    """float32 [3, 256]: what the library makes of each 8-bit level, by channel of its output.

    An image of one colour has that colour after any resize, and in its centre after any crop.
    """
    table = np.empty((3, 256), dtype=np.float32)
    for level in range(256):
        output = np.asarray(library(Image.new("RGB", (32, 32), (level, level, level))))
        table[:, level] = output[:, output.shape[1] // 2, output.shape[2] // 2]
    assert (np.diff(table, axis=1) > 0).all()
    return table


def to_levels(output: NDArray[np.float32], table: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The 8-bit pixels before normalisation: uint8 [height, width, 3]."""
    assert output.ndim == 3, output.shape
    assert output.shape[0] == 3, output.shape
    levels = np.empty(output.shape, dtype=np.uint8)
    for channel, values in enumerate(output):
        middles = (table[channel, 1:] + table[channel, :-1]) / 2
        levels[channel] = np.searchsorted(middles, values)
        np.testing.assert_allclose(table[channel][levels[channel]], values, rtol=0, atol=2e-6)
    return levels.transpose(1, 2, 0)


def record(library: Library, *, with_alpha: bool) -> dict[str, Any]:
    """One configuration over all images."""
    table = level_table(library)
    images = [Image.fromarray(pixels(*size)) for size in SIZES]
    transparent = Image.fromarray(pixels(*TRANSPARENT, channels=4))
    images.append(transparent if with_alpha else transparent.convert("RGB"))
    digests = []
    for image in images:
        try:
            output = to_levels(np.asarray(library(image)), table)
        except Exception as error:
            digests.append(f"{type(error).__name__}: {error}")
            continue
        height, width = output.shape[:2]
        digests.append(hashlib.sha256(output.tobytes()).hexdigest()[:32])
    levels = base64.b64encode(table.astype("<f4").tobytes()).decode()
    return {"height": height, "width": width, "levels": levels, "pixels": digests}


def class_attributes() -> dict[str, dict[str, Any]]:
    """Class attributes of every image processor above, which are the defaults of absent keys."""
    attributes: dict[str, dict[str, Any]] = {}
    for document in HUGGINGFACE.values():
        found = huggingface_class(document)
        attributes[found.__name__.removesuffix("Pil")] = {
            name: getattr(found, name) for name in CLASS_ATTRIBUTES if hasattr(found, name)
        }
    return attributes


def main() -> None:
    """Write the golden file."""
    entries = []
    for name, config in TIMM.items():
        files = {"config.json": {"architecture": "resnet18", "pretrained_cfg": config}}
        entries.append({"name": f"timm {name}", "files": files}
                       | record(timm_library(config), with_alpha=False))  # fmt: skip
    for name, document in HUGGINGFACE.items():
        # transformers' pipeline converts to RGB before a processor that does not convert itself.
        white = bool(getattr(huggingface_class(document), "do_convert_rgb", None))
        white = bool(document.get("do_convert_rgb", white))
        entries.append({"name": f"hf {name}", "files": {"preprocessor_config.json": document}}
                       | record(huggingface_library(document), with_alpha=white))  # fmt: skip
    for name, library in PRESETS.items():
        entries.append({"name": f"preset {name}", "preprocess": name}
                       | record(library, with_alpha=False))  # fmt: skip
    versions = {
        module.__name__: module.__version__
        for module in (PIL, torch, torchvision, timm, transformers)
    }
    document = {
        "versions": versions | {"python": sys.version.split()[0]},
        "huggingface_classes": class_attributes(),
        "entries": entries,
    }
    OUTPUT.parent.mkdir(exist_ok=True)
    OUTPUT.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
