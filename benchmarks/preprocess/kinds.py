"""The ways in which the models of this study were trained to be fed."""

from __future__ import annotations

from typing import Any

__all__ = ["PREPROCESSING"]

PREPROCESSING: dict[str, dict[str, Any]] = {
    "unit": {"scale": 1 / 255},
    "signed": {"scale": 2 / 255, "offset": -1.0},
    "raw": {"scale": 1.0},
    "imagenet": {
        "scale": 1 / 255,
        "mean": (0.485, 0.456, 0.406),
        "std": (0.229, 0.224, 0.225),
    },
    "caffe": {"scale": 1.0, "mean": (103.939, 116.779, 123.68), "channel_order": "bgr"},
}
"""Fields of `engines.preprocess.PreprocessSpec`."""
