"""The 1,000 classes of ImageNet-1k (ILSVRC 2012), and when a model may be taken to have them.

The English names are torchvision's, unlike each other, under the BSD licence that lies beside
them (imagenet_1k.LICENSE); the synsets are WordNet's. Only what says ImageNet-1k in words counts:
many a model has 1,000 classes of its own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.resources import files

from engines.errors import ModelError
from engines.labels.names import ClassNames
from engines.labels.text import text_names

__all__ = ["BACKGROUND", "IMAGENET_1K", "IMAGENET_CLASSES", "imagenet_names", "says_imagenet"]

IMAGENET_1K = "imagenet-1k"
"""What `--labels` calls the list."""

IMAGENET_CLASSES = 1000
BACKGROUND = "background"
"""Class 0 of TensorFlow's models, which count 1,001 (slim's imagenet.py)."""

_SUBSET = re.compile(r"in[0-9]+k")
_WEIGHTS = re.compile(r"(?:torchvision/)?\w+Weights\.\w+")
"""torchvision's names of weights; all those of its classifiers are for ImageNet-1k."""


def imagenet_names(classes: int) -> ClassNames:
    """The list, with the background first where the model has a class more.

    Raises:
        ModelError: The model has another number of classes.
    """
    if classes not in (IMAGENET_CLASSES, IMAGENET_CLASSES + 1):
        raise ModelError(
            f"--labels {IMAGENET_1K} names 1000 classes, the model gives {classes} scores for an"
            " image; expected a model of 1000 classes, or of 1001 with the background first"
        )
    text = files("engines.labels").joinpath("imagenet_1k.txt").read_text("utf-8")
    names = text_names(text, IMAGENET_1K, classes=IMAGENET_CLASSES)
    if classes == IMAGENET_CLASSES:
        return names
    return ClassNames(
        names=(BACKGROUND, *names.names), descriptions=(BACKGROUND, *names.descriptions)
    )


def says_imagenet(config: Mapping[str, object], preprocess: str) -> str | None:
    """Where a model says that its classes are ImageNet-1k's, in words; None where it does not.

    timm names the last data set that weights were trained on at the end of their tag, as
    `augreg_in21k_ft_in1k` or `in1k_res384`. torchvision names it in its weights, and with them in
    a preset.

    Args:
        config: The content of config.json.
        preprocess: The preset that was asked for, or anything else.
    """
    nested = config.get("pretrained_cfg")
    tag = (nested if isinstance(nested, dict) else config).get("tag")
    if isinstance(tag, str):
        subsets = [part for part in tag.split("_") if _SUBSET.fullmatch(part)]
        if subsets[-1:] == ["in1k"]:
            return f"config.json: tag {tag}"
    return f"--preprocess {preprocess}" if _WEIGHTS.fullmatch(preprocess) else None
