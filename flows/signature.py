"""One signature for one list of parameters; Prefect's form and the command line are made of it."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from typing import Annotated, Any, TypeVar

from cyclopts import Group, Parameter
from pydantic.fields import FieldInfo

from tasks.settings import Settings

__all__ = ["set_signature", "settings_signature", "takes_settings"]

Function = TypeVar("Function", bound=Callable[..., Any])

SECTIONS = {
    "images": "What, with which model, where to",
    "preprocess": "Preprocessing (default: what the model's own files say)",
    "labels": "Labels and scores",
    "backend": "Running the model",
    "shard_size": "Table and run",
}
"""The first parameter of each section of `--help`, and the section's title."""

SHORT = {"model": "-m", "output": "-o"}

METAVARS = {
    "images": "IMAGES",
    "model": "MODEL",
    "output": "OUT",
    "extensions": ".EXT...",
    "preprocess": "NAME|FILE",
    "input_size": "N|HxW",
    "resize_size": "N|HxW",
    "mean": "R G B",
    "std": "R G B",
    "labels": "FILE",
    "output_name": "NAME",
    "batch_size": "N|MIN:OPT:MAX",
    "image_size": "N|MIN:OPT:MAX",
    "run_id": "NAME",
}
"""What the help calls a value, where its type says too little."""

PATHS = Parameter(env_var_split=lambda _type, text: text.split(os.pathsep))
"""Directories may hold spaces: several in a variable are separated as in PATH."""


def settings_signature() -> inspect.Signature:
    """Build the signature whose parameters are the fields of `Settings`.

    Returns:
        `images` by position or by name, all others by name only. Each annotation carries the
        field's constraints, for Prefect and pydantic, and how the command line shows it.
    """
    parameters = []
    section = 0
    for name, field in Settings.model_fields.items():
        section += name in SECTIONS
        group = Group(list(SECTIONS.values())[section - 1], sort_key=section)
        parameters.append(
            inspect.Parameter(
                name,
                inspect.Parameter.POSITIONAL_OR_KEYWORD
                if name == "images"
                else inspect.Parameter.KEYWORD_ONLY,
                default=inspect.Parameter.empty if field.is_required() else field.default,
                annotation=Annotated[field.rebuild_annotation(), _option(name, field, group)],
            )
        )
    return inspect.Signature(parameters)


def takes_settings(function: Function) -> Function:
    """Give `function(images, **options)` the signature of `Settings`, and a docstring with Args.

    Prefect reads the descriptions of its form from the docstring, everything else from the
    signature.
    """
    arguments = "".join(
        f"    {name}: {field.description}\n" for name, field in Settings.model_fields.items()
    )
    set_signature(function, settings_signature())
    function.__doc__ = f"{inspect.getdoc(function)}\n\nArgs:\n{arguments}"
    return function


def set_signature(function: Callable[..., Any], signature: inspect.Signature) -> None:
    """Let everything that inspects `function` see `signature`."""
    function.__signature__ = signature  # type: ignore[attr-defined]
    function.__annotations__ = {
        name: parameter.annotation for name, parameter in signature.parameters.items()
    }


def _option(name: str, field: FieldInfo, group: Group) -> Parameter:
    """Spelling, help and section of one option."""
    option = "--" + name.replace("_", "-")
    is_flag = field.annotation is bool
    parameter = Parameter(
        name=[option, SHORT[name]] if name in SHORT else option,
        help=field.description,
        metavar=METAVARS.get(name),
        group=group,
        consume_multiple=name in ("images", "extensions") or None,
        negative=None if is_flag else "",
        show_default=False if is_flag or field.default is None else _words,
        show_env_var=False,
        # "-1-1" is a value, not an option.
        allow_leading_hyphen=name == "pixel_range",
    )
    return Parameter.combine(parameter, PATHS) if name == "images" else parameter


def _words(default: object) -> object:
    """A default as one would type it."""
    return " ".join(default) if isinstance(default, list) else default
