"""Protobuf as plain JSON: field names as in the proto, 64-bit integers as numbers, enums by their full names."""

from __future__ import annotations

from typing import Any, TypeVar

from google.protobuf import json_format
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

M = TypeVar("M", bound=Message)

_INT64 = {
    FieldDescriptor.TYPE_INT64,
    FieldDescriptor.TYPE_UINT64,
    FieldDescriptor.TYPE_SINT64,
    FieldDescriptor.TYPE_FIXED64,
    FieldDescriptor.TYPE_SFIXED64,
}


def to_dict(message: Message) -> dict[str, Any]:
    """Return a message as plain JSON; unset fields are left out."""
    value: dict[str, Any] = json_format.MessageToDict(message, preserving_proto_field_name=True)
    return _numbers(value, message.DESCRIPTOR)


def from_dict(kind: type[M], value: dict[str, Any]) -> M:
    """Return plain JSON as a message of type `kind`. Fields unknown to this version are left out."""
    return json_format.ParseDict(value, kind(), ignore_unknown_fields=True)


def _numbers(value: dict[str, Any], descriptor: Any) -> dict[str, Any]:
    """Turn 64-bit integers, which ProtoJSON writes as strings for JavaScript, into numbers."""
    return {key: _number(item, descriptor.fields_by_name[key]) for key, item in value.items()}


def _number(value: Any, field: FieldDescriptor) -> Any:
    if isinstance(value, list):
        return [_number(item, field) for item in value]
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        entry = field.message_type.fields_by_name["value"]
        return {key: _number(item, entry) for key, item in value.items()}
    if field.message_type is not None and isinstance(value, dict):
        plain = field.message_type.full_name == "google.protobuf.Struct"
        return value if plain else _numbers(value, field.message_type)
    return int(value) if field.type in _INT64 else value
