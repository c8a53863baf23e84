"""Mechanical conversion between schema models and protobuf messages: both have the same JSON form."""

from __future__ import annotations

from typing import TypeVar

from google.protobuf.message import Message

from genaug.schema.common import Precision
from genaug.schema.model import M, Model, parse
from genaug.shared.errors import InvalidArgument
from genaug.shared.protojson import from_dict, to_dict
from genaug.v1 import common_pb2

P = TypeVar("P", bound=Message)


def from_proto(kind: type[M], message: Message, *, path: str = "", reason: str = "BAD_REQUEST") -> M:
    """The model of a message.

    Raises:
        InvalidArgument: a field is out of range; the message names the path.
    """
    return parse(kind, to_dict(message), path=path, reason=reason)


def precision_of(number: int) -> Precision:
    """The number format of a request; FLOAT32 where it is unset.

    Raises:
        InvalidArgument: reason UNKNOWN_PRECISION.
    """
    names = {value.number: value.name for value in common_pb2.Precision.DESCRIPTOR.values}
    if number not in names:
        raise InvalidArgument(f"precision: there is no number format {number}", reason="UNKNOWN_PRECISION")
    return Precision(names[number]) if number else Precision.FLOAT32


def to_proto(kind: type[P], value: Model) -> P:
    """The message of a model."""
    return from_dict(kind, value.json_value())
