from __future__ import annotations

import dataclasses

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from genaug.shared import manifest
from genaug.shared.errors import FailedPrecondition, InvalidArgument
from genaug.shared.manifest import Row

WORDS = st.text("abcdef0123456789", min_size=1, max_size=8)
ROWS = st.builds(
    Row,
    image_id=WORDS,
    uri=WORDS,
    content_sha256=WORDS,
    pixel_sha256=WORDS,
    class_name=st.sampled_from("DNG"),
    split=st.sampled_from(["train", "validation"]),
    fold=st.integers(-1, 4),
    source=st.just("real"),
    subject_id=WORDS,
    group_id=WORDS,
    attributes=st.dictionaries(WORDS, WORDS, max_size=3),
    seed=st.integers(0, 2**53),
    parent_ids=st.lists(WORDS, max_size=2).map(tuple),
)


def row(**fields) -> Row:
    return Row(
        **(
            {
                "image_id": "i",
                "uri": "u",
                "content_sha256": "c",
                "pixel_sha256": "p",
                "class_name": "D",
                "split": "train",
            }
            | fields
        )
    )


@given(st.lists(ROWS, max_size=20))
def test_rows_survive_parquet(rows: list[Row]) -> None:
    data = manifest.encode(manifest.to_table(rows))
    assert manifest.to_rows(manifest.decode(data)) == rows
    assert manifest.encode(manifest.to_table(rows)) == data


@given(st.lists(ROWS, min_size=1, max_size=10), st.randoms())
def test_the_digest_forgets_order_and_subjects_alone(rows: list[Row], random) -> None:
    digest = manifest.rows_digest(rows)
    shuffled = [dataclasses.replace(one, subject_id="other") for one in rows]
    random.shuffle(shuffled)
    assert manifest.rows_digest(shuffled) == digest
    changed = [dataclasses.replace(rows[0], class_name="X"), *rows[1:]]
    assert manifest.rows_digest(changed) != digest


def test_probabilities_and_verdicts_survive(stores) -> None:
    made = row(source="synthetic", label="D", probabilities={"D": 0.75, "N": 0.25}, label_verdict="accepted", fold=-1)
    manifest.write_rows(stores("labeling"), "labels/x/manifest.parquet", [made])
    assert manifest.read_rows(stores("assembly"), "labels/x/manifest.parquet") == [made]


@pytest.mark.parametrize("kept", [0.0, 0.5, 0.99])
def test_a_damaged_manifest_is_named(stores, kept: float) -> None:
    whole = manifest.encode(manifest.to_table([]))
    stores("assembly").put_new("datasets/d/versions/real/rows.parquet", whole[: int(kept * len(whole))])
    with pytest.raises(FailedPrecondition, match=r"^datasets/d/versions/real/rows\.parquet is damaged") as error:
        manifest.read_rows(stores("train"), "datasets/d/versions/real/rows.parquet")
    assert error.value.reason == "DAMAGED_OBJECT"


def test_another_schema_is_refused() -> None:
    with pytest.raises(FailedPrecondition, match="schema"):
        manifest.to_rows(pa.table({"image_id": ["a"]}))


def test_views_apply_the_policy() -> None:
    rows = [
        row(image_id="a", class_name="H"),
        row(image_id="b", class_name="D", attributes={"multi_disease": "true", "primary_class": "H"}),
        row(image_id="c", class_name="N"),
    ]
    seen = {
        policy: manifest.view_rows(rows, classes=["D", "H"], multi_disease=policy)
        for policy in ("KEEP", "EXCLUDE", "PRIMARY")
    }
    assert [(r.image_id, r.class_name) for r in seen["KEEP"]] == [("a", "H"), ("b", "D")]
    assert [(r.image_id, r.class_name) for r in seen["EXCLUDE"]] == [("a", "H")]
    assert [(r.image_id, r.class_name) for r in seen["PRIMARY"]] == [("a", "H"), ("b", "H")]
    assert manifest.view_rows(rows, classes=[]) == rows


def test_a_view_of_a_fold_leaves_its_real_rows_out() -> None:
    rows = [row(image_id=str(fold), fold=fold) for fold in (0, 1, 2)]
    rows += [row(image_id="v", split="validation", fold=1), row(image_id="m", source="synthetic", fold=-1)]
    assert manifest.view_rows(rows, classes=[]) == rows
    assert [r.image_id for r in manifest.view_rows(rows, classes=[], fold=2)] == ["0", "2", "m"]
    assert [r.image_id for r in manifest.view_rows(rows, classes=[], fold=1)] == ["1", "2", "v", "m"]


@pytest.mark.parametrize("source", ["synthetic", "transformed"])
@pytest.mark.parametrize("split", ["validation", "test"])
def test_a_made_row_outside_training_is_refused(source, split) -> None:
    with pytest.raises(InvalidArgument, match=f"{source} and in the {split} split"):
        manifest.check_training([row(), row(source=source, split=split)])


def test_counts() -> None:
    rows = [row(class_name="N"), row(), row(), row(split="validation"), row(source="synthetic")]
    assert manifest.counts(rows, split="train") == {"D": 2, "N": 1}
    assert manifest.counts(rows, split="train", source="synthetic") == {"D": 1}
