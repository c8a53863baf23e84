"""Deduplication, and the check of a user's own split."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from genaug.assembly.deduplicate import check_own_split, deduplicate
from genaug.assembly.import_plan import SourceRow
from genaug.assembly.upload_decoder import DecodedImage, DecodeResult, UnusableImage
from genaug.shared.errors import FailedPrecondition, InvalidArgument

GOOD = DecodedImage("p", 40, False, np.zeros((32, 32, 3), np.uint8))


def row(content: str, class_name: str = "a", subject: str = "", split: str | None = None) -> SourceRow:
    return SourceRow(content * 64, f"secret {subject}", class_name, subject, split)


def decoded(rows: list[SourceRow]) -> dict[str, DecodeResult]:
    return {row.content_sha256: GOOD for row in rows}


def test_one_of_equal_rows_is_kept_and_their_subjects_are_joined() -> None:
    rows = [row("1", subject="q"), row("2", subject="r"), row("1", subject="p")]
    unique, dropped = deduplicate(rows, decoded(rows))
    assert [(entry.row.subject, entry.number, entry.subjects) for entry in unique] == [
        ("p", 2, ("p", "q")),
        ("r", 1, ("r",)),
    ]
    (gone,) = dropped
    assert (gone.reason, gone.row) == ("DUPLICATE", 0)
    assert "kept together" in gone.detail


def test_rows_that_contradict_each_other_are_all_dropped() -> None:
    rows = [row("1", "a"), row("1", "b"), row("2")]
    unique, dropped = deduplicate(rows, decoded(rows))
    assert [entry.row.content_sha256[0] for entry in unique] == ["2"]
    assert [(gone.reason, gone.row) for gone in dropped] == [("DUPLICATE", 0), ("DUPLICATE", 1)]


@given(st.permutations(["a1p", "a1q", "b2p", "a3r", "b3r", "a4", "a4s"]))
def test_the_order_of_the_source_means_nothing(order: list[str]) -> None:
    rows = [row(text[1], text[0], text[2:]) for text in order]
    unique, dropped = deduplicate(rows, decoded(rows))
    assert [(entry.row.content_sha256[0], entry.subjects) for entry in unique] == [
        ("1", ("p", "q")),
        ("2", ("p",)),
        ("4", ("s",)),
    ]
    assert len(unique) + len(dropped) == len(rows)


def test_unusable_contents_do_not_join_subjects() -> None:
    rows = [row("1", subject="p"), row("1", subject="q"), row("2")]
    results = decoded(rows) | {"1" * 64: UnusableImage("UNREADABLE", "damaged")}
    unique, dropped = deduplicate(rows, results)
    assert len(unique) == 1
    assert [gone.reason for gone in dropped] == ["UNREADABLE"] * 2


def test_details_never_name_files_or_subjects() -> None:
    rows = [
        row("1", subject="patient-7"),
        row("1", subject="patient-8"),
        row("2", "a", "x"),
        row("2", "b", "patient-9"),
    ]
    with pytest.raises(InvalidArgument) as caught:
        deduplicate(rows[2:], decoded(rows))
    _, dropped = deduplicate(rows, decoded(rows))
    for text in [*(gone.detail for gone in dropped), caught.value.message]:
        assert "patient" not in text
        assert "secret" not in text


def test_a_source_that_is_mostly_broken_is_refused(monkeypatch) -> None:
    monkeypatch.setattr("genaug.assembly.deduplicate.MAX_DROPPED", 1)
    rows = [row("1"), row("1"), row("1")]
    with pytest.raises(FailedPrecondition, match="2 images would be dropped"):
        deduplicate(rows, decoded(rows))


OWN = [
    row("1", subject="p", split="train"),
    row("2", subject="q", split="validation"),
    row("3", subject="r", split="test"),
]
GROUPS = {row.image_id: row.image_id for row in OWN}


def test_a_sound_split_passes() -> None:
    check_own_split(OWN, GROUPS)


@pytest.mark.parametrize(
    ("rows", "groups", "reason"),
    [
        ([*OWN, row("4", subject="p", split="test")], GROUPS, "SUBJECT_ON_TWO_SIDES"),
        (OWN, GROUPS | {OWN[2].image_id: OWN[0].image_id}, "PHOTOGRAPH_ON_TWO_SIDES"),
        ([*OWN, row("1", split="test")], GROUPS, "PHOTOGRAPH_ON_TWO_SIDES"),
        ([*OWN, row("4", subject="s")], GROUPS, "SPLIT_INCOMPLETE"),
        (OWN[:2], {row.image_id: row.image_id for row in OWN[:2]}, "EMPTY_SIDE"),
    ],
)
def test_a_leaking_split_is_refused(rows: list[SourceRow], groups: dict[str, str], reason: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        check_own_split(rows, groups)
    assert caught.value.reason == reason
    assert "secret" not in caught.value.message
