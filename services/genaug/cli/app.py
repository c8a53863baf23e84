"""The command line's root: which commands there are. A command's module is imported when it is called."""

from __future__ import annotations

import importlib
import os
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from genaug.cli.command import errors_told

# Module and Typer app of each noun and command, and its line in `genaug --help`. Importing them all would bring gRPC,
# protobuf and pydantic, and take most of a second.
COMMANDS = {
    "dataset": ("datasets:app", "Import and look at sealed datasets."),
    "run": ("runs:run_app", "Run the six steps."),
    "evaluation": ("runs:evaluation_app", "Train and score apart from a run."),
    "generator": ("images:generator_app", "Look at fine-tuned generators."),
    "classifier": ("images:classifier_app", "Look at trained classifiers."),
    "selection": ("images:selection_app", "Look at choices among dominant classes."),
    "images": ("images:images_app", "Draw images, and label images."),
    "store": ("store:app", "Look after the object store."),
    "model-server": (
        "model_server:app",
        "Run TorchServe as a model server, and keep its classifiers those of the store.",
    ),
    "server": ("processes:server_app", "Look after the server that commands start over --home."),
    "config": ("upkeep:config_app", "Look at the configuration."),
    "serve": ("processes:app", "Serve one of the services, or all of them."),
    "job": ("processes:app", "Run the Job of a request in the store."),
    "doctor": ("upkeep:app", "Check packages, device, store and database."),
    "version": ("upkeep:app", "Show the version, the code revision, and the libraries that shape results."),
    "gc": ("upkeep:app", "Remove objects from the store that no manifest names."),
}


class _Root(TyperGroup):
    """Commands by name, loaded when they are called."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        # For the help and for "did you mean"; `resolve_command` gives the command itself.
        self.commands = {name: TyperCommand(name, help=text) for name, (_, text) in COMMANDS.items()}

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name = args[0]
        return (name, load(name), args[1:]) if name in COMMANDS else super().resolve_command(ctx, args)


def load(name: str) -> Any:
    """Import the command or the group of commands `name`."""
    module, _, attribute = COMMANDS[name][0].partition(":")
    found: typer.Typer = getattr(importlib.import_module(f"genaug.cli.{module}"), attribute)
    commands = typer.main.get_group(found)
    return commands if found.info.name == name else commands.commands[name]


app = typer.Typer(
    name="genaug",
    cls=_Root,
    help="Diffusion-based augmentation of imbalanced image data, with an honest verdict.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


@app.callback()
def _root() -> None:
    pass


def main() -> None:
    """Run the command line."""
    # gRPC's C core says on stderr what our errors say better.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    with errors_told():
        app()
