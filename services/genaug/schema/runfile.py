"""Run files: ProtoJSON in YAML, parsed strictly. An unknown key is an error that names its path and the nearest key."""

from __future__ import annotations

import difflib
from typing import Any, TypeVar

import yaml
from google.protobuf import json_format
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from genaug.schema.generators import ClassConditionalSpec, StableDiffusionSpec, from_flat_form
from genaug.shared.errors import InvalidArgument
from genaug.shared.protojson import from_dict

M = TypeVar("M", bound=Message)

MAX_BYTES = 1_000_000

# Each with the power of two that bounds it.
_INTEGERS = {FieldDescriptor.TYPE_INT32: 31, FieldDescriptor.TYPE_INT64: 63}
_REALS = {FieldDescriptor.TYPE_DOUBLE, FieldDescriptor.TYPE_FLOAT}
_LARGEST_REAL = 1e300


class _Loader(yaml.SafeLoader):
    """YAML without anchors (a few lines of them can fill the memory) and without repeated keys (one would be lost)."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.constructor.ConstructorError(None, None, "aliases are not allowed", mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, (str, int)):
                raise yaml.constructor.ConstructorError(None, None, "a key is not a word", key_node.start_mark)
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} stands twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


def load_yaml(text: str, *, source: str = "run file") -> dict[str, Any]:
    """Parse YAML whose top is a mapping.

    Raises:
        InvalidArgument: it is empty, too large, broken (with line and column), or no mapping.
    """
    if len(text) > MAX_BYTES:
        raise InvalidArgument(f"{source}: more than {MAX_BYTES} bytes", reason="BAD_YAML")
    try:
        value = yaml.load(text, _Loader)  # noqa: S506  # a SafeLoader
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "cannot be read"
        raise InvalidArgument(f"{source}{place}: {problem}", reason="BAD_YAML") from None
    except (ValueError, RecursionError) as error:
        raise InvalidArgument(f"{source}: cannot be read ({type(error).__name__})", reason="BAD_YAML") from None
    if value is None:
        raise InvalidArgument(f"{source} is empty; it needs at least `name` and `dataset`", reason="BAD_YAML")
    if not isinstance(value, dict):
        raise InvalidArgument(f"{source}: the top must be a mapping of keys to values", reason="BAD_YAML")
    return value


def apply_overrides(value: dict[str, Any], overrides: list[str]) -> dict[str, Any]:
    """Apply "path=value" settings in place, such as "evaluation.seeds=3" or "scenarios.0.synthetic=2"; return `value`.

    Raises:
        InvalidArgument: no "=", or the path leads through something that has no keys.
    """
    for override in overrides:
        path, found, text = override.partition("=")
        if not found or not path:
            raise InvalidArgument(f"--set {override!r} is not of the form path=value", reason="BAD_OVERRIDE")
        *parents, last = path.split(".")
        place: Any = value
        for part in parents:
            place = (
                place[_index(place, part, path)]
                if isinstance(place, list)
                else _mapping(place, path).setdefault(part, {})
            )
        try:
            new = yaml.load(text, _Loader)  # noqa: S506  # a SafeLoader
        except (yaml.YAMLError, ValueError, RecursionError):
            raise InvalidArgument(f"--set {path}: {text!r} is no YAML value", reason="BAD_OVERRIDE") from None
        if isinstance(place, list):
            place[_index(place, last, path)] = new
        else:
            _mapping(place, path)[last] = new
    return value


def _index(place: list[Any], part: str, path: str) -> int:
    if not part.isdecimal() or int(part) >= len(place):
        raise InvalidArgument(f"--set {path}: {part!r} is no index of a list of {len(place)}", reason="BAD_OVERRIDE")
    return int(part)


def _mapping(place: Any, path: str) -> dict[str, Any]:
    if not isinstance(place, dict):
        raise InvalidArgument(f"--set {path}: the path leads through a plain value", reason="BAD_OVERRIDE")
    return place


def parse_spec(value: dict[str, Any], kind: type[M]) -> M:
    """The message of type `kind` in a parsed run file.

    Enum values may be written without their prefix ("AGREE"), class names that look like numbers without quotes.

    Raises:
        InvalidArgument: a key is unknown, or a value has the wrong type; the message starts with the path.
    """
    if isinstance(value, dict):
        _refuse_flat_generator(value)
    plain = _message(value, kind.DESCRIPTOR, "")
    try:
        return from_dict(kind, plain)
    except json_format.ParseError as error:
        raise InvalidArgument(f"run file: {error}", reason="BAD_RUN_FILE") from None


# Keys of a generator's settings that stood beside `kind` before 0.6.
_FLAT = {*ClassConditionalSpec.model_fields, *StableDiffusionSpec.model_fields, "kind", "memorised"}


def _refuse_flat_generator(value: dict[str, Any]) -> None:
    """Refuse the generator block of releases before 0.6, and show today's form.

    Raises:
        InvalidArgument: reason OLD_RUN_FILE.
    """
    generator = value.get("generator")
    if not isinstance(generator, dict):
        return
    moved = sorted(_FLAT.intersection(generator))
    ranges = generator.get("transforms") if "kind" in generator or moved else None
    if not moved:
        return
    kind = str(generator.get("kind", "")).upper()
    try:
        form: dict[str, Any] = {"generator": from_flat_form(generator)}
    except ValueError as error:
        raise _fail("generator.kind", str(error)) from None
    if isinstance(ranges, dict) and kind != "TRANSFORMS":
        form["transforms"] = ranges
    raise InvalidArgument(
        f"generator.{moved[0]}: the settings of a kind have a block of their own, named like the kind; write:\n"
        + yaml.safe_dump(form, sort_keys=False).rstrip(),
        reason="OLD_RUN_FILE",
        path=f"generator.{moved[0]}",
    )


def _fail(path: str, problem: str) -> InvalidArgument:
    return InvalidArgument(f"{path}: {problem}", reason="BAD_RUN_FILE", path=path)


def _message(value: Any, descriptor: Any, path: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _fail(path or "run file", f"must be a mapping with keys {', '.join(descriptor.fields_by_name)}")
    result: dict[str, Any] = {}
    for key, item in value.items():
        where = f"{path}.{key}" if path else str(key)
        field = descriptor.fields_by_name.get(str(key))
        if field is None:
            near = difflib.get_close_matches(str(key), list(descriptor.fields_by_name), 1, 0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"the keys here are {', '.join(descriptor.fields_by_name)}"
            raise _fail(where, f"unknown key; {hint}")
        if item is not None:
            result[field.name] = _field(item, field, where)
    return result


def _field(value: Any, field: Any, path: str) -> Any:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        if not isinstance(value, dict):
            raise _fail(path, "must be a mapping")
        entry = field.message_type.fields_by_name["value"]
        return {str(key): _single(item, entry, f"{path}.{key}") for key, item in value.items()}
    if field.is_repeated:
        if not isinstance(value, list):
            raise _fail(path, "must be a list")
        return [_single(item, field, f"{path}[{index}]") for index, item in enumerate(value)]
    return _single(value, field, path)


def _single(value: Any, field: Any, path: str) -> Any:
    if field.message_type is not None and field.message_type.full_name == "google.protobuf.Struct":
        # An extension's settings: its own model checks them.
        if not isinstance(value, dict):
            raise _fail(path, "must be a mapping")
        return value
    if field.message_type is not None:
        return _message(value, field.message_type, path)
    if field.enum_type is not None:
        return _enum(value, field.enum_type, path)
    if field.type == FieldDescriptor.TYPE_BOOL:
        return _typed(value, (bool,), "true or false", path)
    if field.type in _INTEGERS:
        return _bounded(_typed(value, (int,), "a whole number", path), 2 ** _INTEGERS[field.type] - 1, path)
    if field.type in _REALS:
        return _bounded(_typed(value, (int, float), "a number", path), _LARGEST_REAL, path)
    # Classes such as 0 or 1 are words to us, whatever YAML takes them for.
    return str(_typed(value, (str, int), "text (put it in quotes)", path))


def _typed(value: Any, kinds: tuple[type, ...], wanted: str, path: str) -> Any:
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        raise _fail(path, f"{value!r} is not {wanted}")
    return value


def _bounded(value: float, largest: float, path: str) -> float:
    # A comparison with .nan is never true.
    if not -largest <= value <= largest:
        raise _fail(path, f"{str(value)[:40]} is no number that it can hold")
    return value


def _enum(value: Any, enum: Any, path: str) -> str:
    prefix = enum.values_by_number[0].name.removesuffix("UNSPECIFIED")
    short = {name.removeprefix(prefix): name for name in enum.values_by_name if not name.endswith("_UNSPECIFIED")}
    word = str(value).upper().replace("-", "_").removeprefix(prefix)
    if word not in short:
        near = difflib.get_close_matches(word, short, 1, 0.5)
        hint = f"did you mean {near[0]}? " if near else ""
        raise _fail(path, f"{value!r} is unknown; {hint}there are {', '.join(short)}")
    return str(short[word])
