"""A JSON configuration file, read field by field, that remembers where each value came from."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from engines.errors import ModelError
from engines.preprocess.spec import Triple

__all__ = ["ConfigFields", "is_there", "read_json"]

MAX_CONFIG_BYTES = 64 << 20
"""A config.json with 21,843 labels has 2 MiB; anything above this is another file."""


def is_there(path: Path) -> bool:
    """Whether a file lies beside a model.

    Raises:
        ModelError: A link lies there that leads nowhere, as in a copy of a cache without its blobs:
            what it would say is not known, and to go on without it would be a guess.
    """
    if path.is_file():
        return True
    if path.is_symlink() and not path.exists():
        raise ModelError(
            f"{path} is a link to {path.readlink()}, which is not there; expected a file. Copy"
            " the model with what its links lead to (cp -rL), or remove the link"
        )
    return False


def read_json(path: Path) -> dict[str, object]:
    """The JSON object in a file.

    Raises:
        ModelError: The file cannot be read, or does not hold a JSON object.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_CONFIG_BYTES + 1)
        if len(data) > MAX_CONFIG_BYTES:
            raise ModelError(f"{path}: larger than {MAX_CONFIG_BYTES} bytes; not a configuration")
        document = json.loads(data)
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path}: cannot be read as JSON: {error}") from error
    if not isinstance(document, dict):
        raise ModelError(f"{path}: holds {type(document).__name__}; expected a JSON object")
    return document


class ConfigFields:
    """Typed access to a configuration and the defaults of whatever would have read it.

    A key that is absent or null takes the default, as it does in timm and transformers.

    Attributes:
        sources: Field of the specification to where its value came from, in words.
    """

    def __init__(
        self,
        document: Mapping[str, object],
        *,
        name: str,
        defaults: Mapping[str, object],
        default_name: str,
    ) -> None:
        """Wrap a document.

        Args:
            document: The parsed file.
            name: The file's name, for sources and messages.
            defaults: Values of absent keys.
            default_name: Whose defaults these are, for sources.
        """
        self.sources: dict[str, str] = {}
        self._document = document
        self._name = name
        self._defaults = defaults
        self._default_name = default_name

    def __contains__(self, key: str) -> bool:
        return self._document.get(key) is not None

    def value(self, key: str, field: str | None = None) -> object:
        """The raw value of a key; `field` is the field of the specification that it decides."""
        given = key in self
        if field is not None:
            source = f"{self._name}: {key}" if given else f"{self._default_name} default"
            before = self.sources.get(field)
            self.sources[field] = source if before in (None, source) else f"{before}, {source}"
        return self._document[key] if given else self._defaults.get(key)

    def flag(self, key: str, field: str | None = None) -> bool:
        """A boolean; absent without a default is false."""
        value = self.value(key, field)
        if value is not None and not isinstance(value, bool):
            raise self.error(key, "true or false")
        return bool(value)

    def number(self, key: str, field: str | None = None) -> float:
        """A finite number above zero."""
        value = self.value(key, field)
        number = _number(value)
        if number is None or number <= 0:
            raise self.error(key, "a number above 0")
        return number

    def triple(self, key: str, field: str | None = None) -> Triple:
        """Three finite numbers, or one for all three channels."""
        value = self.value(key, field)
        single = _number(value)
        if single is not None:
            return single, single, single
        values = [_number(item) for item in value] if isinstance(value, Sequence) else []
        if len(values) == 1:
            values *= 3
        if len(values) != 3 or None in values:
            raise self.error(key, "3 numbers, one for each of the channels red, green and blue")
        red, green, blue = (item for item in values if item is not None)
        return red, green, blue

    def divisors(self, key: str, field: str | None = None) -> Triple:
        """Three numbers above zero."""
        values = self.triple(key, field)
        if min(values) <= 0:
            raise self.error(key, "numbers above 0")
        return values

    def error(self, key: str, expected: str) -> ModelError:
        """The error for a value of the wrong form."""
        value = json.dumps(self.value(key))
        shown = value if len(value) <= 80 else value[:77] + "..."
        return ModelError(f"{self._name}: {key} is {shown}; expected {expected}")


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)
