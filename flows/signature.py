"""One signature for one list of parameters; Prefect's form and the command line are made of it."""

from __future__ import annotations

import inspect
import os
import re
import types
from collections.abc import Callable, Sequence
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

from cyclopts import Group, Parameter, Token
from pydantic.fields import FieldInfo

from tasks.parameters import Parameters

__all__ = ["set_signature", "settings_signature", "takes_settings"]

Function = TypeVar("Function", bound=Callable[..., Any])

WHAT = "What, with which model, where to"
SCORES = "Labels and scores"
RUNNING = "Running the model"

SECTIONS = {
    "model": WHAT,
    "preprocess": "Preprocessing (default: what the model's own files say)",
    "labels": SCORES,
    "precision": RUNNING,
    "engine_cache": "TensorRT engine (commands with the same options share it)",
    "images": WHAT,
    "topk_format": SCORES,
    "backend": RUNNING,
    "shard_size": "Table and run",
    "rebuild": "This build",
    "html": "The report",
    "source": WHAT,
    "checkpoint": "Weights",
    "opset": "The file",
    "quick": "The check",
    "rows_per_file": "The files",
}
"""Where a section of `--help` begins among the fields of settings, or goes on; in order."""

SHORT = {"model": "-m", "output": "-o"}

METAVARS = {
    "images": "IMAGES",
    "model": "MODEL",
    "output": "OUT",
    "model_sha256": "DIGEST",
    "target": "ELSEWHERE",
    "model_id": "NAME@DIGEST",
    "source": "LIBRARY:NAME",
    "checkpoint": "FILE",
    "extensions": ".EXT...",
    "image_column": "NAME",
    "uri_column": "NAME",
    "root": "FOLDER",
    "keep_columns": "NAME...",
    "preprocess": "NAME|FILE",
    "input_size": "N|HxW",
    "resize_size": "N|HxW",
    "mean": "R G B",
    "std": "R G B",
    "labels": "FILE|NAME",
    "output_name": "NAME",
    "embedding_name": "NAME",
    "batch_size": "N|MIN:OPT:MAX",
    "image_size": "N|MIN:OPT:MAX",
    "calibration_images": "FOLDER",
    "gate_from": "FOLDER",
    "engine_cache": "FOLDER",
    "workspace": "SIZE",
    "device_memory": "GIB",
    "build_timeout": "SECONDS",
    "decode_timeout": "SECONDS",
    "max_image_memory": "SIZE",
    "seconds": "SECONDS",
    "html": "FILE",
    "run_id": "NAME",
}
"""What the help calls a value, where its type says too little."""

PATHS = Parameter(
    env_var_split=lambda _type, text, delimiter=None: text.split(delimiter or os.pathsep)
)
"""Directories may hold spaces: several in a variable are separated as in PATH."""


CONVERTERS: dict[frozenset[object], Callable[[object, Sequence[Token]], object]] = {
    frozenset({int}): lambda _type, tokens: _integer(tokens[0].value),
    frozenset({int, str}): lambda _type, tokens: _integer_or_text(tokens[0].value),
}
"""Numbers are decimal digits: left to itself, cyclopts takes 2.5 for 2, and 0x3 for 3."""


def settings_signature(kind: type[Parameters]) -> inspect.Signature:
    """Build the signature whose parameters are the fields of some settings.

    Returns:
        `kind.positionals` by position or by name, all others by name only; section by section, and
        in each what must be given first. Each annotation carries the field's constraints, for
        Prefect and pydantic, and how the command line shows it.
    """
    titles = list(dict.fromkeys(["What", *SECTIONS.values()]))
    title = titles[0]
    placed = []
    for name, field in kind.model_fields.items():
        title = SECTIONS.get(name, title)
        place = (titles.index(title), name not in kind.positionals(), not field.is_required())
        placed.append((place, _parameter(kind, name, field, Group(title, sort_key=place[0]))))
    return inspect.Signature([parameter for _, parameter in sorted(placed, key=lambda p: p[0])])


def _parameter(
    kind: type[Parameters], name: str, field: FieldInfo, group: Group
) -> inspect.Parameter:
    return inspect.Parameter(
        name,
        inspect.Parameter.POSITIONAL_OR_KEYWORD
        if name in kind.positionals()
        else inspect.Parameter.KEYWORD_ONLY,
        default=inspect.Parameter.empty if field.is_required() else field.default,
        annotation=Annotated[field.rebuild_annotation(), _option(name, field, group)],
    )


def takes_settings(kind: type[Parameters]) -> Callable[[Function], Function]:
    """Give a function the signature of some settings, and a docstring with Args.

    Prefect reads the descriptions of its form from the docstring, everything else from the
    signature.
    """

    def decorate(function: Function) -> Function:
        signature = settings_signature(kind)
        arguments = "".join(
            f"    {name}: {kind.model_fields[name].description}\n" for name in signature.parameters
        )
        set_signature(function, signature)
        function.__doc__ = f"{inspect.getdoc(function)}\n\nArgs:\n{arguments}"
        return function

    return decorate


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
        consume_multiple=name in ("images", "extensions", "keep_columns") or None,
        negative=None if is_flag else "",
        show_default=False if is_flag or field.default is None else _words,
        show_env_var=False,
        converter=CONVERTERS.get(_bases(field.annotation)),
        # "-1-1" is a value, not an option.
        allow_leading_hyphen=name == "pixel_range",
    )
    return Parameter.combine(parameter, PATHS) if name == "images" else parameter


def _integer(text: str) -> int:
    if not re.fullmatch(r"[+-]?[0-9]+", text):
        raise ValueError(f"{text!r} is no integer")
    return int(text)


def _integer_or_text(text: str) -> int | str:
    return int(text) if re.fullmatch(r"[0-9]+", text) else text


def _bases(annotation: object) -> frozenset[object]:
    """The types that an annotation allows, without None and without constraints."""
    if hasattr(annotation, "__metadata__"):
        return _bases(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        return frozenset().union(*map(_bases, get_args(annotation)))
    return frozenset() if annotation is types.NoneType else frozenset({annotation})


def _words(default: object) -> object:
    """A default as one would type it."""
    return " ".join(default) if isinstance(default, list) else default
