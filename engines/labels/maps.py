"""Names from JSON objects: from index to name, from name to index, and with gaps.

Keys are text in JSON, so that "10" stands before "2" in many files: order is by number, never by
text or by place in the file.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Literal

from engines.errors import ModelError
from engines.labels.names import ClassNames, class_names, from_pairs

__all__ = ["Direction", "by_index", "by_name", "either_way", "indexed", "unmapped"]

Direction = Literal["by_index", "by_name"]

_INDEX = re.compile(r"[0-9]{1,9}")


def by_index(document: Mapping[str, object], where: str) -> ClassNames:
    """Names from index to name, as id2label.

    Raises:
        ModelError: A key is no index, one is missing between 0 and the last, or a value no label.
    """
    return from_pairs(_in_order(indexed(document, where), where), where)


def by_name(document: Mapping[str, object], where: str) -> ClassNames:
    """Names from name to index, as torchvision's class_to_idx and Hugging Face's label2id.

    Raises:
        ModelError: A value is no index, two names share one, or one is missing.
    """
    names: dict[int, object] = {}
    for name, value in document.items():
        index = _index(value)
        if index is None:
            raise ModelError(f"{where}: {name!r} has the index {value!r}; expected 0, 1, 2, ...")
        if index in names:
            raise ModelError(
                f"{where}: {names[index]!r} and {name!r} both have the index {index}; expected one"
                " name for each class"
            )
        names[index] = name
    hint = "; two classes of one name cannot both stand in a map from name to index"
    return class_names(_in_order(names, where, hint), where)


def either_way(
    document: Mapping[str, object], where: str, *, expected: Direction | None = None
) -> ClassNames:
    """Names from an object of unknown direction.

    Numbers on one side alone tell it. Where both sides are numbers, because classes are called
    by numbers, the side that counts from 0 without a gap holds the indices; where both do, what is
    expected, and else JSON numbers, since names are text wherever they are not numbers.

    Args:
        document: As JSON has it.
        where: The file, for messages.
        expected: What its name says, as class_to_idx; decides where the content does not.

    Raises:
        ModelError: Neither side holds indices, or both could and would give different names.
    """
    forward = all(_index(key) is not None for key in document)
    inverted = all(_index(value) is not None for value in document.values())
    if forward != inverted:
        return (by_index if forward else by_name)(document, where)
    likely = by_name if expected == "by_name" else by_index
    if not forward:
        return likely(document, where)  # which says what is wrong
    plain, turned = _attempt(by_index, document, where), _attempt(by_name, document, where)
    if plain is None or turned is None or plain == turned:
        return plain or turned or likely(document, where)
    if expected is not None:
        return turned if expected == "by_name" else plain
    if all(type(value) is int for value in document.values()):
        return turned
    raise ModelError(
        f"{where} can be read from index to name and from name to index, with different results;"
        " call the file id2label.json or label2id.json"
    )


def indexed(document: Mapping[str, object], where: str) -> dict[int, object]:
    """Values by index, in the order of the document.

    Raises:
        ModelError: A key is no index, or the same as another one, as "1" and "01".
    """
    values: dict[int, object] = {}
    for key, value in document.items():
        index = _index(key)
        if index is None:
            raise ModelError(f"{where} has the key {key!r}; expected the keys 0, 1, 2, ...")
        if index in values:
            raise ModelError(f"{where} has two labels for class {index}; expected one")
        values[index] = value
    return values


def unmapped(values: Mapping[int, object], classes: int, where: str) -> list[object]:
    """One value for each class; the gaps of a map are filled as in timm, with <unmapped:INDEX>.

    Raises:
        ModelError: An index is beyond the model's classes.
    """
    last = max(values, default=0)
    if last >= classes:
        raise ModelError(
            f"{where} names class {last}, the model gives {classes} scores for an image; expected"
            f" indices from 0 to {classes - 1}"
        )
    return [values.get(index, f"<unmapped:{index}>") for index in range(classes)]


def _attempt(
    read: Callable[[Mapping[str, object], str], ClassNames],
    document: Mapping[str, object],
    where: str,
) -> ClassNames | None:
    try:
        return read(document, where)
    except ModelError:
        return None


def _index(value: object) -> int | None:
    if type(value) is int:
        return value if value >= 0 else None
    return int(value) if isinstance(value, str) and _INDEX.fullmatch(value) else None


def _in_order(values: Mapping[int, object], where: str, hint: str = "") -> list[object]:
    """Values of the indices 0, 1, 2, ... without a gap."""
    missing = next((index for index in range(len(values)) if index not in values), None)
    if missing is None:
        return [values[index] for index in range(len(values))]
    if min(values) == 1:
        hint = "; the file counts from 1, and must count from 0"
    raise ModelError(
        f"{where} has {len(values)} labels but none for class {missing}; expected one for each"
        f" class from 0 to {len(values) - 1}{hint}"
    )
