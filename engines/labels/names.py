"""Class names as a file gives them, and the checks that every form of file shares."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from engines.errors import ModelError

__all__ = ["ClassNames", "LabelType", "class_names", "from_pairs", "is_placeholder"]

LabelType = Literal["name", "description", "detailed"]
"""timm's: the short name, as n01440764; what it means, as tench; both."""

_PLACEHOLDER = re.compile(r"(?:LABEL_|class_?)([0-9]+)")
"""What Hugging Face and Ultralytics write where nobody named the classes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassNames:
    """Names by position.

    Attributes:
        names: What the file calls the classes, or its identifiers where it has both.
        descriptions: What the identifiers mean; the names again where the file has no more.
    """

    names: tuple[str, ...]
    descriptions: tuple[str, ...]

    def texts(self, label_type: LabelType) -> tuple[str, ...]:
        """One text for each class."""
        if label_type == "name":
            return self.names
        if label_type == "description":
            return self.descriptions
        return tuple(
            name if name == meaning else f"{meaning} ({name})"
            for name, meaning in zip(self.names, self.descriptions, strict=True)
        )


def class_names(
    names: Sequence[object], where: str, descriptions: Sequence[object] | None = None
) -> ClassNames:
    """Check names that a file gives in order.

    A number is taken for its decimal text: classes are called 0 to 9 in many a model of digits.

    Args:
        names: By position.
        where: The file and the place in it, for messages.
        descriptions: By position; None where there are none.

    Raises:
        ModelError: There are none, or one is no text, is empty, or cannot be written as UTF-8.
    """
    if not names:
        raise ModelError(f"{where} names no class; expected a label for each class")
    checked = tuple(_text(name, index, where) for index, name in enumerate(names))
    if descriptions is None:
        return ClassNames(names=checked, descriptions=checked)
    meanings = tuple(_text(text, index, where) for index, text in enumerate(descriptions))
    return ClassNames(names=checked, descriptions=meanings)


def from_pairs(values: Sequence[object], where: str) -> ClassNames:
    """Names in order, where each may also be a pair of identifier and meaning, as Keras has them.

    Raises:
        ModelError: As `class_names`; or some are pairs and others are not.
    """
    if values and all(isinstance(value, list | tuple) and len(value) == 2 for value in values):
        names, meanings = zip(*values, strict=True)
        return class_names(names, where, meanings)
    return class_names(values, where)


def is_placeholder(names: Sequence[str]) -> bool:
    """Whether names say no more than their position: LABEL_0, LABEL_1, ... or class0, ..."""
    return all(
        (match := _PLACEHOLDER.fullmatch(name)) is not None and int(match[1]) == index
        for index, name in enumerate(names)
    )


def _text(value: object, index: int, where: str) -> str:
    if type(value) is int:
        return str(value)
    if not isinstance(value, str):
        raise ModelError(
            f"{where} is not a list of labels: class {index} is {value!r}; expected a text"
        )
    if not value.strip():
        raise ModelError(f"{where}: the label of class {index} is empty; expected a text")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ModelError(
            f"{where}: the label of class {index} is no valid text: {error}"
        ) from error
    return value
