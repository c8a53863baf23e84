"""Shared parts of all commands: the options `--endpoint` and `--home`, the client, the handling of errors."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer
from typer.core import TyperCommand

from genaug.shared.errors import GenaugError, InvalidArgument
from genaug.shared.tracing import configure_tracing, parent_of, span

# Loaded by the commands that need them: `genaug --help` imports this module.
if TYPE_CHECKING:
    from genaug.client import Client
    from genaug.shared.settings import Settings
    from genaug.v1 import common_pb2

EndpointOption = Annotated[
    str | None,
    typer.Option("--endpoint", help="Server to call; without it, one is started over --home. [env: GENAUG_ENDPOINT]"),
]
HomeOption = Annotated[
    str | None, typer.Option("--home", help="Folder of store, database and logs. [env: GENAUG_HOME]")
]

_flags: dict[str, str] = {}
_command_line = ["genaug"]
"""Names of nested commands; the last is the running one, such as "genaug run create"."""


class _Command(TyperCommand):
    """Command with help in sections, by the options' `rich_help_panel`; typer itself does so in rich markup alone."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            is_argument = parameter.param_type_name == "argument"
            section = getattr(parameter, "rich_help_panel", None) or ("Arguments" if is_argument else "Options")
            if record:
                sections.setdefault(section, []).append(record)
        for section, records in sections.items():
            with formatter.section(section):
                formatter.write_dl(records)


def command(app: typer.Typer, name: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add a function to `app` as the command `name`, with the options `--endpoint` and `--home` besides its own."""

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        @wraps(function)
        def call(*args: Any, endpoint: str | None, home: str | None, **kwargs: Any) -> None:
            _flags.update({key: value for key, value in (("endpoint", endpoint), ("home", home)) if value is not None})
            _command_line.append(" ".join(("genaug", app.info.name or "", name)).replace("genaug genaug", "genaug"))
            function(*args, **kwargs)

        shared = {"endpoint": EndpointOption, "home": HomeOption}
        own = inspect.signature(function, eval_str=True).parameters.values()
        more = [
            inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=option)
            for key, option in shared.items()
        ]
        # typer builds the options from these two.
        call.__signature__ = inspect.Signature([*own, *more])  # type: ignore[attr-defined]
        call.__annotations__ = function.__annotations__ | shared
        app.command(name, cls=_Command)(call)
        return function

    return decorate


def group(name: str, text: str) -> typer.Typer:
    """Return a group of commands, named by a noun."""
    return typer.Typer(name=name, help=text, no_args_is_help=True, rich_markup_mode=None)


def settings(**flags: Any) -> Settings:
    """Return the configuration, with the options of this command line."""
    from genaug.shared.settings import load_settings

    return load_settings(**_flags, **flags)


@contextmanager
def client() -> Iterator[Client]:
    """Open a client of the configured or the embedded server, within one trace."""
    from genaug.client import Client

    configure_tracing("cli")
    with span(_command_line[-1], parent=parent_of(os.environ)), Client(settings=settings(), notify=notify) as client:
        yield client


def printable(text: str) -> str:
    """Replace characters that a terminal would act on, such as control and bidirectional ones, by their escapes."""
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)


def notify(line: str) -> None:
    """Print a line about waiting, or a warning, on stderr."""
    print(f"genaug: {line}", file=sys.stderr, flush=True)  # noqa: T201


@contextmanager
def errors_told() -> Iterator[None]:
    """End the process with status 1 and one line on stderr when a GenaugError is raised."""
    try:
        yield
    except GenaugError as error:
        print(f"genaug: {printable(error.message)} [{error.reason}]", file=sys.stderr)  # noqa: T201
        raise SystemExit(1) from None
    except BrokenPipeError:
        # The reader of stdout has closed the pipe, as `| head` does.
        sys.stderr.close()
        raise SystemExit(1) from None


def resource(name: str, collection: str) -> str:
    """Return the resource name of a name with or without its collection."""
    return name if name.startswith(f"{collection}/") else f"{collection}/{name}"


FormatOption = Annotated[str, typer.Option("--output", "-o", help="table, json or yaml")]


def precision_named(name: str) -> common_pb2.Precision:
    """Return the `genaug.v1.Precision` of a `--precision`, which has no prefix.

    Raises:
        InvalidArgument: reason UNKNOWN_PRECISION.
    """
    from genaug.v1 import common_pb2

    names = [value.removeprefix("PRECISION_") for value in common_pb2.Precision.keys()[1:]]
    if name not in names:
        raise InvalidArgument(f"--precision {name}: there are {', '.join(names)}", reason="UNKNOWN_PRECISION")
    return cast("common_pb2.Precision", common_pb2.Precision.Value(f"PRECISION_{name}"))
