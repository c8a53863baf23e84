"""Layout "csv": images/<image id>.<suffix>, with train.csv and validation.csv as the published study writes them."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence

from genaug.assembly.exports.layout import ExportLayout, File
from genaug.shared.manifest import Row


def _tables(images: Sequence[tuple[Row, str]]) -> Iterator[File]:
    """Yield a table per split, with the columns filename,labels; labels are a Python list of one text: ['C']."""
    for split in ("train", "validation"):
        sink = io.StringIO()
        writer = csv.writer(sink, lineterminator="\n")
        writer.writerow(("filename", "labels"))
        writer.writerows((name, repr([row.class_name])) for row, name in images if row.split == split)
        yield File(f"{split}.csv", sink.getvalue().encode())


LAYOUT = ExportLayout(folder=lambda _: "images", tables=_tables)
