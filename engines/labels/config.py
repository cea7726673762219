"""Names from a model's config.json: Hugging Face's keys, and timm's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from engines.errors import ModelError
from engines.labels.maps import by_index, by_name, indexed, unmapped
from engines.labels.names import ClassNames, class_names, from_pairs

__all__ = ["config_names"]

_TIMM_KEYS = ("label_names", "labels")
"""timm's key, and the one it had before 2023."""


def config_names(
    config: Mapping[str, object], folder: Path, *, classes: int
) -> Iterator[tuple[ClassNames, str]]:
    """All names that a configuration gives, best first, with the key that each is from.

    What stands outside of timm's `pretrained_cfg` wins over what stands in it. `label2id` comes
    last: it cannot name two classes alike. What is not asked for is not read.

    Args:
        config: The content of config.json.
        folder: Where it lies, for messages.
        classes: Scores of the model; timm's maps may name only some of them.

    Raises:
        ModelError: A key is there and not understood.
    """
    where = folder / "config.json"
    if config.get("id2label"):
        yield _id2label(config["id2label"], f"{where}: id2label"), "id2label"
    nested = config.get("pretrained_cfg")
    inner = nested if isinstance(nested, dict) else {}
    descriptions = config.get("label_descriptions") or inner.get("label_descriptions")
    for document in (config, inner):
        for key in _TIMM_KEYS:
            if document.get(key):
                yield _timm(document[key], descriptions, where, key, classes)
    label2id = config.get("label2id")
    if isinstance(label2id, dict) and label2id:
        yield by_name(label2id, f"{where}: label2id"), "label2id"


def _id2label(value: object, where: str) -> ClassNames:
    if isinstance(value, dict):
        return by_index(value, where)
    return from_pairs(_list(value, where), where)


def _timm(
    value: object, descriptions: object, where: Path, key: str, classes: int
) -> tuple[ClassNames, str]:
    """Names of timm, in the words of its descriptions, which go by name and not by index."""
    names, source = _timm_names(value, f"{where}: {key}", classes)
    checked = class_names(names, f"{where}: {key}")
    if not descriptions:
        return checked, f"{key}{source}"
    if not isinstance(descriptions, dict):
        raise ModelError(
            f"{where}: label_descriptions is not an object; expected one from name to description"
        )
    meanings = [descriptions.get(name, name) for name in checked.names]
    described = class_names(checked.names, f"{where}: label_descriptions", meanings)
    return described, f"{key}{source} and label_descriptions"


def _timm_names(value: object, where: str, classes: int) -> tuple[list[object], str]:
    """A list, or a map that may have gaps; and how much of the classes it names, in words."""
    if not isinstance(value, dict):
        return _list(value, where), ""
    values = indexed(value, where)
    if sorted(values) == list(range(len(values))):  # Without gaps it is a list, as long as it is.
        return [values[index] for index in range(len(values))], ""
    return unmapped(values, classes, where), f" ({len(values)} of {classes} classes)"


def _list(value: object, where: str) -> list[object]:
    if not isinstance(value, list):
        raise ModelError(
            f"{where} is not a list of labels; expected a list of strings, or an object from 0, 1,"
            " 2, ... to strings"
        )
    return value
