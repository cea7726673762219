"""The command line of classify_dir: read first, run then; imports nothing slow to show its help."""

from __future__ import annotations

import contextlib
import inspect
import logging
import os
import sys
import tomllib
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_type_hints

from cyclopts import App, ArgumentCollection, CycloptsError, Group, Parameter
from cyclopts.config import Dict, Env

from flows.interrupt import Interrupted, interruptible
from flows.report import Reporter
from flows.session import Session
from flows.signature import set_signature, settings_signature
from flows.usage import UsageError, checked, in_words
from tasks.settings import Settings

if TYPE_CHECKING:
    from tasks.finish import Summary

__all__ = ["main"]

PROGRAM = "python -m flows.classify_dir"
PREFIX = "NIGHTSHIFT_"
GROUP = Group("This command", sort_key=9)

INTRODUCTION = f"""\
Classify images with an ONNX model: one row for each image, in Parquet.
The same command again does only what is missing.

{PROGRAM} photos -m resnet50/ -o out

Every option can also stand in a TOML file (--config) or in a variable
({PREFIX}TOP_K=3). Flags win over variables, and variables over the file."""

EPILOGUE = """\
Exit codes: 0 done; 1 failed; 2 wrong usage or configuration; 3 done, but
more errors than --max-error-rate; 4 no image found; 130, 143 interrupted."""


logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Manners:
    """How the command behaves; none of it changes a row of the table."""

    config: Annotated[
        str | None,
        Parameter(help="File of options, as top_k = 3.", metavar="FILE.toml"),
    ] = None
    direct: Annotated[
        bool,
        Parameter(help="Run without Prefect, which starts seconds sooner."),
    ] = False
    json: Annotated[bool, Parameter(help="Print the summary as one JSON object.")] = False
    quiet: Annotated[bool, Parameter(help="Only warnings, errors and the summary.")] = False
    progress: Annotated[
        bool | None,
        Parameter(
            help="Show progress: a bar on a terminal, else lines. [default: yes]",
            negative="--no-progress",
        ),
    ] = None
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], Parameter(help="What stderr tells.")
    ] = "info"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A command line that was understood."""

    settings: Settings
    manners: Manners


def main(arguments: Sequence[str] | None = None) -> int:
    """Classify as the command line says.

    Returns:
        The exit code; 0 done, 1 failed, 2 wrong usage, 3 too many errors, 4 no image, 128 + signal.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    if not sys.warnoptions:
        warnings.simplefilter("ignore")  # what libraries deprecate is no news for our users
    session = Session()
    with interruptible():
        exit_code = _answer(arguments, session)
    if session.stranded:
        # Prefect's threads try for minutes to tell a server that is gone; all else is done.
        sys.stdout.flush()
        os._exit(exit_code)
    return exit_code


def _answer(arguments: Sequence[str], session: Session) -> int:
    """Read, run, and say how it ended."""
    reporter = Reporter(as_json="--json" in arguments)
    try:
        request = read(arguments)
        if request is None:
            return 0
        reporter.as_json = request.manners.json
        return reporter.finished(run(request, session))
    except Interrupted as stop:
        return reporter.interrupted(stop, session.progress)
    except Exception as error:
        return reporter.failed(error)


def read(arguments: Sequence[str]) -> Request | None:
    """Understand a command line.

    Returns:
        None where help or the version was asked for, which is printed then.

    Raises:
        UsageError: It asks for what cannot be; the message names field, value and what is expected.
    """
    try:
        command, bound, _ = _app().parse_args(arguments, exit_on_error=False, print_error=False)
        result = command(*bound.args, **bound.kwargs)
    except (CycloptsError, UsageError) as error:
        text = in_words(error) if isinstance(error, CycloptsError) else str(error)
        raise UsageError(f"{text}\n{PROGRAM} --help lists the options.") from error
    return result if isinstance(result, Request) else None


def run(request: Request, session: Session) -> Summary:
    """Do what was asked, under Prefect or directly."""
    with contextlib.redirect_stdout(sys.stderr), _showing(request.manners, session):
        _warn_of_unknown_variables()
        if request.manners.direct:
            from flows.direct import run_directly

            return run_directly(request.settings, session)
        from flows.orchestrated import run_under_prefect

        return run_under_prefect(request.settings, session)


def _app() -> App:
    app = App(
        name=PROGRAM,
        help=INTRODUCTION,
        help_format="plaintext",
        help_epilogue=EPILOGUE,
        version=_version,
        config=[Env(PREFIX, command=False), _config_file],
    )
    for name in ("--help", "--version"):
        app[name].group = GROUP
    app.default(_request)
    return app


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("nightshift")
    except PackageNotFoundError:
        return "not installed"


def _config_file(app: App, commands: tuple[str, ...], options: ArgumentCollection) -> None:
    """Read the file that --config names, for options that neither a flag nor a variable gives."""
    for option in options:
        if option.name == "--config" and option.tokens:
            path = option.tokens[0].value
            try:
                with open(path, "rb") as file:
                    values = tomllib.load(file)
            except (OSError, ValueError) as error:
                raise UsageError(f"config (--config): {path} cannot be read: {error}") from error
            Dict(values, source=path)(app, commands, options)


def _request(images: list[str] | str, **options: object) -> Request:
    own: dict[str, Any] = {
        field.name: options.pop(field.name, field.default) for field in fields(Manners)
    }
    return Request(settings=checked({"images": images, **options}), manners=Manners(**own))


def _signature() -> inspect.Signature:
    """The parameters of the flow, and those of the command line alone."""
    shown = Parameter(group=GROUP, negative="", show_env_var=False, show_default=False)
    hints = get_type_hints(Manners, include_extras=True)
    own = []
    for field in fields(Manners):
        annotation, parameter = get_args(hints[field.name])
        own.append(
            inspect.Parameter(
                field.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=field.default,
                annotation=Annotated[annotation, shown, parameter],
            )
        )
    return inspect.Signature([*settings_signature().parameters.values(), *own])


set_signature(_request, _signature())


def _warn_of_unknown_variables() -> None:
    """A misspelt variable would be silently without effect."""
    known = {PREFIX + name.upper() for name in _signature().parameters}
    for name in sorted(os.environ):
        if name.startswith(PREFIX) and name not in known:
            logger.warning("the variable %s is set, but there is no such option", name)


@contextlib.contextmanager
def _showing(manners: Manners, session: Session) -> Iterator[None]:
    """Log to stderr, and show progress there, while the run goes on."""
    from flows.console import log_to_stderr, progress_bar, progress_lines

    with log_to_stderr("warning" if manners.quiet else manners.log_level) as console:
        if manners.quiet or manners.progress is False:
            yield
        elif console.is_terminal:
            with progress_bar(console) as session.show:
                yield
        else:
            session.show = progress_lines()
            yield
