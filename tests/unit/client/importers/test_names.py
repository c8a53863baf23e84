"""Class names and subjects that are spelt in several ways, of every format."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from genaug.client.importers import Source, SourceImage, SourceReport, open_source
from genaug.client.importers.names import check_names
from genaug.schema.run import ImportSpec, NoSubject
from genaug.shared.errors import InvalidArgument


def check(classes: list[str], subjects: list[str] | None = None) -> list[str]:
    report = SourceReport()
    images = [
        SourceImage(f"{n}.png", name, subject, "", {}, bytes)
        for n, (name, subject) in enumerate(
            zip(classes, subjects or [str(n) for n in range(len(classes))], strict=True)
        )
    ]
    check_names(images, report, options={"subject_column", "subject_regex"})
    return report.notes


NFD = unicodedata.normalize("NFD", "Früh")


@pytest.mark.parametrize(
    ("classes", "said"),
    [
        (["Glaucoma", "glaucoma", "GLAUCOMA", "glaucoma"], "'GLAUCOMA' (1), 'Glaucoma' (1), 'glaucoma' (2)"),
        (["no finding", "no  finding", "no\u00a0finding"], "'no  finding' (1), 'no finding' (1), 'no\\xa0finding' (1)"),
        ([NFD, "Früh", "x"], "'Fru\\u0308h' (1), 'Fr\\xfch' (1)"),
        (["1", "1.0", "01", "2", "2.0", "3"], "'01' (1), '1' (1), '1.0' (1); '2' (1), '2.0' (1)"),
    ],
)
def test_classes_that_are_one_are_listed_with_their_counts(classes: list[str], said: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        check(classes)
    assert (caught.value.reason, said in caught.value.message) == ("AMBIGUOUS_CLASS", True), caught.value.message


def test_classes_that_differ_are_left_alone() -> None:
    assert not check(["01", "10", "1.5", "grade 1", "grade1", "A+", "A", "ä", "yes"])


def test_further_labels_are_checked_too() -> None:
    images = [
        SourceImage("1", "a", "1", "", {"multi_disease": "true", "labels": "a; Edema"}, bytes),
        SourceImage("2", "edema", "2", "", {"multi_disease": "false", "labels": "edema"}, bytes),
    ]
    with pytest.raises(InvalidArgument, match=r"'Edema' \(1\), 'edema' \(1\)"):
        check_names(images, SourceReport(), options=())


def test_folders_are_checked_like_tables(tmp_path) -> None:
    for name in ("Cat", "cat"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.png").touch()
    with pytest.raises(InvalidArgument, match=r"'Cat' \(1\), 'cat' \(1\)"):
        open_source(ImportSpec(format="folder", images=str(tmp_path)))


@pytest.mark.parametrize(
    ("subjects", "said"),
    [
        (["7", "007", "7.0", "8"], "3 of 4 subjects"),
        (["p7", "P7", "p 7", "P07"], "'P07' and 'P7' and 'p7'"),
        (["1", "01", "2", "02", "3", "03", "4", "04"], "'01' and '1'; '02' and '2'; '03' and '3'; …"),
    ],
)
def test_subjects_that_are_one_are_counted(subjects: list[str], said: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        check(["a"] * len(subjects), subjects)
    assert caught.value.reason == "AMBIGUOUS_SUBJECT"
    assert said in caught.value.message
    assert "prefix" in caught.value.message


def test_leading_zeros_of_numbers_can_be_left_out_by_an_expression() -> None:
    for subjects, helps in ((["7", "007"], True), (["P7", "p7"], False), (["7", "7.0"], False)):
        with pytest.raises(InvalidArgument) as caught:
            check(["a", "b"], subjects)
        assert (r"--subject-regex '^0*(\d+)$'" in caught.value.message) == helps


def test_subjects_that_differ_are_left_alone() -> None:
    subjects = ["1.2", "1.20", "0", "10", "100", "A1", "B1", "1-1", "1-10", "1.2.840.1", "1.2.840.10"]
    assert not check(["a"] * len(subjects), subjects)


def test_a_prefix_of_letters_is_noted_where_it_is_common() -> None:
    numbers = [str(n) for n in range(1, 41)]
    (note,) = check(["a"] * 45, numbers + [f"P{n:03}" for n in range(1, 6)])
    assert note.startswith("5 subjects equal another but for a prefix of letters ('1' and 'P001'")
    assert not check(["a"] * 44, numbers + [f"P{n}" for n in range(1, 5)])
    many = [str(n) for n in range(1, 61)]
    assert not check(["a"] * 65, many + [f"P{n}" for n in range(1, 6)])


def test_a_source_without_subjects_is_noted() -> None:
    (note,) = check(["a", "b"], ["", ""])
    assert "--subject-column or --subject-regex (a file is named '" in note
    assert not check(["a", "b"], ["", "p"])


def table(folder: Path, **options: object) -> Source:
    (folder / "t.csv").write_text("filename,label,who\na_1.png,a,p-1\nb_2.png,a,p-2\nc.png,b,?\n")
    for name in ("a_1.png", "b_2.png", "c.png"):
        (folder / name).touch()
    return open_source(ImportSpec(format="csv", csv=str(folder / "t.csv"), **options))


@pytest.mark.parametrize(
    ("options", "said", "subjects"),
    [
        (
            {"subject_column": "who"},
            "who is empty, or says that there is no value, in 1 row (line 4)",
            ["p-1", "p-2", ""],
        ),
        (
            {"subject_column": "who", "subject_regex": r"-(\d)"},
            "finds no subject in 1 of 3 cells of who ('?')",
            ["1", "2", ""],
        ),
        ({"subject_regex": r"_(\d)"}, "finds no subject in 1 of 3 file names ('c.png')", ["1", "2", ""]),
    ],
)
def test_images_without_a_subject_are_refused_or_their_own(
    tmp_path, options: dict[str, object], said: str, subjects: list[str]
) -> None:
    with pytest.raises(InvalidArgument) as caught:
        table(tmp_path, **options)
    assert said in caught.value.message
    assert "--no-subject own" in caught.value.message
    result = table(tmp_path, **options, no_subject=NoSubject.OWN)
    assert [image.subject for image in result.images] == subjects
    assert "1 of 3" in result.report.notes[0]


@pytest.mark.parametrize("regex", ["(", "no group"])
def test_bad_expressions_are_refused(tmp_path, regex: str) -> None:
    with pytest.raises(InvalidArgument, match="subject_regex"):
        table(tmp_path, subject_regex=regex)
