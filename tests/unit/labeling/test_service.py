from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tests.shapes import CLASSES, item, put_image, put_version, real_rows, shape

from genaug.labeling.service import LabelingServicer
from genaug.labeling.train import train_labeler
from genaug.shared.errors import InvalidArgument, NotFound
from genaug.shared.manifest import read_rows, write_rows
from genaug.shared.settings import Settings, StoreSettings
from genaug.shared.store import Store
from genaug.v1 import labeling_service_pb2 as pb
from genaug.v1 import run_pb2

BATCH = "batches/" + "b" * 32


class Present:
    """A caller who stays."""

    def is_active(self) -> bool:
        return True


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    folder: Path = tmp_path_factory.mktemp("store")
    return Settings(store=StoreSettings(url=f"file://{folder}"), device="cpu")


@pytest.fixture(scope="module")
def labeler(settings: Settings) -> str:
    assembly = Store.open(settings.store, "assembly")
    put_version(assembly, real_rows(assembly, dict.fromkeys(CLASSES, 15)))
    generation = assembly.as_role("generation")
    rows = [
        replace(
            put_image(generation, shape(kind, seed=700 + i), prompt, folder="draws", split="train", source="synthetic"),
            prompt=prompt,
        )
        for i in range(6)
        for prompt, kind in (("lies", "lies"), ("stands", "leans"))
    ]
    write_rows(generation, f"{BATCH}/manifest.parquet", rows)
    wanted = item(role="ROLE_LABELER", updates=60)
    return train_labeler(wanted, assembly.as_role("train"), lambda *_: None, device="cpu")


@pytest.fixture
def servicer(settings: Settings):
    servicer = LabelingServicer(settings)
    servicer.warm_up()
    yield servicer
    servicer.close()


def test_classifiers_are_got_and_listed(servicer: LabelingServicer, labeler: str) -> None:
    found = servicer.GetClassifier(pb.GetClassifierRequest(name=labeler), Present())
    assert found.name == labeler
    assert list(found.classes) == CLASSES
    assert found.seed == 0
    assert found.updates == 60
    listed = servicer.ListClassifiers(pb.ListClassifiersRequest(), Present())
    assert [one.name for one in listed.classifiers] == [labeler]


def test_what_is_not_there_is_not_found(servicer: LabelingServicer) -> None:
    with pytest.raises(NotFound):
        servicer.GetClassifier(pb.GetClassifierRequest(name="classifiers/" + "0" * 32), Present())


@pytest.mark.parametrize("name", ["", "classifiers/x", "generators/" + "0" * 32, "classifiers/../runs"])
def test_names_are_checked(servicer: LabelingServicer, name: str) -> None:
    with pytest.raises(InvalidArgument):
        servicer.GetClassifier(pb.GetClassifierRequest(name=name), Present())
    with pytest.raises(InvalidArgument):
        next(servicer.LabelBatch(pb.LabelBatchRequest(classifier=name, batch=BATCH), Present()))


def test_a_batch_is_labelled(servicer: LabelingServicer, labeler: str, settings: Settings) -> None:
    request = pb.LabelBatchRequest(classifier=labeler, batch=BATCH)
    *progress, last = servicer.LabelBatch(request, Present())
    assert [event.progress.done for event in progress] == [12]
    result = last.labelled_batch
    counts = {one.class_name: one for one in result.acceptances}
    assert counts["lies"].accepted >= 4
    assert counts["stands"].accepted == 0
    rows = read_rows(Store.open(settings.store, "report"), result.manifest)
    assert sum(row.label_verdict == "accepted" for row in rows) == counts["lies"].accepted
    again = list(servicer.LabelBatch(request, Present()))
    assert [event.labelled_batch for event in again] == [result]


def test_unsaid_mode_is_agree_and_unknown_modes_are_refused(servicer: LabelingServicer, labeler: str) -> None:
    def name(mode: int) -> str:
        request = pb.LabelBatchRequest(classifier=labeler, batch=BATCH, mode=mode)  # type: ignore[arg-type]
        return list(servicer.LabelBatch(request, Present()))[-1].labelled_batch.name

    assert name(0) == name(run_pb2.LabelingSpec.MODE_AGREE) != name(run_pb2.LabelingSpec.MODE_TRUST_PROMPT)
    with pytest.raises(InvalidArgument, match="MODE_TRUST_LABELER"):
        name(99)
