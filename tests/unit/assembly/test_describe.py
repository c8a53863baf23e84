from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Iterator
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from genaug.assembly.datasets import REAL, rows_key
from genaug.assembly.describe.contact_sheet import MOST_OF_CLASS, contact_sheets
from genaug.assembly.describe.describe import describe_dataset, description_key
from genaug.assembly.describe.facts import image_facts
from genaug.assembly.describe.leakage_estimate import SPLITS, estimate_leakage
from genaug.assembly.describe.numbers import NOT_SAID, attributes, images_per_subject, multi_disease
from genaug.assembly.describe.page import render
from genaug.assembly.describe.quality import Quality
from genaug.schema.common import ClassCount, Progress
from genaug.schema.datasets import Alarm, Dataset, DatasetDescription, Shortcut
from genaug.schema.model import read
from genaug.shared.digests import sha256
from genaug.shared.errors import FailedPrecondition, NotFound
from genaug.shared.manifest import Row, read_rows
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

    def measured(pixels: NDArray[np.uint8]) -> Quality:
        return image_facts(b"", pixels).quality

    assert measured(sharp).sharpness > 100 * max(measured(flat).sharpness, 1e-9)
    assert (measured(flat).width, measured(flat).height, measured(flat).contrast) == (400, 300, 0)
    assert measured(flat).brightness == pytest.approx(128 / 255, abs=0.01)


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


class _Page(HTMLParser):
    """Counts of tags, and what the attributes that load something point to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.loaded: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.loaded += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "data", "action")]


def test_the_page_opens_offline_and_escapes_names(stores, dataset: str) -> None:
    store = stores("assembly")
    *_, description = events(stores, dataset)
    rows = read_rows(store, rows_key(dataset, REAL))
    sheets = contact_sheets(store, rows)
    alarm = Alarm(reason="SHORTCUT", sentence=f"width tells {EVIL!r}")
    described = description.model_copy(update={"alarms": (alarm,), "shortcuts": (Shortcut(properties="width"),)})
    page = render(described, read(store, "datasets/d/dataset.json", Dataset), sheets)
    assert EVIL not in page
    assert "&lt;script&gt;" in page
    assert "40 to 49" in page
    assert "would have shown a subject who is in training too" in page
    parsed = _Page(page)
    assert not parsed.tags["script"]
    assert not parsed.tags["link"]
    assert all(target.startswith(("#", "data:image/jpeg;base64,")) for target in parsed.loaded)
    assert "url(" not in page
    assert parsed.tags["img"] == sum(map(len, sheets.values())) > 0
    assert not any(row.subject_id in page or row.image_id in page for row in rows)


def test_contact_sheets_hold_few_small_training_images(stores, run_import, sent) -> None:
    store = stores("assembly")
    run_import(store, [sent(n, "ab"[n % 3 == 0]) for n in range(90)])
    rows = read_rows(store, rows_key("d", REAL))
    training = [row for row in rows if row.split == "train"]
    for row in rows:
        if row.split != "train":
            store.delete(row.uri)
    sheets = contact_sheets(store, rows)
    counts = Counter(row.class_name for row in training)
    assert {name: len(images) for name, images in sheets.items()} == {
        name: min(MOST_OF_CLASS, count) for name, count in counts.items()
    }
    assert counts["a"] > MOST_OF_CLASS
    first = sheets["a"][0]
    assert base64.b64decode(first.data).startswith(b"\xff\xd8")
    assert max(first.width, first.height) <= 96
    assert contact_sheets(store, rows[::-1]) == sheets


def test_poor_images_are_counted_by_class(stores, run_import, sent, encode) -> None:
    rng = np.random.default_rng(0)
    noise = [encode(rng.integers(0, 256, (40, 40, 3), np.uint8)) for _ in range(36)]
    # Smooth, and nearly of one color.
    blurred = [
        encode(np.asarray(Image.fromarray(rng.integers(90, 160, (3, 3, 3), np.uint8)).resize((40, 40))))
        for _ in range(6)
    ]
    blank = [encode((128 + rng.integers(0, 4, (40, 40, 3))).astype(np.uint8)) for _ in range(6)]
    rows = [sent(data, "ab"[n % 2]) for n, data in enumerate(noise)]
    rows += [sent(data, "c") for data in [*blurred, *blank]]
    rows.append(sent(b"damaged", "c"))
    run_import(stores("assembly"), rows)
    *_, description = events(stores, "d")
    poor = {entry.class_name: entry for entry in description.defects}
    assert (poor["a"].blurred, poor["a"].blank, poor["a"].dropped) == (0, 0, 0)
    in_c = [row for row in read_rows(stores("assembly"), rows_key("d", REAL)) if row.class_name == "c"]
    flat = {sha256(data) for data in blank}
    assert poor["c"].images == len(in_c) == poor["c"].blurred
    assert poor["c"].blank == sum(row.content_sha256 in flat for row in in_c) > 0
    assert poor["c"].dropped == poor[""].dropped == 1
    shares = {entry.class_name: entry.shares for entry in description.histograms}
    assert all(sum(of_class) == pytest.approx(1, abs=1e-3) for of_class in shares.values())
    assert max(shares["a"]) < 0.1 < max(shares["c"])
