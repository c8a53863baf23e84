from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from obstore.store import MemoryStore
from tests.conftest import Stores

from genaug.generation.batches import BatchRequest, Done, Filled, fill_batch, finished_batch
from genaug.generation.receipts import Drawn, Sampler, Source, Steps, Wanted, draw_digest, draw_key, receipt_json
from genaug.shared.digests import canonical_json, sha256
from genaug.shared.errors import Cancelled, FailedPrecondition, ResourceExhausted
from genaug.shared.manifest import Row, check_training, read_rows
from genaug.shared.store import Store
from genaug.vision.images import Pixels, decode, encode_png, pixel_sha256
from genaug.vision.marks import encode_marked, receipt_of

REQUEST = BatchRequest("generators/" + "0" * 32, {"b": 2, "a": 3}, 7, 10, Sampler(), "synthetic")


SOURCE = Source(REQUEST.generator, captions={"a": "an a", "b": "a b"}, device="cpu")


def painted(one: Wanted, *, tint: int = 0) -> Pixels:
    """Noise that is the image's own."""
    rng = np.random.default_rng([one.index, tint, *one.class_name.encode()])
    return rng.integers(0, 256, (8, 8, 1), dtype=np.uint8)


class Painter:
    """Paints noise, and remembers what it painted. Stops after `most` images; some are no images."""

    def __init__(self, *, most: int = 1000, tint: int = 0, faults: Mapping[Wanted, Drawn] | None = None) -> None:
        self.painted: list[Wanted] = []
        self._most = most
        self._tint = tint
        self._faults = faults or {}

    def __call__(self, wanted: Sequence[Wanted]) -> Iterator[Drawn | Steps]:
        for one in wanted:
            if len(self.painted) == self._most:
                raise Cancelled("stop")
            self.painted.append(one)
            yield Steps(len(self.painted), len(wanted), 0)
            yield self._faults.get(one) or Drawn(one, painted(one, tint=self._tint), 4, (f"parent-{one.index}",))


def fill(store: Store, painter: Painter, request: BatchRequest = REQUEST) -> list[Done | Filled]:
    return list(fill_batch(store, request, SOURCE, draw_missing=painter))


def filled(store: Store, painter: Painter, request: BatchRequest = REQUEST) -> dict[str, Any]:
    """The batch's record."""
    last = fill(store, painter, request)[-1]
    assert isinstance(last, Filled)
    return last.record


def test_a_batch_holds_each_image_that_was_asked_for_by_class_and_index(stores: Stores) -> None:
    store = stores("generation")
    events = fill(store, Painter())
    assert events[0] == Done(0, 5, Steps(0, 0, 0))
    assert events[-2] == Done(5, 5, Steps(5, 5, 0))
    assert isinstance(events[-1], Filled)
    record = store.get_json(REQUEST.record)
    assert events[-1].record == {**record, "drawn": 5}
    assert finished_batch(store, REQUEST) == {**record, "drawn": 0}
    assert [(one["class_name"], one["count"]) for one in record["counts"]] == [("a", 3), ("b", 2)]
    assert record["rejected"] == []
    rows = read_rows(store, REQUEST.manifest)
    assert [(row.class_name, row.index) for row in rows] == [("a", 10), ("a", 11), ("a", 12), ("b", 10), ("b", 11)]
    check_training(rows)
    for row in rows:
        png = store.get(row.uri)
        assert (row.content_sha256, row.pixel_sha256) == (sha256(png), pixel_sha256(decode(png)))
        assert (row.uri, row.fold, row.source, row.prompt) == (draw_key(row.image_id), -1, "synthetic", row.class_name)
        assert json.loads(row.receipt)["draw"] == row.image_id
        assert json.loads(row.receipt)["prompt"] == f"{'an' if row.class_name == 'a' else 'a'} {row.class_name}"
        assert canonical_json(receipt_of(png)).decode() == row.receipt, "the image carries its receipt"


def test_draws_in_the_store_are_not_made_again(stores: Stores) -> None:
    store, first, second = stores("generation"), Painter(), Painter()
    fill(store, first, replace(REQUEST, counts={"a": 2}))
    events = fill(store, second)
    assert second.painted == [Wanted("a", 7, 12), Wanted("b", 7, 10), Wanted("b", 7, 11)]
    assert events[0] == Done(2, 5, Steps(0, 0, 0))
    assert isinstance(events[-1], Filled)
    assert events[-1].record["drawn"] == 3


def test_what_was_drawn_before_a_cancellation_is_kept_and_used(stores: Stores) -> None:
    store, second = stores("generation"), Painter()
    with pytest.raises(Cancelled):
        fill(store, Painter(most=3))
    assert not store.exists(REQUEST.manifest)
    assert len(list(store.list("draws/"))) == 3
    fill(store, second)
    assert len(second.painted) == 2


def test_a_found_draw_has_the_row_of_a_made_one(stores: Stores) -> None:
    store = stores("generation")
    [made] = row_of(store, Painter())
    [found] = row_of(store, Painter(tint=1), first_index=9)[1:]
    assert found == made
    assert found.parent_ids == ("parent-10",)


def row_of(store: Store, painter: Painter, *, first_index: int = 10) -> list[Row]:
    """The rows from `first_index` to 10 of class "a"."""
    request = replace(REQUEST, counts={"a": 11 - first_index}, first_index=first_index)
    fill(store, painter, request)
    return read_rows(store, request.manifest)


def test_the_stored_object_wins_over_a_redraw_that_differs(stores: Stores) -> None:
    """Another call stores its draw while this one paints."""
    store = stores("generation")
    wanted = REQUEST.wanted()[0]
    digest = draw_digest(REQUEST.generator, wanted, REQUEST.sampler)
    pixels = painted(wanted, tint=9)
    other = receipt_json(SOURCE, Drawn(wanted, pixels, 4), sampler=REQUEST.sampler, pixel_sha256=pixel_sha256(pixels))

    class Overtaken(Painter):
        def __call__(self, wanted: Sequence[Wanted]) -> Iterator[Drawn | Steps]:
            store.put_new(draw_key(digest), encode_marked(pixels, other))
            return super().__call__(wanted)

    painter = Overtaken()
    fill(store, painter)
    row = read_rows(store, REQUEST.manifest)[0]
    assert wanted in painter.painted
    assert row.pixel_sha256 == pixel_sha256(pixels)
    assert row.content_sha256 == sha256(store.get(row.uri))
    assert json.loads(row.receipt)["pixel_sha256"] == row.pixel_sha256


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


class Refusing(Store):
    """Full, or slow: what becomes of a put is `on_put`'s affair."""

    on_put: Callable[[], None]

    def put_new(self, key: str, data: bytes) -> bool:
        self.on_put()
        return super().put_new(key, data)


def refusing(stores: Stores, on_put: Callable[[], None]) -> Refusing:
    store = stores("generation").as_role("generation")
    store.__class__ = Refusing
    store.on_put = on_put  # type: ignore[attr-defined]
    return store  # type: ignore[return-value]


def test_drawing_ends_soon_after_the_store_refuses(stores: Stores) -> None:
    def full() -> None:
        raise ResourceExhausted("full", reason="STORE_FULL")

    painter = Painter()
    with pytest.raises(ResourceExhausted):
        fill(refusing(stores, full), painter, replace(REQUEST, counts={"a": 240}))
    assert len(painter.painted) <= 70
    assert not stores("generation").exists(replace(REQUEST, counts={"a": 240}).manifest)


def test_a_slow_store_slows_the_drawing_and_fills_no_memory(stores: Stores) -> None:
    stored: list[int] = []
    waiting: list[int] = []

    def slow() -> None:
        time.sleep(0.004)
        stored.append(1)

    class Watched(Painter):
        def __call__(self, wanted: Sequence[Wanted]) -> Iterator[Drawn | Steps]:
            for drawn in super().__call__(wanted):
                waiting.append(len(self.painted) - len(stored))
                yield drawn

    fill(refusing(stores, slow), Watched(), replace(REQUEST, counts={"a": 240}))
    assert max(waiting) <= 75


def no_image(one: Wanted, kind: str) -> Drawn:
    """A draw that is none: black, one colour, not finite, or that of index 10."""
    pixels = painted(replace(one, index=10))
    if kind in ("black", "grey"):
        pixels = np.full((8, 8, 1), 0 if kind == "black" else 99, np.uint8)
    return Drawn(one, pixels, 4, (f"parent-{one.index}",), finite=kind != "nan")


def test_draws_that_are_no_images_are_left_out_and_counted(stores: Stores) -> None:
    store = stores("generation")
    faults = {
        one: no_image(one, kind) for one, kind in zip(REQUEST.wanted()[1:4], ("nan", "same", "grey"), strict=True)
    }
    record = filled(store, Painter(faults=faults))
    assert [one["count"] for one in record["counts"]] == [1, 1]
    assert record["rejected"] == [
        {"class_name": "a", "reason": "REASON_DUPLICATE", "count": 1},
        {"class_name": "a", "reason": "REASON_NOT_FINITE", "count": 1},
        {"class_name": "b", "reason": "REASON_CONSTANT", "count": 1},
    ]
    assert record["drawn"] == 2
    assert [(row.class_name, row.index) for row in read_rows(store, REQUEST.manifest)] == [("a", 10), ("b", 11)]
    assert len(list(store.list("draws/"))) == 2


def test_transforms_are_not_inspected(stores: Stores) -> None:
    request = replace(REQUEST, sampler=None)
    record = filled(
        stores("generation"), Painter(faults={one: no_image(one, "grey") for one in request.wanted()}), request
    )
    assert record["rejected"] == []
    assert record["drawn"] == 5


LONG = replace(REQUEST, counts={"a": 12, "b": 3})


@given(
    st.dictionaries(st.sampled_from(LONG.wanted()), st.sampled_from(["nan", "black", "grey", "same"])),
    st.lists(st.integers(0, 14), max_size=3),
    st.lists(st.tuples(st.integers(10, 21), st.integers(1, 6)), max_size=2),
)
@settings(max_examples=40)
def test_a_request_has_one_manifest_however_often_it_was_interrupted_and_whatever_others_drew(
    kinds: dict[Wanted, str], interruptions: list[int], others: list[tuple[int, int]]
) -> None:
    faults = {one: no_image(one, kind) for one, kind in kinds.items()}
    manifests = []
    for troubled in (False, True):
        store = Store(MemoryStore(), "generation", url="memory://")
        if troubled:
            for first, count in others:
                fill(store, Painter(faults=faults), replace(LONG, counts={"a": count}, first_index=first))
            for most in interruptions:
                try:
                    fill(store, Painter(most=most, faults=faults), LONG)
                except Cancelled:
                    continue
        record = filled(store, Painter(faults=faults), LONG)
        manifests.append((read_rows(store, LONG.manifest), record["counts"], record["rejected"]))
    assert manifests[0] == manifests[1]


@pytest.mark.parametrize("damage", ["cut", "other", "bare"])
def test_a_draw_that_was_changed_in_the_store_is_named(stores: Stores, damage: str) -> None:
    store = stores("generation")
    fill(store, Painter())
    row, other = read_rows(store, REQUEST.manifest)[:2]
    data = {
        "cut": store.get(row.uri)[:100],
        "other": store.get(other.uri),
        "bare": encode_png(painted(Wanted("a", 7, 10))),
    }
    stores("generation").delete(row.uri)
    stores("generation").put_new(row.uri, data[damage])
    with pytest.raises(FailedPrecondition, match=row.uri) as caught:
        fill(store, Painter(), replace(REQUEST, counts={"a": 3}))
    assert caught.value.reason == "DAMAGED_OBJECT"
