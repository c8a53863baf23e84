from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genaug.assembly.describe.describe import describe_dataset, description_key
from genaug.assembly.describe.leakage_estimate import SPLITS, estimate_leakage
from genaug.assembly.describe.numbers import NOT_SAID, attributes, images_per_subject, multi_disease
from genaug.assembly.describe.page import render
from genaug.assembly.describe.quality import quality
from genaug.schema.common import ClassCount, Progress
from genaug.schema.datasets import Dataset, DatasetDescription
from genaug.schema.model import read
from genaug.shared.errors import FailedPrecondition, NotFound
from genaug.shared.manifest import Row
from genaug.shared.seal_log import SealOpening

EVIL = "<script>alert(1)</script>"


def row(number: int, name: str = "a", **facts: str) -> Row:
    return Row(f"{number:032x}", "", "", "", name, "train", attributes=facts)


@settings(max_examples=40)
@given(st.lists(st.integers(0, 20), min_size=4, max_size=60), st.integers(0, 5))
def test_a_split_by_image_leaks_what_it_can_and_no_more(subjects: list[int], seed: int) -> None:
    names = [f"s{number}" for number in subjects]
    sizes = (len(names) - 2, 1, 1)
    leakage = estimate_leakage(names, sizes=sizes, seed=seed)
    assert 0 <= leakage.leaked_lowest <= leakage.leaked <= leakage.leaked_highest <= 1
    assert leakage.splits == SPLITS
    assert estimate_leakage(names[::-1], sizes=sizes, seed=seed) == leakage, "whatever the order of the rows"
    if len(set(names)) == len(names):
        assert (leakage.leaked_highest, leakage.subjects_on_two_sides) == (0, 0)


def test_both_eyes_of_everybody_leak_as_they_must() -> None:
    """With two images each, the other one is in training with the training share: 70 of the 99 others."""
    leakage = estimate_leakage([f"s{i // 2}" for i in range(100)], sizes=(70, 15, 15), seed=0)
    assert leakage.leaked == pytest.approx(70 / 99, abs=0.02)


def test_ages_come_in_bands_and_free_text_not_at_all() -> None:
    rows = [row(i, "ab"[i % 2], age=str(20 + i), sex="f" if i % 3 else "", note=f"text {i}") for i in range(30)]
    age, sex = attributes(rows)
    assert (age.name, sex.name) == ("age", "sex")
    assert [value.value for value in age.values] == ["20 to 29", "30 to 39", "40 to 49"]
    assert [value.value for value in sex.values] == ["f", NOT_SAID]
    assert sum(entry.count for value in sex.values for entry in value.counts) == 30


def test_images_with_several_diseases_are_counted_by_what_they_name() -> None:
    rows = [
        row(0, "G", multi_disease="true", keywords="glaucoma; cataract"),
        row(1, "C", multi_disease="true", keywords="cataract; glaucoma"),
        row(2, "G", multi_disease="true"),
        row(3, "G", multi_disease="false"),
        row(4, "edema", multi_disease="true", labels="edema; atelectasis"),
        row(5, "edema", multi_disease="false", labels="edema"),
    ]
    assert multi_disease(rows) == (
        ClassCount(class_name="C + G", count=2),
        ClassCount(class_name="G + others", count=1),
        ClassCount(class_name="atelectasis + edema", count=1),
    )


def test_subjects_are_counted_by_their_images() -> None:
    assert images_per_subject(["a", "b", "b", "c", "c", "c", "c"]) == (1, 1, 0, 1)


def test_sharper_is_sharper() -> None:
    rng = np.random.default_rng(0)
    sharp = rng.integers(0, 256, (300, 400, 3), np.uint8)
    flat = np.full((300, 400, 3), 128, np.uint8)
    assert quality(sharp).sharpness > 100 * max(quality(flat).sharpness, 1e-9)
    assert (quality(flat).width, quality(flat).height, quality(flat).contrast) == (400, 300, 0)
    assert quality(flat).brightness == pytest.approx(128 / 255, abs=0.01)


@pytest.fixture
def dataset(run_import, sent, stores) -> str:
    rows = [
        sent(i, ("a", EVIL)[i % 2], subject=f"p{i // 4}", age=str(30 + i), laterality=("left", "right")[i % 2])
        for i in range(40)
    ]
    run_import(stores("assembly"), rows)
    return "d"


def events(stores, name: str) -> Iterator[object]:
    return describe_dataset(stores("assembly"), name)


def test_a_dataset_is_described_once_and_the_opening_recorded(stores, dataset: str) -> None:
    *progress, description = events(stores, dataset)
    assert all(isinstance(event, Progress) for event in progress)
    assert isinstance(description, DatasetDescription)
    assert description.leakage_estimate
    assert sum(c.training + c.validation + c.test for c in description.classes) == 40
    assert description.leakage_estimate.leaked > 0.5, "four images of each subject"
    assert {a.name for a in description.attributes} == {"age", "laterality"}
    assert {m.name for m in description.measures} == {"width", "height", "brightness", "contrast", "sharpness"}
    store = stores("assembly")
    openings = [SealOpening(**store.get_json(key)) for key, _ in store.list("seal-openings/")]
    assert [opening.purpose for opening in openings] == ["DescribeDataset"]
    assert list(events(stores, dataset)) == [description]
    assert len(list(store.list("seal-openings/"))) == 1, "what was counted is not counted again"


def test_sealed_images_are_never_opened(stores, dataset: str) -> None:
    store = stores("assembly")
    for key in [key for key, _ in store.list("sealed/images/")]:
        store.delete(key)
    *_, description = events(stores, dataset)
    assert description.classes


def test_a_lost_image_is_named_and_nothing_is_kept(stores, dataset: str) -> None:
    store = stores("assembly")
    store.delete(next(key for key, _ in store.list("images/")))
    with pytest.raises(FailedPrecondition, match="no longer in the store"):
        list(events(stores, dataset))
    assert not store.exists(description_key(dataset))


def test_there_must_be_a_dataset(stores) -> None:
    with pytest.raises(NotFound):
        list(events(stores, "none"))


def test_the_page_opens_offline_and_escapes_names(stores, dataset: str) -> None:
    *_, description = events(stores, dataset)
    page = render(description, read(stores("assembly"), "datasets/d/dataset.json", Dataset))
    assert EVIL not in page
    assert "&lt;script&gt;" in page
    assert "http" not in page.replace("http-equiv", "")
    assert "40 to 49" in page
    assert "would have shown a subject who is in training too" in page
