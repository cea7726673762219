"""How commands behave: the options that are no parameter of a flow."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, fields
from typing import Annotated, Literal, get_args, get_type_hints

from cyclopts import Group, Parameter

__all__ = ["GROUP", "PREFIX", "Manners", "RunManners", "every_option", "parameters_of"]

PREFIX = "NIGHTSHIFT_"
GROUP = Group("This command", sort_key=99)


@dataclass(frozen=True, slots=True, kw_only=True)
class Manners:
    """How any command behaves; none of it changes what it makes."""

    config: Annotated[
        str | None,
        Parameter(help="File of options, as top_k = 3.", metavar="FILE.toml"),
    ] = None
    json: Annotated[bool, Parameter(help="Print the summary as one JSON object.")] = False
    quiet: Annotated[bool, Parameter(help="Only warnings, errors and the summary.")] = False
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], Parameter(help="What stderr tells.")
    ] = "info"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunManners(Manners):
    """How a command that runs a flow over many images behaves."""

    direct: Annotated[
        bool,
        Parameter(help="Run without Prefect, which starts seconds sooner."),
    ] = False
    progress: Annotated[
        bool | None,
        Parameter(
            help="Show progress: a bar on a terminal, else lines. [default: yes]",
            negative="--no-progress",
        ),
    ] = None


def parameters_of(kind: type[Manners]) -> list[inspect.Parameter]:
    """The options of some manners, as parameters of a signature."""
    shown = Parameter(group=GROUP, negative="", show_env_var=False, show_default=False)
    hints = get_type_hints(kind, include_extras=True)
    own = []
    for field in fields(kind):
        annotation, parameter = get_args(hints[field.name])
        own.append(
            inspect.Parameter(
                field.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=field.default,
                annotation=Annotated[annotation, shown, parameter],
            )
        )
    return own


def every_option() -> frozenset[str]:
    """The options of all commands: one file, or one set of variables, serves them all."""
    from tasks.doctor_settings import DoctorSettings
    from tasks.export_settings import ExportSettings
    from tasks.inspect_settings import InspectSettings
    from tasks.settings import BuildSettings, Settings
    from tasks.verify_settings import CompactSettings, VerifySettings

    kinds = (
        *(Settings, BuildSettings, DoctorSettings, ExportSettings, InspectSettings),
        *(VerifySettings, CompactSettings),
    )
    settings = {name for kind in kinds for name in kind.model_fields}
    return frozenset(settings | {field.name for field in fields(RunManners)})
