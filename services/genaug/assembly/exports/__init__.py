"""Layouts of exported datasets. Further ones may come from other distributions."""

from __future__ import annotations

from genaug.assembly.exports import csv, folders
from genaug.assembly.exports.layout import ExportLayout
from genaug.schema.registry import Registry

EXPORTS: Registry[ExportLayout] = Registry(
    "genaug.exports", "export layout", {"folders": folders.LAYOUT, "csv": csv.LAYOUT}
)
