"""Export layout "jsonl": images in one folder, and one line of JSON per image."""

from __future__ import annotations

import json

from genaug.assembly.exports.layout import ExportLayout, File


def _tables(images):
    lines = [json.dumps({"file": name, "class": row.class_name, "split": row.split}) + "\n" for row, name in images]
    yield File("rows.jsonl", "".join(lines).encode())


ENTRY = ExportLayout(folder=lambda row: "images", tables=_tables)
