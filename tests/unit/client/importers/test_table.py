"""Tables as programs write them, and what is refused of them."""

from __future__ import annotations

import datetime
import sys
import zipfile
from pathlib import Path

import openpyxl
import pytest

from genaug.client.importers import SourceReport, excel
from genaug.client.importers.table import Line, read_table
from genaug.shared.errors import FailedPrecondition, GenaugError, InvalidArgument

COLUMNS = ("file", "label")


def read(path: Path, data: bytes | str, report: SourceReport | None = None) -> list[Line]:
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return read_table(path, COLUMNS, report or SourceReport())


def refused(path: Path, data: bytes | str | None = None) -> GenaugError:
    with pytest.raises(InvalidArgument) as caught:
        read(path, data) if data is not None else read_table(path, COLUMNS, SourceReport())
    return caught.value


def workbook(path: Path, rows: list[list[object]], **sheets: list[list[object]]) -> Path:
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    for title, more in sheets.items():
        sheet = book.create_sheet(title)
        for row in more:
            sheet.append(row)
    book.save(path)
    return path


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_separators_and_line_ends(tmp_path, separator: str, end: str) -> None:
    text = end.join(["file,label, age", "1.png,Früh, 3", "", ",,", "2.png,b,"]).replace(",", separator)
    first, second = read(tmp_path / "t.csv", text)
    assert (first.number, first.cells) == (2, {"file": "1.png", "label": "Früh", "age": "3"})
    assert (second.number, second.cells["age"]) == (5, "")


def test_the_separator_is_the_one_that_gives_the_columns(tmp_path) -> None:
    (line,) = read(tmp_path / "t.csv", 'file;label;"a, b, c, d, e"\n1.png;x;1\n')
    assert line.cells == {"file": "1.png", "label": "x", "a, b, c, d, e": "1"}
    (line,) = read(tmp_path / "t.csv", "sep=|\nfile|label\n1.png|x;y,z\n")
    assert (line.number, line.cells) == (3, {"file": "1.png", "label": "x;y,z"})


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_byte_order_mark_tells_the_encoding(tmp_path, encoding: str) -> None:
    report = SourceReport()
    (line,) = read(tmp_path / "t.csv", "file\tlabel\nü.png\tÄ\n".encode(encoding), report)
    assert line.cells == {"file": "ü.png", "label": "Ä"}
    assert not report.notes


def test_windows_1252_is_read_and_noted(tmp_path) -> None:
    report = SourceReport()
    (_, line) = read(tmp_path / "t.csv", "file,label\n1.png,b\n2.png,a Frühödem b\n".encode("cp1252"), report)
    assert line.cells["label"] == "a Frühödem b"
    assert "Windows-1252, such as 'Frühödem' in line 3" in report.notes[0]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("file,label\nü,a".encode("utf-16-le"), "control characters"),
        ("file,label\nü,a".encode("utf-16")[:-1], "begins like UTF-16"),
        ("\ufefffile,label\nü,a".encode() + b"\xff", "begins like UTF-8"),
        (b"file,label\n\x81\x8d,a", "neither UTF-8, UTF-16 nor Windows-1252"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1", "Excel 97 to 2003"),
        (b"PK\x03\x04 and more", "no Excel workbook"),
        (b"file,label,x,label,x\n1,2,3,4,5\n", "several columns 'label', 'x'"),
        (b'file,label\n1.png,"a\n2.png,b\n3.png,"c\n', "row of line 2 ends in line 4"),
        (b'file,label,x\n1.png,a,"b\n2.png,b,c\n3.png,c,d"\n4.png,a,b\n', "row of line 2 ends in line 4"),
        (b'file,label\n1.png,a\n2.png,"a\n', "row of line 3 ends in line 3"),
        (b'file,label\n1.png,"a \\"b\\" c"\n', "unbalanced quotation marks"),
    ],
)
def test_files_that_are_no_table(tmp_path, data: bytes, said: str) -> None:
    error = refused(tmp_path / "t.csv", data)
    assert (error.reason, said in error.message) == ("BAD_TABLE", True), error.message


def test_a_quoted_cell_may_hold_separators_quotes_and_lines(tmp_path) -> None:
    first, second = read(tmp_path / "t.csv", 'file,label,remark\n1.png, "a, b","x\ny ""z"""\n2.png,b,\n')
    assert first.cells == {"file": "1.png", "label": "a, b", "remark": 'x\ny "z"'}
    assert (first.number, second.number) == (2, 4)
    # A report of several lines is no row that was swallowed.
    (line,) = read(
        tmp_path / "t.csv", 'file,label,report\n1.png,a,"Heart normal.\nNo mass, lungs clear, no effusion"\n'
    )
    assert line.cells["report"].endswith("no effusion")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("file,remark,label\n1.png,ok,a\n2.png,mild, superior,b\n3.png,bad, too,a\n", "in 2 rows (lines 3, 4)"),
        ("file,label,remark\n1.png,a\n", "fewer cells than the header's 3 columns in 1 row (line 2)"),
        ("file,label,,x\n1.png,a,b,c\n", "without a column's name"),
    ],
)
def test_rows_that_do_not_fit_the_header(tmp_path, text: str, said: str) -> None:
    error = refused(tmp_path / "t.csv", text)
    assert (error.reason, said in error.message) == ("BAD_ROWS", True), error.message


def test_an_index_and_empty_columns_are_no_fault(tmp_path) -> None:
    (line,) = read(tmp_path / "t.csv", ",file,label,,\n0,1.png,a,,,,\n")
    assert (line.cells["file"], line.cells["label"]) == ("1.png", "a")


def test_a_workbook_gives_what_excel_shows(tmp_path) -> None:
    path = workbook(
        tmp_path / "t.xlsx",
        [
            ["file", "label", "who", "day", "flag", "share"],
            [],
            [7.0, 1, 7, datetime.datetime(2024, 5, 1), True, 0.1 + 0.2],
        ],
    )
    book = openpyxl.load_workbook(path)
    book.active["C3"].number_format = "000"
    book.save(path)
    (line,) = read_table(path, COLUMNS, SourceReport())
    assert line.number == 3
    assert list(line.cells.values()) == ["7", "1", "007", "2024-05-01", "TRUE", "0.3"]


def test_the_sheet_with_the_columns_is_read(tmp_path) -> None:
    report = SourceReport()
    table: list[list[object]] = [["file", "label"], ["1.png", "a"]]
    path = workbook(tmp_path / "t.xlsx", [["read me"]], images=table, empty=[])
    assert read_table(path, COLUMNS, report)[0].cells["label"] == "a"
    assert report.notes == ["t.xlsx has 2 sheets; 'images' is read"]
    assert "2 sheets" in refused(workbook(tmp_path / "t.xlsx", table, more=table)).message
    assert refused(workbook(tmp_path / "t.xlsx", [])).reason == "NO_SUCH_COLUMN"
    assert "line 2" in refused(workbook(tmp_path / "t.xlsx", [*table[:1], ["1.png", "a", "shifted"]])).message


def edited(path: Path, old: bytes, new: bytes) -> Path:
    """The workbook with its sheet changed."""
    target = path.with_name("edited.xlsx")
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in source.namelist():
            data = source.read(name)
            archive.writestr(name, data.replace(old, new) if "sheet1" in name else data)
    return target


def test_a_sheet_that_states_another_size_is_read_whole(tmp_path) -> None:
    path = workbook(tmp_path / "t.xlsx", [["file", "label"], ["1.png", "a"], ["2.png", "b"]])
    for size in (b"A1:A1", b"A1:B2", b"A1:XFD1048576"):
        assert len(read_table(edited(path, b"A1:B3", size), COLUMNS, SourceReport())) == 2


def test_hostile_workbooks_are_refused(tmp_path, monkeypatch) -> None:
    path = workbook(tmp_path / "t.xlsx", [["file", "label"], ["1.png", "a"]])
    far = b'<row r="99999999"><c r="A99999999"><v>1</v></c></row></sheetData>'
    monkeypatch.setattr(excel, "_MAX_CELLS", 100)
    assert refused(edited(path, b"</sheetData>", far)).reason == "TABLE_TOO_LARGE"
    monkeypatch.setattr(excel, "_MAX_BYTES", 1000)
    assert "unpacked" in refused(path).message
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x", "y")
    assert refused(path).reason == "BAD_TABLE"


def test_without_openpyxl_the_extra_is_named(tmp_path, monkeypatch) -> None:
    path = workbook(tmp_path / "t.xlsx", [["file", "label"], ["1.png", "a"]])
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.raises(FailedPrecondition, match=r"genaug\[excel\]"):
        read_table(path, COLUMNS, SourceReport())


def test_a_workbook_that_unpacks_to_many_times_its_size_is_refused(tmp_path) -> None:
    path = tmp_path / "table.xlsx"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/styles.xml", b"<x>" + b"<x/>" * 3_000_000 + b"</x>")
    with pytest.raises(InvalidArgument) as caught:
        read_table(path, ["filename"], SourceReport())
    assert caught.value.reason == "TABLE_TOO_LARGE"
