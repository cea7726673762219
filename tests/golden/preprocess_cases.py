"""The configurations behind the golden file: as people have them, and of every kind."""

from __future__ import annotations

from typing import Any

__all__ = [
    "HALF",
    "HUGGINGFACE",
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "IMAGE_METADATA",
    "NESTED",
    "TIMM",
    "WEIGHTS",
    "custom_vision_files",
    "ultralytics_metadata",
]

HALF = [0.5, 0.5, 0.5]
IMAGENET_MEAN = [0.485, 0.456, 0.406]
IMAGENET_STD = [0.229, 0.224, 0.225]

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
    # As timm's validate.py runs such a model: at test_input_size, with test_crop_pct.
    "test size": {
        "input_size": [3, 160, 160],
        "test_input_size": [3, 192, 192],
        "crop_pct": 0.875,
        "test_crop_pct": 1.0,
    },
    "test size without a crop of its own": {
        "input_size": [3, 160, 160],
        "test_input_size": [3, 192, 192],
        "crop_pct": 0.9,
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
    "vit size list": {"image_processor_type": "ViTImageProcessor", "size": [112, 144]},
    "swin": {
        "feature_extractor_type": "ViTFeatureExtractor",
        "size": 224,
        "resample": 3,
        "image_mean": IMAGENET_MEAN,
        "image_std": IMAGENET_STD,
    },
    "beit 2021": {
        "feature_extractor_type": "BeitFeatureExtractor",
        "do_center_crop": False,
        "crop_size": 224,
        "size": 224,
        "image_mean": HALF,
        "image_std": HALF,
    },
    "deit 2021": {
        "feature_extractor_type": "DeiTFeatureExtractor",
        "do_center_crop": True,
        "crop_size": 224,
        "size": 256,
        "resample": 3,
        "image_mean": IMAGENET_MEAN,
        "image_std": IMAGENET_STD,
    },
    "resnet 2022": {
        "feature_extractor_type": "ConvNextFeatureExtractor",
        "crop_pct": 0.875,
        "size": 224,
        "resample": 3,
        "image_mean": IMAGENET_MEAN,
        "image_std": IMAGENET_STD,
    },
    "levit 2022": {"feature_extractor_type": "LevitFeatureExtractor", "size": 224},
    "mobilevit 2022": {
        "feature_extractor_type": "MobileViTFeatureExtractor",
        "do_center_crop": True,
        "crop_size": 256,
        "size": 288,
        "resample": 2,
        "do_flip_channel_order": True,
    },
    "poolformer 2022": {
        "feature_extractor_type": "PoolFormerFeatureExtractor",
        "crop_pct": 0.95,
        "size": 224,
        "image_mean": IMAGENET_MEAN,
        "image_std": IMAGENET_STD,
    },
    "efficientnet offset include_top": {
        "image_processor_type": "EfficientNetImageProcessor",
        "size": {"height": 240, "width": 240},
        "rescale_factor": 1 / 127.5,
        "rescale_offset": True,
        "include_top": True,
        "resample": 2,
    },
}

NESTED = ("clip", "siglip", "vit wide bicubic")
"""Of the above, once more as transformers 5 writes them: inside of processor_config.json."""

WEIGHTS = (
    "ResNet50_Weights.IMAGENET1K_V2",
    "ResNet50_QuantizedWeights.DEFAULT",
    "ConvNeXt_Tiny_Weights.IMAGENET1K_V1",
    "EfficientNet_B1_Weights.IMAGENET1K_V2",
    "EfficientNet_B3_Weights.IMAGENET1K_V1",
    "EfficientNet_V2_S_Weights.DEFAULT",
    "EfficientNet_V2_L_Weights.IMAGENET1K_V1",
    "Inception_V3_Weights.IMAGENET1K_V1",
    "MaxVit_T_Weights.IMAGENET1K_V1",
    "RegNet_Y_16GF_Weights.IMAGENET1K_SWAG_E2E_V1",
    "Swin_T_Weights.IMAGENET1K_V1",
    "Swin_V2_B_Weights.IMAGENET1K_V1",
    "VGG16_Weights.IMAGENET1K_FEATURES",
    "ViT_L_16_Weights.IMAGENET1K_V1",
)
"""Every filter, normalisation and proportion of resize to crop that torchvision's weights have."""


def custom_vision_files(pixel_format: str, pixel_range: str) -> dict[str, Any]:
    """What Custom Vision's exporter writes beside model.onnx, as far as it matters."""
    prefix = "CustomVision.Preprocess"
    return {
        "cvexport.manifest": {
            "DomainType": "Classification",
            "Platform": "ONNX",
            "ModelFileName": "model.onnx",
            "LabelFileName": "labels.txt",
            "MetadataPropsFileName": "metadata_properties.json",
            "SchemaVersion": "1.0",
        },
        "metadata_properties.json": {
            "CustomVision.Metadata.Version": "1.1",
            "CustomVision.Postprocess.Method": "ClassificationMultiClass",
            f"{prefix}.CropMethod": "FullImageShorterSide",
            f"{prefix}.NormalizeMean": "[0.0, 0.0, 0.0]",
            f"{prefix}.NormalizeStd": "[1.0, 1.0, 1.0]",
            f"{prefix}.ResizeMethod": "ByShorterSideAlign32",
            f"{prefix}.TargetHeight": "224",
            f"{prefix}.TargetWidth": "224",
            "Image.BitmapPixelFormat": pixel_format,
            "Image.ColorSpaceGamma": "SRGB",
            "Image.NominalPixelRange": pixel_range,
        },
    }


def ultralytics_metadata(height: int, width: int) -> dict[str, str]:
    """metadata_props as Ultralytics' exporter writes them, by str()."""
    return {
        "author": "Ultralytics",
        "task": "classify",
        "stride": "1",
        "batch": "1",
        "imgsz": str([height, width]),
        "names": str({0: "tench", 1: "goldfish"}),
        "channels": "3",
    }


IMAGE_METADATA = {
    "image.bitmappixelformat": "BGR8",
    "Image.ColorSpaceGamma": "SRGB",
    "Image.NominalPixelRange": "Normalized_1_1",
}
