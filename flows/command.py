"""A command over one list of parameters: read first, run then; help imports nothing slow."""

from __future__ import annotations

import contextlib
import inspect
import logging
import os
import sys
import tomllib
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from cyclopts import App, ArgumentCollection, CycloptsError
from cyclopts.config import Dict, Env

from flows.interrupt import Interrupted, interruptible
from flows.manners import GROUP, PREFIX, Manners, every_option, parameters_of
from flows.report import Ending, Reporter
from flows.roots import VARIABLE, allowed_roots
from flows.session import Session
from flows.signature import set_signature, settings_signature
from flows.usage import UsageError, checked, in_words
from tasks.locations import check_place
from tasks.parameters import Parameters

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["Command", "Request"]

Kind = TypeVar("Kind", bound=Parameters)
Own = TypeVar("Own", bound=Manners)

SOURCES = f"""\
Every option can also stand in a TOML file (--config) or in a variable
({PREFIX}TOP_K=3). Flags win over variables, and variables over the file."""

YES = {"1", "t", "true", "y", "yes"}
"""What cyclopts takes for true in a variable."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request(Generic[Kind, Own]):
    """A command line that was understood."""

    settings: Kind
    manners: Own


@dataclass(frozen=True, slots=True, kw_only=True)
class Command(Generic[Kind, Own]):
    """One command.

    Attributes:
        program: How it is typed.
        introduction: What `--help` begins with.
        epilogue: What it ends with.
        settings: Its parameters.
        manners: How it behaves besides.
        run: Does what was asked for; called with the console for whatever it shows.
        state: Says in words, after an interruption, what is done and what the same command does.
    """

    program: str
    introduction: str
    epilogue: str
    settings: type[Kind]
    manners: type[Own]
    run: Callable[[Request[Kind, Own], Session, Console], Ending]
    state: Callable[[Session], str]

    def main(self, arguments: Sequence[str] | None = None, session: Session | None = None) -> int:
        """Do what a command line says; returns the exit code, 128 + signal where one ended it."""
        session = session or Session()
        arguments = sys.argv[1:] if arguments is None else arguments
        # To cyclopts a lone dash is an option that it does not know.
        arguments = ["/dev/stdin" if word == "-" else word for word in arguments]
        if not sys.warnoptions:
            warnings.simplefilter("ignore")  # what libraries deprecate is no news for our users
        with interruptible():
            exit_code = self._answer(arguments, session)
        if session.stranded:
            # Prefect's threads try for minutes to tell a server that is gone; all else is done.
            sys.stdout.flush()
            os._exit(exit_code)
        return exit_code

    def read(self, arguments: Sequence[str]) -> Request[Kind, Own] | None:
        """Understand a command line.

        Returns:
            None where help or the version was asked for, which is printed then.

        Raises:
            UsageError: It asks for what cannot be; the message names field, value and what is
                expected.
        """
        try:
            command, bound, _ = self._app().parse_args(
                arguments, exit_on_error=False, print_error=False
            )
            result = command(*bound.args, **bound.kwargs)
        except (CycloptsError, UsageError) as error:
            text = str(error)
            if isinstance(error, CycloptsError):
                text = in_words(error, self.settings)
            raise UsageError(f"{text}\n{self.program} --help lists the options.") from error
        return result if isinstance(result, Request) else None

    def _answer(self, arguments: Sequence[str], session: Session) -> int:
        """Read, run, and say how it ended."""
        reporter = Reporter(as_json=_asks_for_json(arguments))
        try:
            request = self.read(arguments)
            if request is None:
                return 0
            reporter.as_json = request.manners.json
            return reporter.finished(self._run(request, session))
        except Interrupted as stop:
            return reporter.interrupted(stop, self.state(session))
        except Exception as error:
            return reporter.failed(error)

    def _run(self, request: Request[Kind, Own], session: Session) -> Ending:
        """Do what was asked for, and let nobody else write to stdout."""
        from flows.console import log_to_stderr

        level = "warning" if request.manners.quiet else request.manners.log_level
        with contextlib.redirect_stdout(sys.stderr), log_to_stderr(level) as console:
            _warn_of_unknown_variables()
            return self.run(request, session, console)

    def _app(self) -> App:
        from flows.console import Terminal

        app = App(
            console=Terminal(),
            name=self.program,
            help=f"{self.introduction}\n\n{SOURCES}",
            help_format="plaintext",
            help_epilogue=self.epilogue,
            version=_version,
            config=[Env(PREFIX, command=False), _config_file],
        )
        for name in ("--help", "--version"):
            app[name].group = GROUP
        app.default(self._request())
        return app

    def _request(self) -> Callable[..., Request[Kind, Own]]:
        """A function whose signature is the command line."""

        def request(*positionals: object, **options: object) -> Request[Kind, Own]:
            own: dict[str, Any] = {
                field.name: options.pop(field.name, field.default) for field in fields(self.manners)
            }
            values = dict(zip(self.settings.positionals(), positionals, strict=False)) | options
            return Request(settings=checked(self.settings, values), manners=self.manners(**own))

        parameters = settings_signature(self.settings).parameters.values()
        set_signature(request, inspect.Signature([*parameters, *parameters_of(self.manners)]))
        return request


def _asks_for_json(arguments: Sequence[str]) -> bool:
    """Whether an error is to be told as JSON, as far as can be known before all is understood."""
    return "--json" in arguments or os.environ.get(f"{PREFIX}JSON", "").lower() in YES


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
            check_place("config", path, allowed_roots())
            try:
                with open(path, "rb") as file:
                    values = tomllib.load(file)
            except (OSError, ValueError) as error:
                raise UsageError(f"config (--config): {path} cannot be read: {error}") from error
            others = every_option() - {option.field_info.name for option in options}
            mine = {key: values[key] for key in values if key.replace("-", "_") not in others}
            Dict(mine, source=path)(app, commands, options)


def _warn_of_unknown_variables() -> None:
    """A misspelt variable would be silently without effect."""
    ours = {name for name in os.environ if name.startswith(PREFIX)} - {VARIABLE}
    known = {PREFIX + name.upper() for name in every_option()} if ours else set()
    for name in sorted(ours - known):
        logger.warning("the variable %s is set, but there is no such option", name)
