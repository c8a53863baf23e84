from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from obstore.store import MemoryStore
from tests.conftest import Stores

from genaug.generation.sampling.batches import BatchProgress, BatchRequest, fill_batch, finished_batch
from genaug.generation.sampling.receipts import (
    DrawnImage,
    DrawProgress,
    ImageRequest,
    draw_digest,
    draw_key,
    receipt_json,
    receipt_of,
)
from genaug.schema.generators import Batch, Generator, RejectionReason
from genaug.schema.sampling import Sampler
from genaug.shared.digests import canonical_json, sha256
from genaug.shared.errors import Cancelled, FailedPrecondition, ResourceExhausted
from genaug.shared.manifest import Row, check_training, read_rows
from genaug.shared.store import Store
from genaug.vision.images import provenance_metadata
from genaug.vision.images.pixels import Pixels, decode, encode_png, pixel_sha256

REQUEST = BatchRequest("generators/" + "0" * 32, {"b": 2, "a": 3}, 7, 10, Sampler())
RECORD = Generator(name=REQUEST.generator, captions={"a": "an a", "b": "a b"})


def noise(request: ImageRequest, *, tint: int = 0) -> Pixels:
    """Noise that depends on the request."""
    rng = np.random.default_rng([request.index, tint, *request.class_name.encode()])
    return rng.integers(0, 256, (8, 8, 1), dtype=np.uint8)


class FakeGenerator:
    """Draws noise, and records the requests. Cancels after `most` images; `unusable` ones replace the noise."""

    def __init__(
        self, *, most: int = 1000, tint: int = 0, unusable: Mapping[ImageRequest, DrawnImage] | None = None
    ) -> None:
        self.drawn: list[ImageRequest] = []
        self._most = most
        self._tint = tint
        self._unusable = unusable or {}

    def __call__(self, requests: Sequence[ImageRequest]) -> Iterator[DrawnImage | DrawProgress]:
        for request in requests:
            if len(self.drawn) == self._most:
                raise Cancelled("stop")
            self.drawn.append(request)
            yield DrawProgress(len(self.drawn), len(requests))
            yield self._unusable.get(request) or DrawnImage(
                request, noise(request, tint=self._tint), 4, (f"parent-{request.index}",)
            )


def fill(store: Store, generator: FakeGenerator, request: BatchRequest = REQUEST) -> list[BatchProgress | Batch]:
    return list(fill_batch(store, request, RECORD, device="cpu", draw_missing=generator))


def filled(store: Store, generator: FakeGenerator, request: BatchRequest = REQUEST) -> Batch:
    batch = fill(store, generator, request)[-1]
    assert isinstance(batch, Batch)
    return batch


def counts(batch: Batch) -> dict[str, int]:
    return {entry.class_name: entry.count for entry in batch.counts}


def rejected(batch: Batch) -> list[tuple[str, RejectionReason, int]]:
    return [(entry.class_name, entry.reason, entry.count) for entry in batch.rejected]


def test_a_batch_holds_each_requested_image_by_class_and_index(stores: Stores) -> None:
    store = stores("generation")
    *progress, batch = fill(store, FakeGenerator())
    assert progress[0] == BatchProgress(0, 5, DrawProgress())
    assert progress[-1] == BatchProgress(5, 5, DrawProgress(5, 5))
    assert isinstance(batch, Batch)
    assert batch.drawn == 5
    assert counts(batch) == {"a": 3, "b": 2}
    assert batch.rejected == ()
    assert finished_batch(store, REQUEST) == batch.replace(drawn=0)
    rows = read_rows(store, REQUEST.manifest)
    assert [(row.class_name, row.index) for row in rows] == [("a", 10), ("a", 11), ("a", 12), ("b", 10), ("b", 11)]
    check_training(rows)
    for row in rows:
        png = store.get(row.uri)
        assert (row.content_sha256, row.pixel_sha256) == (sha256(png), pixel_sha256(decode(png)))
        assert (row.uri, row.fold, row.source, row.prompt) == (draw_key(row.image_id), -1, "synthetic", row.class_name)
        assert json.loads(row.receipt)["draw"] == row.image_id
        assert json.loads(row.receipt)["prompt"] == f"{'an' if row.class_name == 'a' else 'a'} {row.class_name}"
        carried = provenance_metadata.receipt_of(png)
        assert canonical_json(carried).decode() == row.receipt, "the image carries its receipt"


def test_a_record_has_the_form_of_earlier_releases(stores: Stores) -> None:
    store = stores("generation")
    fill(store, FakeGenerator())
    assert store.get_json(REQUEST.record) == {
        "name": REQUEST.name, "manifest": REQUEST.manifest, "rejected": [],
        "counts": [{"class_name": "a", "count": 3}, {"class_name": "b", "count": 2}],
    }  # fmt: skip


def test_finished_is_none_before_the_manifest_is_written(stores: Stores) -> None:
    store = stores("generation")
    with pytest.raises(Cancelled):
        fill(store, FakeGenerator(most=1))
    assert finished_batch(store, REQUEST) is None


def test_stored_draws_are_not_made_again(stores: Stores) -> None:
    store, second = stores("generation"), FakeGenerator()
    fill(store, FakeGenerator(), replace(REQUEST, counts={"a": 2}))
    *progress, batch = fill(store, second)
    assert second.drawn == [ImageRequest("a", 7, 12), ImageRequest("b", 7, 10), ImageRequest("b", 7, 11)]
    assert progress[0] == BatchProgress(2, 5, DrawProgress())
    assert isinstance(batch, Batch)
    assert batch.drawn == 3


def test_draws_before_a_cancellation_are_kept_and_used(stores: Stores) -> None:
    store, second = stores("generation"), FakeGenerator()
    with pytest.raises(Cancelled):
        fill(store, FakeGenerator(most=3))
    assert not store.exists(REQUEST.manifest)
    assert len(list(store.list("draws/"))) == 3
    fill(store, second)
    assert len(second.drawn) == 2


def test_a_stored_draw_has_the_row_of_a_new_one(stores: Stores) -> None:
    store = stores("generation")
    [new] = rows_of_a(store, FakeGenerator())
    [stored] = rows_of_a(store, FakeGenerator(tint=1), first_index=9)[1:]
    assert stored == new
    assert stored.parent_ids == ("parent-10",)


def rows_of_a(store: Store, generator: FakeGenerator, *, first_index: int = 10) -> list[Row]:
    """The rows from `first_index` to 10 of class "a"."""
    request = replace(REQUEST, counts={"a": 11 - first_index}, first_index=first_index)
    fill(store, generator, request)
    return read_rows(store, request.manifest)


def test_the_stored_object_wins_over_a_redraw_that_differs(stores: Stores) -> None:
    """Another request stores its draw while this one draws."""
    store = stores("generation")
    image = REQUEST.images()[0]
    digest = draw_digest(REQUEST.generator, image, REQUEST.sampler)
    pixels = noise(image, tint=9)
    other = receipt_of(RECORD, DrawnImage(image, pixels, 4), sampler=REQUEST.sampler, device="cpu")

    class Overtaken(FakeGenerator):
        def __call__(self, requests: Sequence[ImageRequest]) -> Iterator[DrawnImage | DrawProgress]:
            store.put_new(draw_key(digest), provenance_metadata.encode_marked(pixels, receipt_json(other)))
            return super().__call__(requests)

    generator = Overtaken()
    fill(store, generator)
    row = read_rows(store, REQUEST.manifest)[0]
    assert image in generator.drawn
    assert row.pixel_sha256 == pixel_sha256(pixels)
    assert row.content_sha256 == sha256(store.get(row.uri))
    assert json.loads(row.receipt)["pixel_sha256"] == row.pixel_sha256


def test_names_are_those_of_stored_batches() -> None:
    assert replace(REQUEST, sampler=Sampler(image_size=8)).name == "batches/ee8da682aa2b575024ad7b82e3817c15"
    assert replace(REQUEST, sampler=None).name == "batches/f127c56656a30bf7fe06bf5d73fd7196"


def test_the_name_follows_the_request_and_not_the_order_of_its_classes() -> None:
    assert REQUEST.name == replace(REQUEST, counts={"a": 3, "b": 2}).name
    others = [
        replace(REQUEST, generator="generators/" + "1" * 32),
        replace(REQUEST, counts={"a": 3, "b": 1}),
        replace(REQUEST, seed=8),
        replace(REQUEST, first_index=11),
        replace(REQUEST, sampler=Sampler(steps=10)),
        replace(REQUEST, sampler=None),
    ]
    assert len({REQUEST.name, *(other.name for other in others)}) == 7


class SlowStore(Store):
    """Calls `on_put` before each put, which may wait or fail."""

    on_put: Callable[[], None]

    def put_new(self, key: str, data: bytes) -> bool:
        self.on_put()
        return super().put_new(key, data)


def slow_store(stores: Stores, on_put: Callable[[], None]) -> SlowStore:
    store = stores("generation").as_role("generation")
    store.__class__ = SlowStore
    store.on_put = on_put  # type: ignore[attr-defined]
    return store  # type: ignore[return-value]


def test_drawing_ends_soon_after_the_store_fails(stores: Stores) -> None:
    def full() -> None:
        raise ResourceExhausted("full", reason="STORE_FULL")

    generator = FakeGenerator()
    with pytest.raises(ResourceExhausted):
        fill(slow_store(stores, full), generator, replace(REQUEST, counts={"a": 240}))
    assert len(generator.drawn) <= 70
    assert not stores("generation").exists(replace(REQUEST, counts={"a": 240}).manifest)


def test_a_slow_store_slows_drawing_and_bounds_memory(stores: Stores) -> None:
    uploads: list[int] = []
    waiting: list[int] = []

    def slow() -> None:
        time.sleep(0.004)
        uploads.append(1)

    class Watched(FakeGenerator):
        def __call__(self, requests: Sequence[ImageRequest]) -> Iterator[DrawnImage | DrawProgress]:
            for event in super().__call__(requests):
                waiting.append(len(self.drawn) - len(uploads))
                yield event

    fill(slow_store(stores, slow), Watched(), replace(REQUEST, counts={"a": 240}))
    assert max(waiting) <= 75


def unusable(request: ImageRequest, kind: str) -> DrawnImage:
    """A draw to reject: black, constant, not finite, or the duplicate of index 10."""
    pixels = noise(replace(request, index=10))
    if kind in ("black", "grey"):
        pixels = np.full((8, 8, 1), 0 if kind == "black" else 99, np.uint8)
    return DrawnImage(request, pixels, 4, (f"parent-{request.index}",), finite=kind != "nan")


def test_unusable_draws_are_left_out_and_counted(stores: Stores) -> None:
    store = stores("generation")
    kinds = zip(REQUEST.images()[1:4], ("nan", "same", "grey"), strict=True)
    batch = filled(store, FakeGenerator(unusable={request: unusable(request, kind) for request, kind in kinds}))
    assert counts(batch) == {"a": 1, "b": 1}
    assert rejected(batch) == [
        ("a", RejectionReason.DUPLICATE, 1),
        ("a", RejectionReason.NOT_FINITE, 1),
        ("b", RejectionReason.CONSTANT, 1),
    ]
    assert batch.drawn == 2
    assert [(row.class_name, row.index) for row in read_rows(store, REQUEST.manifest)] == [("a", 10), ("b", 11)]
    assert len(list(store.list("draws/"))) == 2


def test_transforms_are_not_filtered(stores: Stores) -> None:
    request = replace(REQUEST, sampler=None)
    generator = FakeGenerator(unusable={image: unusable(image, "grey") for image in request.images()})
    batch = filled(stores("generation"), generator, request)
    assert batch.rejected == ()
    assert batch.drawn == 5
    assert {row.source for row in read_rows(stores("generation"), request.manifest)} == {"transformed"}


LONG = replace(REQUEST, counts={"a": 12, "b": 3})


@given(
    st.dictionaries(st.sampled_from(LONG.images()), st.sampled_from(["nan", "black", "grey", "same"])),
    st.lists(st.integers(0, 14), max_size=3),
    st.lists(st.tuples(st.integers(10, 21), st.integers(1, 6)), max_size=2),
)
@settings(max_examples=40)
def test_the_manifest_does_not_depend_on_interruptions_or_on_other_requests(
    kinds: dict[ImageRequest, str], interruptions: list[int], others: list[tuple[int, int]]
) -> None:
    replaced = {request: unusable(request, kind) for request, kind in kinds.items()}
    manifests = []
    for troubled in (False, True):
        store = Store(MemoryStore(), "generation", url="memory://")
        if troubled:
            for first, count in others:
                other = replace(LONG, counts={"a": count}, first_index=first)
                fill(store, FakeGenerator(unusable=replaced), other)
            for most in interruptions:
                try:
                    fill(store, FakeGenerator(most=most, unusable=replaced), LONG)
                except Cancelled:
                    continue
        batch = filled(store, FakeGenerator(unusable=replaced), LONG)
        manifests.append((read_rows(store, LONG.manifest), batch.counts, batch.rejected))
    assert manifests[0] == manifests[1]


@pytest.mark.parametrize("damage", ["cut", "other", "bare", "unreadable"])
def test_a_damaged_draw_is_named(stores: Stores, damage: str) -> None:
    store = stores("generation")
    fill(store, FakeGenerator())
    row, other = read_rows(store, REQUEST.manifest)[:2]
    pixels = noise(ImageRequest("a", 7, 10))
    data = {
        "cut": store.get(row.uri)[:100],
        "other": store.get(other.uri),
        "bare": encode_png(pixels),
        "unreadable": provenance_metadata.encode_marked(pixels, {**json.loads(row.receipt), "bucket": "many"}),
    }
    store.delete(row.uri)
    store.put_new(row.uri, data[damage])
    with pytest.raises(FailedPrecondition, match=row.uri) as caught:
        fill(store, FakeGenerator(), replace(REQUEST, counts={"a": 3}))
    assert caught.value.reason == "DAMAGED_OBJECT"
