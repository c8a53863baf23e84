from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.shapes import VERSION, item, put_image, put_version, real_rows, shape

from genaug.labeling.train_labeler import train_labeler
from genaug.schema.classifiers import Role
from genaug.selection.service import SelectionServicer
from genaug.shared.errors import InvalidArgument, NotFound
from genaug.shared.manifest import decode, write_rows
from genaug.shared.settings import Settings, StoreSettings
from genaug.shared.store import Store
from genaug.v1 import common_pb2, run_pb2
from genaug.v1 import selection_service_pb2 as pb
from genaug.vision.images.pixels import encode_png
from genaug.vision.models.classifiers import load

COUNTS = {"leans": 8, "lies": 25, "stands": 15}


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
    put_version(assembly, real_rows(assembly, COUNTS))
    return train_labeler(item(role=Role.LABELER, updates=10), assembly.as_role("train"), lambda *_: None, device="cpu")


@pytest.fixture
def servicer(settings: Settings):
    servicer = SelectionServicer(settings)
    servicer.warm_up()
    yield servicer
    servicer.close()


def test_from_images_to_a_selection(servicer: SelectionServicer, labeler: str, settings: Settings) -> None:
    embed = pb.EmbedVersionRequest(dataset_version=VERSION, classifier=labeler)
    *progress, last = servicer.EmbedVersion(embed, Present())
    assert [event.progress.done for event in progress] == [48]
    embedding = last.embedding
    assert (embedding.rows, embedding.dimensions) == (48, 64)
    assert list(servicer.EmbedVersion(embed, Present())) == [last]

    spec = run_pb2.SelectionSpec(classes=["lies"], kept=15, seed=1)
    request = pb.SelectImagesRequest(dataset_version=VERSION, embedding=embedding.name, spec=spec)
    *progress, last = servicer.SelectImages(request, Present())
    assert [event.progress.step for event in progress] == ["projecting", "choosing"]
    selection = last.selection
    assert selection.spec.method == run_pb2.SelectionSpec.METHOD_TSNE_GRID
    (quality,) = selection.qualities
    assert (quality.class_name, quality.available, quality.kept) == ("lies", 25, 15)
    rows = decode(Store.open(settings.store, "report").get(selection.manifest)).to_pylist()
    assert len(rows) == 48
    assert sum(row["chosen"] for row in rows) == 8 + 15 + 15
    assert list(servicer.SelectImages(request, Present())) == [last]

    assert [alternative.method for alternative in quality.alternatives] == [1, 2, 3, 4]

    assert servicer.GetSelection(pb.GetSelectionRequest(name=selection.name), Present()) == selection
    export = servicer.ExportSelection(pb.ExportSelectionRequest(name=selection.name), Present())
    table = b"".join(response.frame.data for response in export).decode().splitlines()
    assert len(table) == 1 + 8 + 15 + 15
    assert table[0] == "image_id,label,x,y"
    listed = servicer.ListSelections(pb.ListSelectionsRequest(page_size=1), Present())
    assert list(listed.selections) == [selection]
    assert listed.next_page_token == ""


def test_made_images_meet_their_nearest(servicer: SelectionServicer, labeler: str, settings: Settings) -> None:
    *_, last = servicer.EmbedVersion(pb.EmbedVersionRequest(dataset_version=VERSION, classifier=labeler), Present())
    generation = Store.open(settings.store, "generation")
    facts = {"folder": "draws", "split": "train", "source": "synthetic", "label_verdict": "accepted"}
    made = [put_image(generation, shape("lies", seed=seed), "lies", **facts) for seed in range(100, 105)]
    key = "labels/" + "5" * 32 + "/manifest.parquet"
    write_rows(generation.as_role("labeling"), key, made)
    request = pb.MatchImagesRequest(embedding=last.embedding.name, labelled_manifests=[key])
    *progress, last = servicer.MatchImages(request, Present())
    assert [(event.progress.step, event.progress.done, event.progress.unit) for event in progress] == [
        ("embedding", 5, "images"),
        ("matching", 5, "images"),
    ]
    (closeness,) = last.match.closenesses
    assert (closeness.class_name, closeness.made) == ("lies", 5)
    assert decode(Store.open(settings.store, "report").get(last.match.nearest_made)).num_rows == 25 * 5
    assert servicer.GetMatch(pb.GetMatchRequest(name=last.match.name), Present()) == last.match
    assert list(servicer.MatchImages(request, Present())) == [last]


def test_missing_results_are_not_found(servicer: SelectionServicer) -> None:
    name = "selections/" + "0" * 32
    with pytest.raises(NotFound):
        servicer.GetSelection(pb.GetSelectionRequest(name=name), Present())
    with pytest.raises(NotFound):
        list(servicer.ExportSelection(pb.ExportSelectionRequest(name=name), Present()))
    with pytest.raises(NotFound):
        servicer.GetMatch(pb.GetMatchRequest(name="matches/" + "0" * 32), Present())


def test_requests_of_matches_are_checked(servicer: SelectionServicer) -> None:
    embedding, key = "embeddings/" + "0" * 32, "labels/" + "0" * 32 + "/manifest.parquet"
    wrong = [
        pb.MatchImagesRequest(embedding="classifiers/" + "0" * 32, labelled_manifests=[key]),
        pb.MatchImagesRequest(embedding=embedding),
        pb.MatchImagesRequest(embedding=embedding, labelled_manifests=["sealed/datasets/d/rows.parquet"]),
        pb.MatchImagesRequest(embedding=embedding, labelled_manifests=[key, "labels/" + "0" * 32 + "/other"]),
    ]
    for request in wrong:
        with pytest.raises(InvalidArgument):
            next(servicer.MatchImages(request, Present()))
    with pytest.raises(InvalidArgument):
        servicer.GetMatch(pb.GetMatchRequest(name="selections/" + "0" * 32), Present())


def test_requests_are_checked(servicer: SelectionServicer) -> None:
    embedding, spec = "embeddings/" + "0" * 32, run_pb2.SelectionSpec(classes=["lies"], kept=15)
    wrong = [
        pb.SelectImagesRequest(dataset_version="shapes", embedding=embedding, spec=spec),
        pb.SelectImagesRequest(dataset_version=VERSION, embedding="classifiers/" + "0" * 32, spec=spec),
        pb.SelectImagesRequest(dataset_version=VERSION, embedding=embedding),
        pb.SelectImagesRequest(
            dataset_version=VERSION, embedding=embedding, spec=run_pb2.SelectionSpec(classes=["lies"], kept=1, method=9)
        ),
    ]
    for request in wrong:
        with pytest.raises(InvalidArgument):
            next(servicer.SelectImages(request, Present()))
    for name in ("", "selections/x", "runs/" + "0" * 32):
        with pytest.raises(InvalidArgument):
            servicer.GetSelection(pb.GetSelectionRequest(name=name), Present())


def test_images_that_are_sent_are_embedded_in_order(servicer: SelectionServicer, labeler: str) -> None:
    def stream():
        yield pb.EmbedImagesRequest(config=pb.EmbedImagesRequest.Config(classifier=labeler))
        for word, data in (("a", encode_png(shape("lies", seed=0))), ("b", b"none")):
            yield pb.EmbedImagesRequest(image=common_pb2.InlineImage(id=word, data=data))

    first, second = servicer.EmbedImages(stream(), Present())
    assert (first.id, second.id, first.index, second.index) == ("a", "b", 0, 1)
    assert (len(first.features), list(second.features)) == (64, [])
    assert (first.status.reason, second.status.reason) == ("OK", "UNREADABLE")
    model = load(Store.open(servicer._settings.store, "selection"), labeler, device="cpu")
    np.testing.assert_array_equal(np.array(first.features, np.float32), model.features(shape("lies", seed=0)[None])[0])
