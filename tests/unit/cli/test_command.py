from __future__ import annotations

import pytest

from genaug.cli.command import errors_told, printable
from genaug.cli.output import make_table
from genaug.shared.errors import InvalidArgument


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("eye ü 👁.png", "eye ü 👁.png"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("a\0b\x1b[2J", "a\\x00b\\x1b[2J"),
        ("\udcff.png", "\\udcff.png"),
        ("two\nlines", "two\nlines"),
    ],
)
def test_what_a_terminal_would_act_on_is_escaped(text: str, shown: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert printable(text) == shown
    with pytest.raises(SystemExit), errors_told():
        raise InvalidArgument(text, reason="BAD")
    assert capsys.readouterr().err == f"genaug: {shown} [BAD]\n"
    (cell,) = make_table(("file",), [(text,)]).columns[0].cells
    assert str(cell) == shown
