"""Base of all schema models: frozen, with errors that name each offending path."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self, TypeVar

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, ValidationError
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from genaug.shared.errors import InvalidArgument
from genaug.shared.store import Store, damaged

M = TypeVar("M", bound="Model")


class Model(BaseModel):
    """Immutable, validated value. Its JSON form has the proto's field names, and enums by their full names."""

    # Keys that this version does not know come from a newer one's records; run files are checked by `schema.runfile`.
    model_config = ConfigDict(frozen=True, extra="ignore", ser_json_inf_nan="constants")

    def json_value(self) -> dict[str, Any]:
        """Plain JSON, without fields that are None."""
        return self.model_dump(mode="json", exclude_none=True)

    def replace(self, **fields: Any) -> Self:
        """A validated copy with `fields` changed.

        Raises:
            InvalidArgument: a value is out of range.
        """
        return parse(type(self), {**self.__dict__, **fields})


@dataclass(frozen=True)
class Within:
    """Annotation of a number: its lowest and highest value, both allowed. NaN is refused."""

    low: float
    high: float

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def _check(self, value: float) -> float:
        if not self.low <= value <= self.high:
            raise PydanticCustomError(
                "range", "{value} is not within {low} and {high}",
                {"value": value, "low": f"{self.low:g}", "high": f"{self.high:g}"},
            )  # fmt: skip
        return value


def problem(field: str, text: str) -> PydanticCustomError:
    """The error of a model validator about one of its fields; `parse` adds the field to the path."""
    return PydanticCustomError("field", "{text}", {"field": field, "text": text})


def parse(kind: type[M], value: Mapping[str, Any], *, path: str = "", reason: str = "BAD_RUN_FILE") -> M:
    """Validate plain JSON.

    Args:
        kind: The model.
        value: JSON with proto field names.
        path: Prefix of the paths in errors, such as "generator".
        reason: Reason word of the error.

    Raises:
        InvalidArgument: fields are wrong; the message names each path and problem.
    """
    try:
        return kind.model_validate(dict(value))
    except ValidationError as error:
        raise refusal([_problem(entry, path) for entry in error.errors(include_url=False)], reason=reason) from None


def refusal(problems: Iterable[tuple[str, str]], *, reason: str = "BAD_RUN_FILE") -> InvalidArgument:
    """One error for all `problems`: (path, text) pairs."""
    found = list(dict.fromkeys(problems))
    return InvalidArgument("; ".join(f"{path}: {text}" for path, text in found), reason=reason, path=found[0][0])


def read(store: Store, key: str, kind: type[M]) -> M:
    """Read a JSON record from the store.

    Raises:
        NotFound: no such object.
        FailedPrecondition: reason DAMAGED_OBJECT; it is no record of this kind.
    """
    value = store.get_json(key)
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        path, text = _problem(error.errors(include_url=False)[0], "")
        raise damaged(key, f"{path or 'record'}: {text}") from None


def _problem(entry: Any, prefix: str) -> tuple[str, str]:
    context = entry.get("ctx", {})
    path = prefix
    for part in (*entry["loc"], *([context["field"]] if entry["type"] == "field" else [])):
        path += f"[{part}]" if isinstance(part, int) else f"{'.' if path else ''}{part}"
    if entry["type"] == "enum":
        return path, f"{entry['input']!r} is unknown; there are {_enum_words(context.get('expected', ''))}"
    if entry["type"] == "missing":
        return path, "is required"
    return path, entry["msg"]


def _enum_words(expected: str) -> str:
    """Enum values as a run file writes them: without their common prefix."""
    words = [word.strip(" '") for word in expected.replace(" or ", ",").split(",")]
    prefix = words[0].split("_")[0] + "_"
    return ", ".join(word.removeprefix(prefix) for word in words)
