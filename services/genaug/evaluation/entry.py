"""Base of the report's own rows."""

from __future__ import annotations

from typing import Any

from pydantic import model_serializer

from genaug.schema.model import Model


class Entry(Model):
    """Row of report.json: `class_name` is spelt "class" there, and an unknown number is null."""

    @model_serializer
    def _json(self) -> dict[str, Any]:
        return {"class" if name == "class_name" else name: value for name, value in self}
