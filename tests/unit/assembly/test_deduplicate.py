"""Deduplication, and the check of a user's own split."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from genaug.assembly.deduplicate import UniqueRow, deduplicate, settle_own_split
from genaug.assembly.fingerprints import fingerprint
from genaug.assembly.import_plan import SourceRow
from genaug.assembly.seal import join
from genaug.assembly.upload_decoder import DecodedImage, DecodeResult, UnusableImage
from genaug.schema.datasets import DroppedImage
from genaug.schema.run import OnConflict
from genaug.shared.errors import FailedPrecondition, InvalidArgument

GOOD = DecodedImage("p", 40, False, fingerprint(np.zeros((32, 32, 3), np.uint8)))


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
IDS = [row.image_id for row in OWN]


def settle(
    rows: list[SourceRow], pairs: Sequence[tuple[str, str]] = (), on_conflict: OnConflict = OnConflict.REFUSE
) -> tuple[list[UniqueRow], list[DroppedImage]]:
    unique, dropped = deduplicate(rows, decoded(rows), on_conflict=on_conflict)
    groups = join({entry.row.image_id: entry.subjects for entry in unique}, pairs)
    stay, more = settle_own_split(rows, unique, groups, pairs, on_conflict)
    return stay, [*dropped, *more]


def test_a_sound_split_passes() -> None:
    stay, dropped = settle(OWN)
    assert [entry.number for entry in stay] == [0, 1, 2]
    assert dropped == []


@pytest.mark.parametrize(
    ("rows", "pairs", "reason", "rows_named"),
    [
        ([*OWN, row("4", subject="p", split="test")], [], "SUBJECT_ON_TWO_SIDES", "0:3"),
        (OWN, [(IDS[2], IDS[0])], "PHOTOGRAPH_ON_TWO_SIDES", "0:2"),
        ([*OWN, row("1", split="test")], [], "PHOTOGRAPH_ON_TWO_SIDES", "0:3"),
        ([*OWN, row("4", subject="s")], [], "SPLIT_INCOMPLETE", None),
        (OWN[:2], [], "EMPTY_SIDE", None),
    ],
)
def test_a_leaking_split_is_refused_with_its_rows(
    rows: list[SourceRow], pairs: list[tuple[str, str]], reason: str, rows_named: str | None
) -> None:
    with pytest.raises(InvalidArgument) as caught:
        settle(rows, pairs)
    assert caught.value.reason == reason
    assert caught.value.metadata.get("pairs") == rows_named
    assert "secret" not in caught.value.message


def test_an_error_names_fifty_pairs_and_counts_all() -> None:
    letters = "0123456789abcdef"
    both = [
        SourceRow(f"{a}{b}{side[0]:0<62}".replace("t", "e").replace("v", "f"), "secret", "a", f"p{a}{b}", side)
        for a in letters[:4]
        for b in letters
        for side in ("train", "validation")
    ]
    with pytest.raises(InvalidArgument, match="64 of 67 subjects") as caught:
        settle([*OWN, *both])
    assert caught.value.metadata["pairs"].count(",") == 49
    assert caught.value.metadata["pairs"].startswith("3:4,5:6")


@pytest.mark.parametrize(
    ("policy", "kept"),
    [(OnConflict.DROP_TRAINING, {0, 1, 2, 4, 6, 7}), (OnConflict.DROP_VALIDATION, {0, 1, 2, 4, 5, 7})],
)
def test_conflicts_are_left_out_and_test_images_never(policy: OnConflict, kept: set[int]) -> None:
    rows = [
        *OWN,
        row("4", subject="s", split="train"),
        row("5", subject="s", split="test"),
        row("6", subject="t", split="train"),
        row("7", subject="t", split="validation"),
        row("8", subject="u", split="test"),
        # The same photograph as a test image, and that test image byte by byte.
        row("9", subject="v", split="validation"),
        row("8", subject="w", split="train"),
        row("a", subject="w", split="train"),
    ]
    pairs = [(rows[7].image_id, rows[8].image_id)]
    stay, dropped = settle(rows, pairs, policy)
    assert {entry.number for entry in stay} == kept
    assert {gone.row for gone in dropped} == set(range(len(rows))) - kept
    assert {gone.reason for gone in dropped} == {"CONFLICT"}
    assert all(" side of the split" in gone.detail and "secret" not in gone.detail for gone in dropped)


def test_of_a_content_on_two_sides_the_test_row_is_kept_though_another_knows_the_subject() -> None:
    rows = [*OWN, row("4", subject="s", split="train"), row("4", split="test")]
    stay, dropped = settle(rows, on_conflict=OnConflict.DROP_VALIDATION)
    assert [entry.number for entry in stay] == [0, 1, 2, 4]
    assert [(gone.row, gone.reason) for gone in dropped] == [(3, "CONFLICT")]


def test_a_conflict_that_empties_a_side_is_refused() -> None:
    rows = [row("1", subject="p", split="train"), row("2", subject="q", split="validation")]
    with pytest.raises(InvalidArgument) as caught:
        settle([*rows, row("3", subject="p", split="test")], on_conflict=OnConflict.DROP_TRAINING)
    assert caught.value.reason == "EMPTY_SIDE"
