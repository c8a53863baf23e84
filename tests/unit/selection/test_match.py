from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from google.protobuf import json_format
from tests.shapes import VERSION, put_image, put_version, real_rows, served, shape

from genaug.selection.embed import Doing, Embedding, embed, read_embedding
from genaug.selection.match import NEAREST_MADE, NEAREST_REAL, Matching, match, read_match
from genaug.selection.nearest import unit
from genaug.shared.errors import Cancelled, FailedPrecondition, InvalidArgument, NotFound
from genaug.shared.manifest import Row, decode, write_rows
from genaug.v1 import selection_pb2
from genaug.vision.batching.dynamic_batcher import Model
from genaug.vision.features.image_encoder import LocalEncoder, see_all
from genaug.vision.images.load_images import load_pixels
from genaug.vision.models.backbones import SMALL_CNN
from genaug.vision.models.classifiers import Classifier
from genaug.vision.models.networks import build_network
from genaug.vision.models.precision import FLOAT32

CLASSIFIER = Model("classifiers/" + "c" * 32, FLOAT32)
COUNTS = {"leans": 9, "lies": 14, "stands": 60}


def model() -> Classifier:
    network = build_network(SMALL_CNN, image_size=8, channels=1, classes=2, seed=0)
    return Classifier(("a", "b"), network, name=CLASSIFIER.name)


def eye(wanted: Model) -> LocalEncoder:
    assert wanted == CLASSIFIER
    return served(model())


def never(wanted: Model) -> LocalEncoder:
    raise AssertionError("the classifier was loaded")


@pytest.fixture
def embedding(stores) -> str:
    """Real rows in a store, embedded."""
    assembly = stores("assembly")
    validation = real_rows(assembly, {"lies": 3}, split="validation", first=80)
    put_version(assembly, [*real_rows(assembly, COUNTS), *validation])
    *_, found = embed(stores("selection"), VERSION, CLASSIFIER, eye=eye)
    assert isinstance(found, Embedding)
    return found.name


def made_rows(stores, counts: dict[str, int], *, first: int = 500, **facts: Any) -> list[Row]:
    facts = {"split": "train", "source": "synthetic", "label_verdict": "accepted"} | facts
    store = stores("generation")
    return [
        put_image(store, shape(kind, seed=first + number), kind, folder="draws", **facts)
        for kind, count in counts.items()
        for number in range(count)
    ]


def labelled(stores, rows: list[Row], *, digit: str = "1") -> str:
    key = f"labels/{digit * 32}/manifest.parquet"
    write_rows(stores("labeling"), key, rows)
    return key


def done(stores, wanted: Matching) -> tuple[dict[str, Any], list[dict[str, Any]], list[dict[str, Any]]]:
    store = stores("selection")
    *_, record = match(wanted, store, eye=eye)
    assert isinstance(record, dict)
    made, real = decode(store.get(record["nearest_made"])), decode(store.get(record["nearest_real"]))
    assert made.schema.equals(NEAREST_MADE)
    assert real.schema.equals(NEAREST_REAL)
    return record, made.to_pylist(), real.to_pylist()


def test_each_image_meets_its_nearest(stores, embedding: str) -> None:
    rows = made_rows(stores, {"lies": 12, "stands": 4})
    record, made, real = done(stores, Matching(embedding, (labelled(stores, rows),)))
    kinds = {row.image_id: row.class_name for row in rows}
    assert sorted(row["made_id"] for row in real) == sorted(kinds)
    assert all(row["class"] == kinds[row["made_id"]] for row in [*made, *real])
    assert len(made) == COUNTS["lies"] * 10 + COUNTS["stands"] * 4
    features = {row.image_id: unit(model().features(shape_of(stores, row)))[0] for row in rows}
    embedded = read_embedding(stores("selection"), embedding)
    features |= dict(zip(embedded.image_ids, unit(embedded.features), strict=True))
    for row in [*made, *real]:
        assert row["distance"] == pytest.approx(1 - features[row["image_id"]] @ features[row["made_id"]], abs=1e-6)
    ranks = [row["rank"] for row in made if row["image_id"] == made[0]["image_id"]]
    assert ranks == list(range(1, len(ranks) + 1))
    lies = {one["class_name"]: one for one in record["closenesses"]}["lies"]
    assert lies["made"] == 12
    assert lies["made_median"] == pytest.approx(np.median([r["distance"] for r in real if r["class"] == "lies"]))


def shape_of(stores, row: Row) -> np.ndarray:
    return load_pixels(stores("selection"), [row], image_size=8, channels=1)


def test_a_copy_is_suspected_and_another_subject_is_not(stores, embedding: str) -> None:
    """A training image given out as made is at distance 0; nothing natural is as near."""
    copied = put_image(stores("generation"), shape("stands", seed=3), "stands", folder="draws", split="train")
    copied = replace(copied, image_id="f" * 32, source="synthetic", label_verdict="accepted")
    rows = [*made_rows(stores, {"stands": 20}), copied]
    record, _, real = done(stores, Matching(embedding, (labelled(stores, rows),)))
    flagged = [row for row in real if row["copy"]]
    assert "f" * 32 in {row["made_id"] for row in flagged}
    original = put_image(stores("assembly"), shape("stands", seed=3), "stands", split="train")
    assert {row["image_id"] for row in flagged if row["made_id"] == "f" * 32} == {original.image_id}
    (closeness,) = record["closenesses"]
    assert closeness["suspected_copies"] == len(flagged) < 10
    assert 0 < closeness["copy_distance"] < closeness["real_median"]


def test_what_was_not_accepted_is_not_matched(stores, embedding: str) -> None:
    kept = made_rows(stores, {"lies": 3})
    verdicts = ("disagrees", "unsure", "degenerate")
    others = made_rows(stores, {"lies": 3}, first=900)
    rest = [replace(row, label_verdict=verdict) for verdict, row in zip(verdicts, others, strict=True)]
    twice = labelled(stores, kept, digit="2")
    _, _, real = done(stores, Matching(embedding, (labelled(stores, [*kept, *rest]), twice)))
    assert sorted(row["made_id"] for row in real) == sorted(row.image_id for row in kept)


def test_nothing_accepted_is_an_empty_match(stores, embedding: str) -> None:
    rows = made_rows(stores, {"lies": 3}, label_verdict="unsure")
    wanted = Matching(embedding, (labelled(stores, rows),))
    (record,) = match(wanted, stores("selection"), eye=never)
    assert isinstance(record, dict)
    assert record["closenesses"] == []
    assert decode(stores("report").get(record["nearest_real"])).num_rows == 0


def test_progress_is_in_images(stores, embedding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("genaug.selection.match.SHARD", 4)
    rows = made_rows(stores, {"leans": 2, "lies": 4})
    *progress, _ = match(Matching(embedding, (labelled(stores, rows),)), stores("selection"), eye=eye)
    expected = [("embedding", 4), ("embedding", 6), ("matching", 2), ("matching", 6)]
    assert progress == [Doing(step, number, 6) for step, number in expected]


def test_what_labelling_saw_is_not_seen_again(stores, embedding: str) -> None:
    kept, rest = made_rows(stores, {"lies": 5}), made_rows(stores, {"stands": 4}, first=700, label_verdict="unsure")
    rows = [row for pair in zip(kept, [*rest, kept[0]], strict=True) for row in pair]
    wanted = Matching(embedding, (labelled(stores, rows),))
    _, *expected = done(stores, wanted)
    for key in ("match.json", "nearest_made.parquet", "nearest_real.parquet"):
        stores("selection").delete(f"{wanted.name}/{key}")
    list(see_all(stores("labeling"), [row.uri for row in rows], eye(CLASSIFIER)))
    for row in {row.uri: row for row in rows}.values():
        stores("generation").delete(row.uri)
    assert list(done(stores, wanted)[1:]) == expected


def test_a_match_is_made_once_and_alike(stores, embedding: str) -> None:
    rows = made_rows(stores, {"lies": 5, "stands": 5})
    wanted = Matching(embedding, (labelled(stores, rows[:6]), labelled(stores, rows[6:], digit="2")))
    first, *tables = done(stores, wanted)
    message = json_format.ParseDict(first, selection_pb2.Match())
    assert [one.copy_distance for one in message.closenesses] == [one["copy_distance"] for one in first["closenesses"]]
    assert list(match(wanted, stores("selection"), eye=never)) == [first]
    turned = Matching(embedding, wanted.labelled_manifests[::-1])
    assert turned.name == wanted.name == first["name"]
    for key in ("match.json", "nearest_made.parquet", "nearest_real.parquet"):
        stores("selection").delete(f"{first['name']}/{key}")
    assert list(done(stores, turned)[1:]) == tables


def test_a_caller_who_left_gets_nothing_written(stores, embedding: str) -> None:
    wanted = Matching(embedding, (labelled(stores, made_rows(stores, {"lies": 5})),))
    answers = iter([True, False])
    with pytest.raises(Cancelled):
        list(match(wanted, stores("selection"), eye=eye, until=lambda: next(answers)))
    with pytest.raises(NotFound):
        read_match(stores("selection"), wanted.name)
    assert not list(stores("selection").list(f"{wanted.name}/"))


def test_classes_without_training_images_are_refused(stores, embedding: str) -> None:
    rows = [replace(row, class_name="none-such") for row in made_rows(stores, {"lies": 1})]
    with pytest.raises(FailedPrecondition, match="none-such") as caught:
        list(match(Matching(embedding, (labelled(stores, rows),)), stores("selection"), eye=never))
    assert caught.value.reason == "CLASS_WITHOUT_IMAGES"


def test_what_is_not_there_is_named(stores, embedding: str) -> None:
    missing = Matching("embeddings/" + "0" * 32, (labelled(stores, []),))
    with pytest.raises(NotFound, match="embed the dataset version first"):
        list(match(missing, stores("selection"), eye=never))
    key = "labels/" + "9" * 32 + "/manifest.parquet"
    with pytest.raises(NotFound, match="labels/9"):
        list(match(Matching(embedding, (key,)), stores("selection"), eye=never))
    with pytest.raises(InvalidArgument):
        Matching(embedding, ())
