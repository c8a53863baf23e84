from __future__ import annotations

from pathlib import Path

import pytest
from tests.shapes import VERSION, item, put_version, real_rows

from genaug.labeling.train import train_labeler
from genaug.selection.service import SelectionServicer
from genaug.shared.errors import InvalidArgument, NotFound
from genaug.shared.manifest import decode
from genaug.shared.settings import Settings, StoreSettings
from genaug.shared.store import Store
from genaug.v1 import run_pb2
from genaug.v1 import selection_service_pb2 as pb

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
    wanted = item(role="ROLE_LABELER", updates=10)
    return train_labeler(wanted, assembly.as_role("train"), lambda *_: None, device="cpu")


@pytest.fixture
def servicer(settings: Settings):
    servicer = SelectionServicer(settings)
    servicer.warm_up()
    yield servicer
    servicer.close()


def test_from_images_to_a_selection(servicer: SelectionServicer, labeler: str, settings: Settings) -> None:
    embed = pb.EmbedImagesRequest(dataset_version=VERSION, classifier=labeler)
    *progress, last = servicer.EmbedImages(embed, Present())
    assert [event.progress.done for event in progress] == [48]
    embedding = last.embedding
    assert (embedding.rows, embedding.dimensions) == (48, 64)
    assert list(servicer.EmbedImages(embed, Present())) == [last]

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

    assert servicer.GetSelection(pb.GetSelectionRequest(name=selection.name), Present()) == selection
    listed = servicer.ListSelections(pb.ListSelectionsRequest(page_size=1), Present())
    assert list(listed.selections) == [selection]
    assert listed.next_page_token == ""


def test_what_is_not_there_is_not_found(servicer: SelectionServicer) -> None:
    with pytest.raises(NotFound):
        servicer.GetSelection(pb.GetSelectionRequest(name="selections/" + "0" * 32), Present())


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
