from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.shapes import CLASSES, item, put_image, put_version, real_rows, shape

from genaug.labeling.service import LabelingServicer
from genaug.labeling.train_labeler import train_labeler
from genaug.schema.classifiers import Role
from genaug.shared.errors import InvalidArgument, NotFound
from genaug.shared.manifest import read_rows, write_rows
from genaug.shared.settings import Settings, StoreSettings
from genaug.shared.store import Store
from genaug.v1 import common_pb2, run_pb2
from genaug.v1 import labeling_service_pb2 as pb
from genaug.vision.images.pixels import encode_png

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
    return train_labeler(item(role=Role.LABELER), assembly.as_role("train"), lambda *_: None, device="cpu")


@pytest.fixture
def servicer(settings: Settings):
    servicer = LabelingServicer(settings)
    servicer.warm_up()
    yield servicer
    servicer.close()


def test_classifiers_are_got_and_listed(servicer: LabelingServicer, labeler: str) -> None:
    record = servicer.GetClassifier(pb.GetClassifierRequest(name=labeler), Present())
    assert record.name == labeler
    assert list(record.classes) == CLASSES
    assert record.seed == 0
    assert record.updates == 60
    listed = servicer.ListClassifiers(pb.ListClassifiersRequest(), Present())
    assert [record.name for record in listed.classifiers] == [labeler]


def test_a_missing_classifier_is_not_found(servicer: LabelingServicer) -> None:
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
    counts = {acceptance.class_name: acceptance for acceptance in result.acceptances}
    assert counts["lies"].accepted >= 4
    assert counts["stands"].accepted == 0
    rows = read_rows(Store.open(settings.store, "report"), result.manifest)
    assert sum(row.label_verdict == "accepted" for row in rows) == counts["lies"].accepted
    again = list(servicer.LabelBatch(request, Present()))
    assert [event.labelled_batch for event in again] == [result]


def test_the_default_mode_is_agree_and_unknown_modes_are_refused(servicer: LabelingServicer, labeler: str) -> None:
    def name(mode: int) -> str:
        request = pb.LabelBatchRequest(classifier=labeler, batch=BATCH, mode=mode)  # type: ignore[arg-type]
        return list(servicer.LabelBatch(request, Present()))[-1].labelled_batch.name

    assert name(0) == name(run_pb2.LabelingSpec.MODE_AGREE) != name(run_pb2.LabelingSpec.MODE_TRUST_PROMPT)
    with pytest.raises(InvalidArgument, match=r"mode: 99 .*TRUST_LABELER"):
        name(99)


def images(*parts: object) -> Iterator[pb.LabelImagesRequest]:
    for number, part in enumerate(parts):
        if isinstance(part, bytes):
            yield pb.LabelImagesRequest(image=common_pb2.InlineImage(id=f"mine-{number}", data=part))
        else:
            yield pb.LabelImagesRequest(config=part)  # type: ignore[arg-type]


def png(kind: str, seed: int) -> bytes:
    return encode_png(shape(kind, seed=seed))


def test_images_that_are_sent_are_labelled_in_order(servicer: LabelingServicer, labeler: str) -> None:
    config = pb.LabelImagesRequest.Config(classifier=labeler, top_k=2)
    sent = [png("lies", 1), b"no image", png("stands", 2), encode_png(np.full((8, 8, 1), 9, np.uint8))]
    responses = list(servicer.LabelImages(images(config, *sent), Present()))
    assert [response.id for response in responses] == ["mine-1", "mine-2", "mine-3", "mine-4"]
    assert [response.index for response in responses] == [0, 1, 2, 3]
    assert [response.status.reason for response in responses] == ["OK", "UNREADABLE", "OK", "CONSTANT"]
    assert responses[1].status.message
    assert [len(response.top) for response in responses] == [2, 0, 2, 2]
    assert [responses[0].top[0].class_name, responses[2].top[0].class_name] == ["lies", "stands"]
    assert responses[0].top[0].probability >= responses[0].top[1].probability
    assert responses[0].sure
    assert not responses[3].sure


def test_all_classes_are_returned_by_default(servicer: LabelingServicer, labeler: str) -> None:
    config = pb.LabelImagesRequest.Config(classifier=labeler)
    (response,) = servicer.LabelImages(images(config, png("lies", 1)), Present())
    assert {top.class_name for top in response.top} == set(CLASSES)
    assert sum(top.probability for top in response.top) == pytest.approx(1, abs=1e-5)


def test_a_manifest_is_labelled_as_its_batch_is(servicer: LabelingServicer, labeler: str, settings: Settings) -> None:
    config = pb.LabelImagesRequest.Config(classifier=labeler, top_k=1, manifest=f"{BATCH}/manifest.parquet")
    responses = list(servicer.LabelImages(images(config), Present()))
    *_, last = servicer.LabelBatch(pb.LabelBatchRequest(classifier=labeler, batch=BATCH), Present())
    rows = read_rows(Store.open(settings.store, "report"), last.labelled_batch.manifest)
    assert [(response.id, response.top[0].class_name) for response in responses] == [
        (row.image_id, row.label) for row in rows
    ]


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        ([], "NO_CONFIG"),
        ([b"image"], "NO_CONFIG"),
        ([{"top_k": -1}], "BAD_TOP_K"),
        ([{"precision": 77}], "UNKNOWN_PRECISION"),
        ([{"classifier": "classifiers/x"}], "BAD_NAME"),
        ([{"manifest": "datasets/x/versions/y/rows.parquet"}], "BAD_NAME"),
        ([{"manifest": "batches/../manifest.parquet"}], "BAD_NAME"),
        ([{}, {}], "NO_IMAGE"),
    ],
)
def test_bad_streams_are_refused(servicer: LabelingServicer, labeler: str, parts: list[object], reason: str) -> None:
    sent = [
        pb.LabelImagesRequest.Config(**{"classifier": labeler, **part}) if isinstance(part, dict) else part
        for part in parts
    ]
    with pytest.raises(InvalidArgument) as caught:
        list(servicer.LabelImages(images(*sent), Present()))
    assert caught.value.reason == reason


def test_preloaded_classifiers_are_ready_before_the_service(labeler: str, settings: Settings) -> None:
    for name in (labeler, "classifiers/" + "0" * 32):
        inference = settings.inference.model_copy(update={"preload": [name]})
        servicer = LabelingServicer(settings.model_copy(update={"inference": inference}))
        if name == labeler:
            servicer.warm_up()
        else:
            with pytest.raises(NotFound):
                servicer.warm_up()
        servicer.close()
