"""Conflicts of a source's own split are shown by the names of its files, which the server may not name."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import numpy as np
import pytest
from PIL import Image

from genaug.cli.imports import import_spec
from genaug.client import Client
from genaug.schema.run import ImportSpec
from genaug.shared.errors import InvalidArgument


class Refusing:
    """A server that finds two conflicts."""

    def import_dataset(self, *args: object, **options: object) -> None:
        raise InvalidArgument("two pairs", reason="SUBJECT_ON_TWO_SIDES", pairs="0:2,1:2")


def test_pairs_of_rows_are_shown_as_files(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for number in range(3):
        Image.fromarray(np.full((8, 8), number, np.uint8)).save(tmp_path / f"[b]{number}.png")
    lines = ["filename,label,side", "[b]0.png,a,train", "[b]1.png,b,validation", "[b]2.png,a,test"]
    table = tmp_path / "table.csv"
    table.write_text("\n".join(lines))
    spec = ImportSpec(format="csv", csv=str(table), images=str(tmp_path), split_column="side")
    with pytest.raises(InvalidArgument):
        import_spec(cast(Client, Refusing()), "d", spec)
    shown = " ".join(capfd.readouterr().err.split())
    assert "conflict: [b]0.png (row 0, train) and [b]2.png (row 2, test)" in shown
    assert "conflict: [b]1.png (row 1, validation) and [b]2.png (row 2, test)" in shown
