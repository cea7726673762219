"""The folder that Azure Custom Vision exports: model.onnx, labels.txt and what says how to use it.

Source: Microsoft's own sample for these models, Azure-Samples/customvision-export-samples,
`samples/python/onnx/classification/predict.py`: Pillow's default resize, which is bicubic, straight
to the input's height and width, channels and range as the `Image.*` metadata say. Its README says
that the service itself prepares images slightly differently; how is not published.

One case is known of an export that states `Normalized_0_1` and scales by itself. Nothing in the
files tells; all scores come out alike, which the self-test of the model catches.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from engines.errors import ModelError
from engines.preprocess.config_file import is_there, read_json
from engines.preprocess.onnx_metadata import image_statement
from engines.preprocess.overrides import PreprocessOverrides
from engines.preprocess.statement import Statement, merge

__all__ = ["custom_vision_statement", "properties_statement"]

_MANIFEST = "cvexport.manifest"
_PROPERTIES = "metadata_properties.json"

_PREFIX = "CustomVision."
_SAMPLE = "Custom Vision: resized as Microsoft's sample does"
_IDENTITY = {"NormalizeMean": 0.0, "NormalizeStd": 1.0}
_SAY_IT = "name a preset with --preprocess, or say the preprocessing in flags"


def custom_vision_statement(folder: Path) -> Statement:
    """What an exported folder says of preprocessing; nothing where it is no such folder.

    The resize of Microsoft's sample is stated for every export; range and order of the channels
    only where metadata_properties.json has them. Older exports have them in the ONNX file.

    Raises:
        ModelError: The model detects objects, or its files ask for what is not reproduced.
    """
    if is_there(folder / _MANIFEST):
        _check_manifest(read_json(folder / _MANIFEST))
    elif not is_there(folder / _PROPERTIES):
        return Statement()
    if not is_there(folder / _PROPERTIES):
        return _sampled(_MANIFEST)
    return properties_statement(read_json(folder / _PROPERTIES), _PROPERTIES)


def properties_statement(document: Mapping[str, object], name: str) -> Statement:
    """What metadata_properties.json says, or another JSON file with `Image.*` keys.

    Args:
        document: The parsed file.
        name: The file's name, for sources and messages.

    Raises:
        ModelError: As `custom_vision_statement`.
    """
    stated = image_statement(document, name)
    if not any(key.startswith(_PREFIX) for key in document):
        return stated
    _check_properties(document, name)
    return merge([stated, _sampled(name)])


def _sampled(name: str) -> Statement:
    return Statement(
        origin=name,
        values=PreprocessOverrides(crop_mode="squash", interpolation="bicubic"),
        sources={"crop_mode": _SAMPLE, "interpolation": _SAMPLE},
        asks=("channel_order",),  # Microsoft's TensorFlow sample feeds BGR to the same models.
    )


def _check_manifest(manifest: Mapping[str, object]) -> None:
    domain = manifest.get("DomainType", "Classification")
    if domain != "Classification":
        raise ModelError(
            f"{_MANIFEST}: DomainType is {domain!r}; expected 'Classification'. This model gives no"
            " scores of classes for a whole image"
        )


def _check_properties(document: Mapping[str, object], name: str) -> None:
    method = document.get(f"{_PREFIX}Postprocess.Method", "Classification")
    if not str(method).startswith("Classification"):
        raise ModelError(
            f"{name}: {_PREFIX}Postprocess.Method is {method!r}; expected a classification. This"
            " model gives no scores of classes for a whole image"
        )
    for field, identity in _IDENTITY.items():
        key = f"{_PREFIX}Preprocess.{field}"
        value = document.get(key)
        if value is not None and _numbers(value) != [identity] * 3:
            raise ModelError(
                f"{name}: {key} is {value!r}; expected three times {identity:g}. Microsoft's"
                " sample ignores this key, and whether it means pixels of 0 to 1 or of 0 to 255 is"
                f" not published; {_SAY_IT}"
            )


def _numbers(value: object) -> object:
    """The list in a value, which exports write as JSON inside of a string."""
    try:
        return json.loads(value) if isinstance(value, str) else value
    except ValueError:
        return None
