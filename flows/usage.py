"""Bad values in words: which field, what was given, what was expected."""

from __future__ import annotations

import types
from collections.abc import Mapping
from typing import Literal, TypeVar, Union, get_args, get_origin

from cyclopts import Argument, CycloptsError
from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from flows.roots import allowed_roots
from tasks.locations import check_locations
from tasks.parameters import Parameters

__all__ = ["UsageError", "checked", "in_words"]

Kind = TypeVar("Kind", bound=Parameters)
Fields = Mapping[str, FieldInfo]

BOUNDS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}

KINDS: dict[object, str] = {
    bool: "true or false",
    float: "a finite number",
    int: "an integer",
    str: "a text",
}


class UsageError(Exception):
    """The command line, a variable or the configuration file asks for what cannot be."""

    exit_code = 2


def checked(kind: type[Kind], values: Mapping[str, object]) -> Kind:
    """Make settings of values by name; a flow and a command line do it here alike.

    Raises:
        UsageError: Some are wrong; the message has a line for each.
        SettingsError: One names a file that it may not.
    """
    try:
        settings = kind.model_validate(dict(values))
    except ValidationError as error:
        raise UsageError(_explain(error, kind.model_fields)) from error
    check_locations(settings, allowed_roots())
    return settings


def in_words(error: CycloptsError, kind: type[Parameters]) -> str:
    """What is wrong with a command line, a variable or a configuration file."""
    option = error.argument
    fields = kind.model_fields
    if option is None or option.field_info.name not in fields:
        return str(error)
    name = option.field_info.name
    if isinstance(error.__cause__, ValidationError):
        text = _explain(error.__cause__, fields, name)
    elif given := _given(error):
        text = f"{_called(name)}: {given!r} given, expected {_expected(fields[name])}"
    else:
        text = f"{_called(name)}: no value given. {fields[name].description}"
    return text + _origin(option)


def _explain(error: ValidationError, fields: Fields, name: str | None = None) -> str:
    """Turn pydantic's report on settings, or on one field's value, into a line for each field."""
    lines: dict[str, str] = {}
    for detail in error.errors(include_url=False):
        field_name = name or str(detail["loc"][0] if detail["loc"] else "")
        lines.setdefault(field_name, _line(field_name, detail, fields))
    return "\n".join(lines.values())


def _line(name: str, detail: ErrorDetails, fields: Fields) -> str:
    if not name:
        return _own_words(detail)
    if name not in fields:
        return f"{name}: there is no such parameter"
    if detail["type"] == "missing" and len(detail["loc"]) == 1:
        return f"{_called(name)}: no value given"
    own = detail["type"] == "value_error"
    wanted = _own_words(detail) if own else f"expected {_expected(fields[name])}"
    return f"{_called(name)}: {detail['input']!r} given, {wanted}"


def _own_words(detail: ErrorDetails) -> str:
    """The text of a ValueError that the settings raised themselves."""
    return str(detail["ctx"]["error"])


def _called(name: str) -> str:
    """A field as files and the command line spell it."""
    return f"{name} (--{name.replace('_', '-')})"


def _given(error: CycloptsError) -> str:
    """What was typed for an option, as far as cyclopts tells."""
    token = getattr(error, "token", None)
    return token.value if token else " ".join(getattr(error, "tokens_so_far", ()))


def _origin(option: Argument) -> str:
    """Where a value came from, if not from the command line."""
    for token in option.tokens:
        if token.source != "cli":
            return f" (from {token.keyword if token.source == 'env' else token.source})"
    return ""


def _expected(field: FieldInfo) -> str:
    """What a field accepts."""
    bounds = {
        sign: getattr(constraint, sign)
        for constraint in field.metadata
        for sign in BOUNDS
        if hasattr(constraint, sign)
    }
    if {"ge", "le"} <= bounds.keys():
        return f"{_kind(field.annotation)} from {bounds['ge']} to {bounds['le']}"
    limits = " and ".join(f"{BOUNDS[sign]} {bound}" for sign, bound in bounds.items())
    return f"{_kind(field.annotation)} {limits}".strip()


def _kind(annotation: object) -> str:
    """A type in words."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return "one of " + ", ".join(arguments)
    if origin in (Union, types.UnionType):
        return " or ".join(_kind(part) for part in arguments if part is not types.NoneType)
    if origin is tuple:
        return f"{len(arguments)} finite numbers"
    if origin is list:
        return "a list of texts"
    if hasattr(annotation, "__metadata__"):
        return _kind(arguments[0])
    return KINDS[annotation]
