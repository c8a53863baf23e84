"""The dry run of an import."""

from __future__ import annotations

import io
import tempfile

import numpy as np
import pytest
from PIL import Image

from genaug.assembly.describe.describe import describe_dataset
from genaug.assembly.validate_import import validate_import
from genaug.schema.common import Progress
from genaug.schema.datasets import Dataset, DatasetDescription, PassedOver
from genaug.schema.run import ImportSpec
from genaug.shared.errors import FailedPrecondition, InvalidArgument
from genaug.shared.store import Store


@pytest.fixture
def source(sent):
    return [*(sent(n, "ab"[n % 2], f"p{n // 2}") for n in range(40)), sent(b"no image", "a", "p99")]


def validated(store: Store, rows, **options: object) -> tuple[Dataset, DatasetDescription]:
    *progress, dataset, description = validate_import("d", ImportSpec(format="folder", **options), [rows], store)
    assert all(isinstance(event, Progress) for event in progress)
    assert isinstance(dataset, Dataset)
    assert isinstance(description, DatasetDescription)
    return dataset, description


def contents(store: Store) -> set[str]:
    return {key for prefix in ("uploads/", "images/", "sealed/", "restricted/", "datasets/", "seal-openings/")
            for key, _ in store.list(prefix)}  # fmt: skip


def test_nothing_is_stored_and_the_answer_is_that_of_the_import(stores, source, run_import) -> None:
    store = stores("assembly")
    dataset, description = validated(store, source)
    assert not contents(store)
    imported = run_import(store, source)
    unknown_before = {"create_time": "", "provenance": dataset.provenance}
    assert dataset == imported.model_copy(update=unknown_before)
    *_, described = describe_dataset(store, "d")
    assert description == described
    (everything, a, b) = description.defects
    assert (everything.dropped, a.dropped, b.dropped) == (1, 1, 0)


def test_a_name_that_is_taken_is_said(stores, source, run_import) -> None:
    store = stores("assembly")
    run_import(store, source)
    before = contents(store)
    dataset, _ = validated(store, source)
    assert dataset.notes == ("datasets/d exists with this content; the import would find it",)
    dataset, _ = validated(store, source, seed=3)
    assert "the import would be refused" in dataset.notes[0]
    assert contents(store) == before
    store.delete("datasets/d/dataset.json")
    dataset, _ = validated(store, source, seed=3)
    assert dataset.notes[0].startswith("an unfinished import of other content holds the name datasets/d")
    assert not validated(store, source)[0].notes


def test_what_an_import_would_refuse_is_refused(stores, sent) -> None:
    store = stores("assembly")
    with pytest.raises(FailedPrecondition) as caught:
        validated(store, [sent(0, "a", "p"), sent(1, "b", "p")])
    assert caught.value.reason == "TOO_FEW_SUBJECTS"
    with pytest.raises(InvalidArgument) as refused:
        validated(store, [sent(n, "a", "p", "train" if n else "test") for n in range(9)])
    assert refused.value.reason == "SUBJECT_ON_TWO_SIDES"
    with pytest.raises(FailedPrecondition) as missing:
        validated(store, [(sent(n)[0], b"") for n in range(4)])
    assert missing.value.reason == "CONTENT_MISSING"
    assert not contents(store)


def test_files_that_were_passed_over_are_in_the_record(stores, source) -> None:
    passed_over = (PassedOver(reason=".txt: no image", count=3),)
    events = validate_import("d", ImportSpec(format="folder"), [source], stores("assembly"), passed_over=passed_over)
    assert [event.passed_over for event in events if isinstance(event, Dataset)] == [passed_over]


def test_deep_images_are_rendered_in_a_folder_that_ends(stores, sent, run_import, monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def deep(seed: int) -> bytes:
        values = np.random.default_rng(seed).integers(0, 4096, (6, 5)).astype(np.float32)
        smooth = np.asarray(Image.fromarray(values).resize((40, 48), Image.Resampling.BILINEAR)).astype(np.uint16)
        sink = io.BytesIO()
        Image.fromarray(smooth).save(sink, "PNG")
        return sink.getvalue()

    store, rows = stores("assembly"), [sent(deep(n), "ab"[n % 2], f"p{n // 2}") for n in range(40)]
    dataset, description = validated(store, rows)
    assert not contents(store)
    assert not list(tmp_path.iterdir())
    imported = run_import(store, rows)
    assert imported.window == dataset.window is not None
    assert imported.digest == dataset.digest
    *_, described = describe_dataset(store, "d")
    assert description == described
