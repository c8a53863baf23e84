from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest
from tests.conftest import Stores

from genaug.generation.batches import BatchRequest, Done, Filled, fill_batch
from genaug.generation.receipts import Drawn, Sampler, Wanted, draw_digest, draw_key
from genaug.shared.digests import sha256
from genaug.shared.errors import Cancelled, ResourceExhausted
from genaug.shared.manifest import Row, check_training, read_rows
from genaug.shared.store import Store
from genaug.vision.images import decode, encode_png, pixel_sha256

REQUEST = BatchRequest("generators/" + "0" * 32, {"b": 2, "a": 3}, 7, 10, Sampler(), "synthetic")


class Painter:
    """Paints an image's index, and remembers what it painted. Stops after `most` images."""

    def __init__(self, *, most: int = 1000, tint: int = 0) -> None:
        self.painted: list[Wanted] = []
        self._most = most
        self._tint = tint

    def __call__(self, wanted: Sequence[Wanted]) -> Iterator[Drawn]:
        for one in wanted:
            if len(self.painted) == self._most:
                raise Cancelled("stop")
            self.painted.append(one)
            yield Drawn(one, np.full((8, 8, 1), one.index + self._tint, np.uint8), 4)


def fill(store: Store, painter: Painter, request: BatchRequest = REQUEST) -> list[Done | Filled]:
    return list(
        fill_batch(store, request, draw_missing=painter, parents=lambda one: (f"parent-{one.index}",), bucket=4)
    )


def test_a_batch_holds_each_image_that_was_asked_for_by_class_and_index(stores: Stores) -> None:
    store = stores("generation")
    events = fill(store, Painter())
    assert events[0] == Done(0, 5)
    assert events[-2:] == [Done(5, 5), Filled(5)]
    rows = read_rows(store, REQUEST.manifest)
    assert [(row.class_name, row.index) for row in rows] == [("a", 10), ("a", 11), ("a", 12), ("b", 10), ("b", 11)]
    check_training(rows)
    for row in rows:
        png = store.get(row.uri)
        assert (row.content_sha256, row.pixel_sha256) == (sha256(png), pixel_sha256(decode(png)))
        assert (row.uri, row.fold, row.source, row.prompt) == (draw_key(row.image_id), -1, "synthetic", row.class_name)
        assert json.loads(row.receipt)["draw"] == row.image_id


def test_draws_in_the_store_are_not_made_again(stores: Stores) -> None:
    store, first, second = stores("generation"), Painter(), Painter()
    fill(store, first, replace(REQUEST, counts={"a": 2}))
    events = fill(store, second)
    assert second.painted == [Wanted("a", 7, 12), Wanted("b", 7, 10), Wanted("b", 7, 11)]
    assert (events[0], events[-1]) == (Done(2, 5), Filled(3))


def test_what_was_drawn_before_a_cancellation_is_kept_and_used(stores: Stores) -> None:
    store, second = stores("generation"), Painter()
    with pytest.raises(Cancelled):
        fill(store, Painter(most=3))
    assert not store.exists(REQUEST.manifest)
    assert len(list(store.list("draws/"))) == 3
    fill(store, second)
    assert len(second.painted) == 2


def test_a_found_draw_has_the_row_of_a_made_one(stores: Stores) -> None:
    """But for its parents, which a painter does not say and `parents` does."""
    store = stores("generation")
    [made] = row_of(store, Painter())
    [found] = row_of(store, Painter(tint=1), first_index=9)[1:]
    assert found.parent_ids == ("parent-10",)
    receipt = {**json.loads(found.receipt), "parent_ids": []}
    assert receipt == json.loads(made.receipt)
    assert replace(found, parent_ids=(), receipt="") == replace(made, receipt="")


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
    pixels = np.full((8, 8, 1), 99, np.uint8)

    class Overtaken(Painter):
        def __call__(self, wanted: Sequence[Wanted]) -> Iterator[Drawn]:
            store.put_new(draw_key(digest), encode_png(pixels))
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
        def __call__(self, wanted: Sequence[Wanted]) -> Iterator[Drawn]:
            for drawn in super().__call__(wanted):
                waiting.append(len(self.painted) - len(stored))
                yield drawn

    fill(refusing(stores, slow), Watched(), replace(REQUEST, counts={"a": 240}))
    assert max(waiting) <= 75
