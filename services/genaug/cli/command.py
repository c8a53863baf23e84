"""What all commands share: the options `--endpoint` and `--home`, the client, and how errors end a command."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperOption

from genaug.client import Client
from genaug.shared.errors import GenaugError
from genaug.shared.settings import Settings, load_settings

_flags: dict[str, str] = {}


def _remember(context: Any, option: Any, value: str | None) -> None:
    if value is not None:
        _flags[option.name] = value


class Command(TyperCommand):
    """A command that takes `--endpoint` and `--home`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name, text in (
            ("endpoint", "Server to call; without it, one is started over --home. [env: GENAUG_ENDPOINT]"),
            ("home", "Folder of store, database and logs. [env: GENAUG_HOME]"),
        ):
            self.params.append(
                TyperOption(
                    param_decls=[f"--{name}"],
                    required=False,
                    default=None,
                    help=text,
                    expose_value=False,
                    callback=_remember,
                    rich_help_panel="Where",
                )
            )


def group(name: str, text: str) -> typer.Typer:
    """A noun: a group of commands."""
    return typer.Typer(name=name, help=text, no_args_is_help=True, rich_markup_mode=None)


def settings(**flags: Any) -> Settings:
    """The configuration, with the options of this command line."""
    return load_settings(**_flags, **flags)


@contextmanager
def client() -> Iterator[Client]:
    """A client of the configured server, or of one of our own."""
    with Client(settings=settings()) as found:
        yield found


@contextmanager
def errors_told() -> Iterator[None]:
    """End the process with status 1 and one line on stderr when a GenaugError is raised."""
    try:
        yield
    except GenaugError as error:
        print(f"genaug: {error.message} [{error.reason}]", file=sys.stderr)  # noqa: T201
        raise SystemExit(1) from None
    except BrokenPipeError:
        # The reader of our output has had enough, as `| head` does.
        sys.stderr.close()
        raise SystemExit(1) from None


def resource(name: str, collection: str) -> str:
    """The resource name of what a person may write with or without its collection."""
    return name if name.startswith(f"{collection}/") else f"{collection}/{name}"


FormatOption = Annotated[str, typer.Option("--output", "-o", help="table, json or yaml")]
