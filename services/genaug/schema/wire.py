"""Mechanical conversion between schema models and protobuf messages: both have the same JSON form."""

from __future__ import annotations

from typing import TypeVar

from google.protobuf.message import Message

from genaug.schema.model import M, Model, parse
from genaug.shared.protojson import from_dict, to_dict

P = TypeVar("P", bound=Message)


def from_proto(kind: type[M], message: Message, *, path: str = "", reason: str = "BAD_REQUEST") -> M:
    """The model of a message.

    Raises:
        InvalidArgument: a field is out of range; the message names the path.
    """
    return parse(kind, to_dict(message), path=path, reason=reason)


def to_proto(kind: type[P], value: Model) -> P:
    """The message of a model."""
    return from_dict(kind, value.json_value())
