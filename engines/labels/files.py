"""Names from a file of labels, whatever form it has."""

from __future__ import annotations

from pathlib import Path

from engines.errors import ModelError
from engines.labels.maps import Direction, either_way
from engines.labels.names import ClassNames, from_pairs
from engines.labels.text import read_json_text, table_names, text_names

__all__ = ["read_label_file"]

MAX_LABEL_FILE_BYTES = 64 << 20
"""A list of 21,843 labels has 2 MiB."""

_EXPECTED: dict[str, Direction] = {
    **dict.fromkeys(("id2label", "idx2label", "idx_to_class", "imagenet_class_index"), "by_index"),
    **dict.fromkeys(("label2id", "label2idx", "class_to_idx", "classmap"), "by_name"),
}
"""By the name of a file, or of a key in one."""

_KEYS = ("id2label", "label_names", "labels", "names", "label2id", "class_to_idx")
"""Under which a larger document keeps its labels; in this order."""


def read_label_file(file: Path, *, classes: int) -> ClassNames:
    """Names from a text, JSON, CSV or TSV file.

    Raises:
        ModelError: It cannot be read, or not be understood; see `text_names`, `table_names` and
            `either_way` for what can.
    """
    text = _read(file)
    suffix = file.suffix.lower()
    where = str(file)
    if suffix in (".csv", ".tsv"):
        return table_names(text, where, tabs=suffix == ".tsv")
    if suffix != ".json":
        return text_names(text, where, classes=classes)
    document, kind = read_json_text(text, where), file.stem.lower()
    if isinstance(document, dict):
        for key in _KEYS:
            if isinstance(document.get(key), dict | list) and document[key]:
                document, kind, where = document[key], key, f"{file}: {key}"
                break
    if isinstance(document, dict):
        return either_way(document, where, expected=_EXPECTED.get(kind))
    if isinstance(document, list):
        return from_pairs(document, where)
    raise ModelError(
        f"{where} is not a list of labels; expected a list of strings, or an object from 0, 1,"
        " 2, ... to strings"
    )


def _read(file: Path) -> str:
    try:
        with open(file, "rb") as stream:
            content = stream.read(MAX_LABEL_FILE_BYTES + 1)
        if len(content) > MAX_LABEL_FILE_BYTES:
            raise ModelError(f"{file} is larger than 64 MiB; expected a list of labels")
        return content.decode("utf-8-sig")
    except OSError as error:
        raise ModelError(f"cannot read the labels in {file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ModelError(f"the labels in {file} are not UTF-8: {error}") from error
