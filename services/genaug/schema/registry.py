"""Registries of extensions: built-in entries, and those of other distributions by entry point."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from functools import cached_property
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar

from genaug.shared.errors import FailedPrecondition, InvalidArgument

T = TypeVar("T")


class Registry(Generic[T]):
    """Named entries of one kind of extension.

    Args:
        group: Entry-point group, such as "genaug.generators"; each entry point loads an object of type T.
        noun: Used in errors, such as "generator kind".
        builtin: Entries of this distribution.
    """

    def __init__(self, group: str, noun: str, builtin: Mapping[str, T]) -> None:
        self._group, self._noun = group, noun
        self._entries: dict[str, T] = dict(builtin)

    @cached_property
    def _entry_points(self) -> dict[str, EntryPoint]:
        found = {point.name: point for point in entry_points(group=self._group)}
        if clash := sorted(found.keys() & self._entries.keys()):
            raise FailedPrecondition(
                f"entry point {clash[0]!r} in {self._group} has the name of a built-in {self._noun}; rename it",
                reason="PLUGIN_NAME_TAKEN",
            )
        return found

    def names(self) -> list[str]:
        """Names of all entries, built-in ones first."""
        return [*self._entries, *(name for name in self._entry_points if name not in self._entries)]

    def get(self, name: str, *, path: str = "") -> T:
        """The entry `name`.

        Args:
            path: Path in the run file, for the error.

        Raises:
            InvalidArgument: no such entry.
            FailedPrecondition: its distribution cannot be imported.
        """
        if name not in self._entries:
            if name not in self._entry_points:
                raise InvalidArgument(
                    f"{path}: {self.unknown(name)}" if path else self.unknown(name), reason="UNKNOWN_NAME"
                )
            try:
                self._entries[name] = self._entry_points.pop(name).load()
            except Exception as error:
                raise FailedPrecondition(
                    f"{self._noun} {name!r} of entry point group {self._group} cannot be loaded: "
                    f"{type(error).__name__}: {error}",
                    reason="BROKEN_PLUGIN",
                ) from error
        return self._entries[name]

    def unknown(self, name: str) -> str:
        """The problem with a name that is not registered."""
        near = difflib.get_close_matches(name, self.names(), 1, 0.5)
        hint = f"did you mean {near[0]}? " if near else ""
        return f"{name!r} is no {self._noun}; {hint}there are {', '.join(self.names())}"


def load(reference: str) -> Any:
    """The object at "module:attribute", imported now."""
    module, _, attribute = reference.partition(":")
    return getattr(import_module(module), attribute)
