"""Table of a selection for spreadsheets: `selected.csv`."""

from __future__ import annotations

import csv
import io

import pyarrow as pa

COLUMNS = ("image_id", "label", "x", "y")

# Characters that start a formula in spreadsheets, wide forms included.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


def selected_csv(manifest: pa.Table) -> bytes:
    """Encode the chosen rows of a selection's manifest as CSV in UTF-8: image_id, label (the class), x, y.

    Text is quoted. A class name that a spreadsheet would compute gets an apostrophe before it (OWASP, "CSV injection");
    a name that starts with an apostrophe gets another, so that removing one gives the name back.
    """
    sink = io.StringIO(newline="")
    sink.write(",".join(COLUMNS) + "\r\n")
    writer = csv.writer(sink, quoting=csv.QUOTE_NONNUMERIC)
    columns = [manifest.column(name) for name in ("image_id", "class", "chosen")]
    points = [manifest.column(name).to_numpy() for name in ("x", "y")]
    for image_id, label, chosen, x, y in zip(*(column.to_pylist() for column in columns), *points, strict=True):
        if chosen:
            # The shortest digits from which the float32 reads back.
            writer.writerow((image_id, _inert(label), float(str(x)), float(str(y))))
    return sink.getvalue().encode()


def _inert(text: str) -> str:
    return f"'{text}" if text.startswith((*_FORMULA, "'")) else text
