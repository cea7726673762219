"""Which names a model's classes have, and where that is written."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from engines.errors import ModelError
from engines.labels.config import config_names
from engines.labels.files import read_label_file
from engines.labels.imagenet import (
    BACKGROUND,
    IMAGENET_1K,
    IMAGENET_CLASSES,
    imagenet_names,
    says_imagenet,
)
from engines.labels.names import ClassNames, LabelType, class_names, is_placeholder
from engines.labels.text import literal_names
from engines.labels.triton import triton_label_file
from engines.preprocess.config_file import is_there

__all__ = ["LABEL_FILES", "Labels", "find_labels"]

LABEL_FILES = (
    *("labels.txt", "classes.txt", "synset.txt", "labels.csv", "labels.tsv", "labels.json"),
    *("id2label.json", "imagenet_class_index.json", "class_to_idx.json", "label2id.json"),
    "classmap.json",
)
"""Looked for beside the model, in this order, where its configurations name no classes."""

METADATA_KEY = "names"
"""Under which Ultralytics' exporter writes the names into an ONNX file."""

_IN_GRAPH = "the graph: ZipMap"

_NO_METADATA: Mapping[str, str] = {}

Found = tuple[ClassNames, str]
"""Names, and where they came from."""


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
    folder: Path,
    config: Mapping[str, object],
    *,
    classes: int,
    file: Path | None = None,
    label_type: LabelType = "description",
    keys: Sequence[str] = (),
    metadata_props: Mapping[str, str] = _NO_METADATA,
    preprocess: str = "auto",
    output_name: str = "",
) -> Labels:
    """Name the classes of a model.

    What names them, the first wins: --labels; words in the graph; config.json (id2label,
    label_names, label2id); the file that Triton's config.pbtxt names; a file beside the model
    (`LABEL_FILES`); the metadata in the ONNX file; ImageNet-1k's list, where the model says in
    words that it knows these classes; numbers in the graph. Names that only count (LABEL_0,
    LABEL_1, ...) are taken where nothing else is there.

    Args:
        folder: Holds the model's configuration and perhaps a file of labels.
        config: The content of its config.json; empty where there is none.
        classes: How many names the model needs.
        file: The user's own file, or 'imagenet-1k'; see `read_label_file` for the forms.
        label_type: What to take where a class has an identifier and a description of it.
        keys: Of the dictionary that the graph makes of the scores (ZipMap), in their order.
        metadata_props: Of the ONNX file.
        preprocess: What was asked for as preprocessing; torchvision's weights name their classes.
        output_name: The model's output that holds the scores.

    Returns:
        The names. Where nothing names them, Hugging Face's default: LABEL_0, LABEL_1, ...

    Raises:
        ModelError: A file cannot be read or understood, or names another number of classes.
    """

    def checked(names: ClassNames, source: str) -> Labels:
        _check_length(names, source, folder, classes)
        return Labels(names=names.texts(label_type), source=source)

    if file is not None:
        return checked(_asked_for(file, classes), f"--labels {file}")
    counting = None
    found = chain(
        _configured(config, folder, classes),
        _beside(folder, output_name, classes),
        _inside(metadata_props),
        _known(config, preprocess, classes),
    )
    for names, source in _with_keys(keys, found):
        if not is_placeholder(names.names):
            return checked(names, source)
        if counting is None and len(names.names) == classes:
            counting = Labels(names=names.names, source=f"{source}, which only counts the classes")
    return counting or Labels(
        names=tuple(f"LABEL_{index}" for index in range(classes)),
        source="default: nothing names the classes",
    )


def _asked_for(file: Path, classes: int) -> ClassNames:
    if str(file) == IMAGENET_1K:
        return imagenet_names(classes)
    return read_label_file(file, classes=classes)


def _with_keys(keys: Sequence[str], others: Iterator[Found]) -> Iterator[Found]:
    """What a graph calls its scores before other names if it is words, and behind if numbers.

    Nothing can bring it into another order than the scores. Numbers that only count say nothing.
    """
    words = not all(key.isdecimal() for key in keys)
    if words:
        yield class_names(keys, _IN_GRAPH), _IN_GRAPH
    yield from others
    if keys and not words and list(keys) != [str(index) for index in range(len(keys))]:
        yield class_names(keys, _IN_GRAPH), _IN_GRAPH


def _configured(config: Mapping[str, object], folder: Path, classes: int) -> Iterator[Found]:
    for names, key in config_names(config, folder, classes=classes):
        yield names, f"config.json: {key}"


def _beside(folder: Path, output_name: str, classes: int) -> Iterator[Found]:
    """Names in files of their own; Triton's configuration says which, elsewhere it is the name."""
    named = triton_label_file(folder, output_name)
    if named is not None:
        yield read_label_file(named, classes=classes), f"config.pbtxt: label_filename {named.name}"
    for name in LABEL_FILES:
        if is_there(folder / name):
            yield read_label_file(folder / name, classes=classes), name


def _inside(metadata_props: Mapping[str, str]) -> Iterator[Found]:
    """Names in the ONNX file itself."""
    text = metadata_props.get(METADATA_KEY)
    source = f"ONNX metadata: {METADATA_KEY}"
    names = None if text is None else literal_names(text, source)
    if names is not None:
        yield names, source


def _known(config: Mapping[str, object], preprocess: str, classes: int) -> Iterator[Found]:
    """Names that are not written down, because everybody knows the data set."""
    says = says_imagenet(config, preprocess)
    if says is not None and classes == IMAGENET_CLASSES:
        yield imagenet_names(classes), f"{IMAGENET_1K}, as {says}"


def _check_length(names: ClassNames, source: str, folder: Path, classes: int) -> None:
    count = len(names.names)
    if count == classes:
        return
    hint = "Correct that file or give another one with --labels"
    if count == classes - 1:
        hint += (
            ". Models of TensorFlow count the background as class 0: if this is one,"
            f" '{BACKGROUND}' comes first"
        )
    elif count == classes + 1 and names.names[0].lower() in (BACKGROUND, "__background__"):
        hint += f". Its first label is {names.names[0]!r}, which this model may not count"
    raise ModelError(
        f"{source} names {count} classes, the model in {folder} gives {classes} scores for an"
        f" image; expected one name for each. {hint}"
    )
