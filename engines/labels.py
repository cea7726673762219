"""What the classes are called: from the model's config.json, or a file beside it or of the user."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from engines.errors import ModelError

__all__ = ["LABEL_FILES", "Labels", "find_labels"]

LABEL_FILES = ("labels.txt", "classes.txt", "synset.txt")
"""Looked for beside the model, in this order, where config.json names no classes."""

CONFIG_KEYS = ("id2label", "label_names", "labels")
"""Hugging Face's key; timm's; timm's before 2023."""

MAX_LABEL_FILE_BYTES = 64 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Labels:
    """The name of each class.

    Attributes:
        names: Position is label_id. Two classes may share a name, as ImageNet's cranes do.
        source: Where they came from, as 'config.json: id2label' or '--labels names.txt'.
    """

    names: tuple[str, ...]
    source: str

    @property
    def digest(self) -> str:
        """SHA-256, in hexadecimal, of the names as a JSON list."""
        return hashlib.sha256(json.dumps(self.names).encode()).hexdigest()


def find_labels(
    folder: Path, config: Mapping[str, object], *, classes: int, file: Path | None = None
) -> Labels:
    """Name the classes of a model.

    Args:
        folder: Holds the model's configuration and perhaps a file of labels.
        config: The content of its config.json; empty where there is none.
        classes: How many names the model needs.
        file: The user's own file, which wins over all others: one label on a line; or JSON, a list
            of labels, an object of index to label (as id2label) or of label to index.

    Returns:
        The names. Where nothing names them, Hugging Face's default: LABEL_0, LABEL_1, ...

    Raises:
        ModelError: A file cannot be read or understood, or names another number of classes.
    """
    labels = _beside(folder, config) if file is None else _read_file(file, f"--labels {file}")
    if labels is None:
        names = tuple(f"LABEL_{index}" for index in range(classes))
        return Labels(names=names, source="default: nothing names the classes")
    if len(labels.names) != classes:
        raise ModelError(
            f"{labels.source} names {len(labels.names)} classes, the model in {folder} gives"
            f" {classes} scores for an image; expected one name for each. Correct that file or give"
            " another one with --labels"
        )
    return labels


def _beside(folder: Path, config: Mapping[str, object]) -> Labels | None:
    nested = config.get("pretrained_cfg")  # timm's; what stands outside of it wins
    for document in (config, nested if isinstance(nested, dict) else {}):
        for key in CONFIG_KEYS:
            if document.get(key):
                names = _names(document[key], f"{folder / 'config.json'}: {key}")
                return Labels(names=names, source=f"config.json: {key}")
    for name in LABEL_FILES:
        if (folder / name).is_file():
            return _read_file(folder / name, name)
    return None


def _read_file(file: Path, source: str) -> Labels:
    try:
        with open(file, "rb") as stream:
            content = stream.read(MAX_LABEL_FILE_BYTES + 1)
        if len(content) > MAX_LABEL_FILE_BYTES:
            raise ModelError(f"{file} is larger than 64 MiB; expected a list of labels")
        text = content.decode("utf-8-sig")
    except OSError as error:
        raise ModelError(f"cannot read the labels in {file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ModelError(f"the labels in {file} are not UTF-8: {error}") from error
    if file.suffix.lower() != ".json":
        return Labels(names=_lines(text, file), source=source)
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"cannot read the labels in {file} as JSON: {error}") from error
    if isinstance(document, dict):
        document = next((document[key] for key in CONFIG_KEYS if document.get(key)), document)
    return Labels(names=_names(document, str(file)), source=source)


def _lines(text: str, file: Path) -> tuple[str, ...]:
    """One label on a line; blank lines at the end are no labels."""
    lines = [line.strip() for line in text.rstrip().split("\n")]
    if "" in lines:
        raise ModelError(
            f"{file}: line {lines.index('') + 1} is empty; expected one label on each line"
        )
    return tuple(lines)


def _names(value: object, where: str) -> tuple[str, ...]:
    """Names from a JSON list, from index to name, or from name to index."""
    if isinstance(value, dict):
        if value and all(type(index) is int for index in value.values()):
            value = {str(index): name for name, index in value.items()}
        value = _in_order(value, where)
    if not (isinstance(value, list) and value and all(isinstance(name, str) for name in value)):
        raise ModelError(
            f"{where} is not a list of labels; expected a list of strings, or an object from 0, 1,"
            " 2, ... to strings"
        )
    return tuple(value)


def _in_order(by_index: dict[str, object], where: str) -> list[object]:
    """Values in numerical order of their keys, which must be 0, 1, 2, ... without a gap."""
    try:
        indices = {int(key): key for key in by_index}
    except ValueError as error:
        raise ModelError(f"{where}: {error}; expected the keys 0, 1, 2, ...") from error
    missing = next((index for index in range(len(by_index)) if index not in indices), None)
    if missing is not None:
        raise ModelError(
            f"{where} has {len(by_index)} labels but none for class {missing}; expected one for"
            f" each class from 0 to {len(by_index) - 1}"
        )
    return [by_index[indices[index]] for index in range(len(by_index))]
