from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests.shapes import SMALL, VERSION, put_image, put_version, real_rows, served, shape

from genaug.schema.common import Precision
from genaug.schema.requests import MatchRequest
from genaug.schema.selection import Match
from genaug.schema.wire import from_proto, to_proto
from genaug.selection.embed import Embedding, SelectionProgress, embed, read_embedding
from genaug.selection.match import NEAREST_MADE, NEAREST_REAL, match, read_match, result_name
from genaug.selection.nearest import unit
from genaug.shared.digests import digest_of
from genaug.shared.errors import Cancelled, FailedPrecondition, InvalidArgument, NotFound
from genaug.shared.manifest import Row, decode, write_rows
from genaug.v1 import selection_pb2
from genaug.vision.batching.dynamic_batcher import ModelKey
from genaug.vision.features.image_encoder import LocalEncoder, predict_all
from genaug.vision.images.load_images import load_pixels
from genaug.vision.models.classifiers import TrainedClassifier
from genaug.vision.models.networks import build_network

CLASSIFIER = ModelKey("classifiers/" + "c" * 32, Precision.FLOAT32)
COUNTS = {"leans": 9, "lies": 14, "stands": 60}


def trained() -> TrainedClassifier:
    network = build_network(SMALL, channels=1, classes=2, seed=0)
    return TrainedClassifier(("a", "b"), network, name=CLASSIFIER.name)


def open_encoder(model: ModelKey) -> LocalEncoder:
    assert model == CLASSIFIER
    return served(trained())


def never(model: ModelKey) -> LocalEncoder:
    raise AssertionError("the classifier was loaded")


@pytest.fixture
def embedding(stores) -> str:
    """Real rows in a store, embedded."""
    assembly = stores("assembly")
    validation = real_rows(assembly, {"lies": 3}, split="validation", first=80)
    put_version(assembly, [*real_rows(assembly, COUNTS), *validation])
    *_, embedded = embed(stores("selection"), VERSION, CLASSIFIER, open_encoder=open_encoder)
    assert isinstance(embedded, Embedding)
    return embedded.name


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


def request_of(embedding: str, *manifests: str) -> MatchRequest:
    return MatchRequest(embedding=embedding, labelled_manifests=manifests)


def matched(stores, request: MatchRequest) -> tuple[Match, list[dict[str, Any]], list[dict[str, Any]]]:
    """The record, and the rows of both tables."""
    store = stores("selection")
    *_, record = match(request, store, open_encoder=open_encoder)
    assert isinstance(record, Match)
    made, real = decode(store.get(record.nearest_made)), decode(store.get(record.nearest_real))
    assert made.schema.equals(NEAREST_MADE)
    assert real.schema.equals(NEAREST_REAL)
    return record, made.to_pylist(), real.to_pylist()


def test_each_image_meets_its_nearest(stores, embedding: str) -> None:
    rows = made_rows(stores, {"lies": 12, "stands": 4})
    record, made, real = matched(stores, request_of(embedding, labelled(stores, rows)))
    kinds = {row.image_id: row.class_name for row in rows}
    assert sorted(row["made_id"] for row in real) == sorted(kinds)
    assert all(row["class"] == kinds[row["made_id"]] for row in [*made, *real])
    assert len(made) == COUNTS["lies"] * 10 + COUNTS["stands"] * 4
    features = {row.image_id: unit(trained().features(shape_of(stores, row)))[0] for row in rows}
    embedded = read_embedding(stores("selection"), embedding)
    features |= dict(zip(embedded.image_ids, unit(embedded.features), strict=True))
    for row in [*made, *real]:
        assert row["distance"] == pytest.approx(1 - features[row["image_id"]] @ features[row["made_id"]], abs=1e-6)
    ranks = [row["rank"] for row in made if row["image_id"] == made[0]["image_id"]]
    assert ranks == list(range(1, len(ranks) + 1))
    lies = {closeness.class_name: closeness for closeness in record.closenesses}["lies"]
    assert lies.made == 12
    assert lies.made_median == pytest.approx(np.median([r["distance"] for r in real if r["class"] == "lies"]))


def shape_of(stores, row: Row) -> np.ndarray:
    return load_pixels(stores("selection"), [row], image_size=8, channels=1)


def test_a_copy_is_suspected_and_another_subject_is_not(stores, embedding: str) -> None:
    """A training image given out as made is at distance 0; nothing natural is as near."""
    copied = put_image(stores("generation"), shape("stands", seed=3), "stands", folder="draws", split="train")
    copied = replace(copied, image_id="f" * 32, source="synthetic", label_verdict="accepted")
    rows = [*made_rows(stores, {"stands": 20}), copied]
    record, _, real = matched(stores, request_of(embedding, labelled(stores, rows)))
    flagged = [row for row in real if row["copy"]]
    assert "f" * 32 in {row["made_id"] for row in flagged}
    original = put_image(stores("assembly"), shape("stands", seed=3), "stands", split="train")
    assert {row["image_id"] for row in flagged if row["made_id"] == "f" * 32} == {original.image_id}
    (closeness,) = record.closenesses
    assert closeness.suspected_copies == len(flagged) < 10
    assert 0 < closeness.copy_distance < closeness.real_median


def test_only_accepted_images_are_matched(stores, embedding: str) -> None:
    accepted = made_rows(stores, {"lies": 3})
    verdicts = ("disagrees", "unsure", "degenerate")
    others = made_rows(stores, {"lies": 3}, first=900)
    rest = [replace(row, label_verdict=verdict) for verdict, row in zip(verdicts, others, strict=True)]
    again = labelled(stores, accepted, digit="2")
    _, _, real = matched(stores, request_of(embedding, labelled(stores, [*accepted, *rest]), again))
    assert sorted(row["made_id"] for row in real) == sorted(row.image_id for row in accepted)


def test_nothing_accepted_is_an_empty_match(stores, embedding: str) -> None:
    rows = made_rows(stores, {"lies": 3}, label_verdict="unsure")
    request = request_of(embedding, labelled(stores, rows))
    (record,) = match(request, stores("selection"), open_encoder=never)
    assert isinstance(record, Match)
    assert record.closenesses == ()
    assert decode(stores("report").get(record.nearest_real)).num_rows == 0


def test_progress_is_in_images(stores, embedding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("genaug.selection.match.SHARD", 4)
    rows = made_rows(stores, {"leans": 2, "lies": 4})
    *progress, _ = match(request_of(embedding, labelled(stores, rows)), stores("selection"), open_encoder=open_encoder)
    expected = [("embedding", 4), ("embedding", 6), ("matching", 2), ("matching", 6)]
    assert progress == [SelectionProgress(step, number, 6) for step, number in expected]


def test_features_that_labelling_stored_are_not_computed_again(stores, embedding: str) -> None:
    accepted, rest = made_rows(stores, {"lies": 5}), made_rows(stores, {"stands": 4}, first=700, label_verdict="unsure")
    rows = [row for pair in zip(accepted, [*rest, accepted[0]], strict=True) for row in pair]
    request = request_of(embedding, labelled(stores, rows))
    _, *expected = matched(stores, request)
    for key in ("match.json", "nearest_made.parquet", "nearest_real.parquet"):
        stores("selection").delete(f"{result_name(request)}/{key}")
    list(predict_all(stores("labeling"), [row.uri for row in rows], open_encoder(CLASSIFIER)))
    for row in {row.uri: row for row in rows}.values():
        stores("generation").delete(row.uri)
    assert list(matched(stores, request)[1:]) == expected


def test_a_match_is_made_once_and_alike(stores, embedding: str) -> None:
    rows = made_rows(stores, {"lies": 5, "stands": 5})
    request = request_of(embedding, labelled(stores, rows[:6]), labelled(stores, rows[6:], digit="2"))
    first, *tables = matched(stores, request)
    assert from_proto(Match, to_proto(selection_pb2.Match, first)) == first
    assert list(match(request, stores("selection"), open_encoder=never)) == [first]
    turned = request_of(embedding, *request.labelled_manifests[::-1])
    assert result_name(turned) == result_name(request) == first.name
    for key in ("match.json", "nearest_made.parquet", "nearest_real.parquet"):
        stores("selection").delete(f"{first.name}/{key}")
    assert list(matched(stores, turned)[1:]) == tables


def test_matches_keep_their_names() -> None:
    """Matches of earlier releases are found again: names are digests of the same JSON."""
    embedding, manifests = "embeddings/" + "e" * 32, [f"labels/{digit * 32}/manifest.parquet" for digit in "12"]
    digest = digest_of("match/2", {"embedding": embedding, "labelled_manifests": manifests})
    assert (
        result_name(request_of(embedding, *manifests))
        == f"matches/{digest}"
        == "matches/cdd068c8b082e72ec08d561ab47d396b"
    )


def test_a_caller_who_left_gets_nothing_written(stores, embedding: str) -> None:
    request = request_of(embedding, labelled(stores, made_rows(stores, {"lies": 5})))
    answers = iter([True, False])
    with pytest.raises(Cancelled):
        list(match(request, stores("selection"), open_encoder=open_encoder, is_active=lambda: next(answers)))
    with pytest.raises(NotFound):
        read_match(stores("selection"), result_name(request))
    assert not list(stores("selection").list(f"{result_name(request)}/"))


def test_classes_without_training_images_are_refused(stores, embedding: str) -> None:
    rows = [replace(row, class_name="none-such") for row in made_rows(stores, {"lies": 1})]
    with pytest.raises(FailedPrecondition, match="none-such") as caught:
        list(match(request_of(embedding, labelled(stores, rows)), stores("selection"), open_encoder=never))
    assert caught.value.reason == "CLASS_WITHOUT_IMAGES"


def test_missing_inputs_are_named(stores, embedding: str) -> None:
    missing = request_of("embeddings/" + "0" * 32, labelled(stores, []))
    with pytest.raises(NotFound, match="embed the dataset version first"):
        list(match(missing, stores("selection"), open_encoder=never))
    key = "labels/" + "9" * 32 + "/manifest.parquet"
    with pytest.raises(NotFound, match="labels/9"):
        list(match(request_of(embedding, key), stores("selection"), open_encoder=never))
    with pytest.raises(InvalidArgument):
        list(match(request_of(embedding), stores("selection"), open_encoder=never))
