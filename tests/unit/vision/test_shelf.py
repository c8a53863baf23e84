from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.servers import HANG_S

from genaug.shared.errors import NotFound
from genaug.vision.shelf import Shelf


@dataclass(frozen=True)
class Book:
    key: str
    nbytes: int = 10


def test_what_was_not_used_longest_leaves_first() -> None:
    loaded: list[str] = []

    def load(key: str) -> Book:
        loaded.append(key)
        return Book(key)

    shelf = Shelf(load, memory_bytes=20)
    for key in "abacab":
        assert shelf.get(key).key == key
    assert loaded == ["a", "b", "c", "b"]


def test_one_is_kept_whatever_its_size() -> None:
    shelf = Shelf(lambda key: Book(key), memory_bytes=1)
    assert shelf.get("a") is shelf.get("a")
    assert shelf.peek("b") is None


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(1, 30))), st.integers(1, 60))
def test_what_is_kept_fits_unless_it_is_one(asked: list[tuple[str, int]], memory: int) -> None:
    sizes = dict(asked)
    shelf = Shelf(lambda key: Book(key, sizes[key]), memory_bytes=memory)
    for key, _ in asked:
        shelf.get(key)
        kept = [one for one in map(shelf.peek, "abcdef") if one is not None]
        assert shelf.peek(key) is not None
        assert len(kept) == 1 or sum(one.nbytes for one in kept) <= memory


def test_it_is_loaded_once_however_many_ask() -> None:
    loaded: list[str] = []

    asking = threading.Semaphore(0)

    def load(key: str) -> Book:
        loaded.append(key)
        for _ in range(8):
            assert asking.acquire(timeout=HANG_S)
        return Book(key)

    def ask(key: str) -> Book:
        asking.release()
        return shelf.get(key)

    shelf = Shelf(load, memory_bytes=1 << 30)
    with ThreadPoolExecutor(8) as callers:
        found = list(callers.map(ask, ["a"] * 8))
    assert len(loaded) == 1
    assert all(one is found[0] for one in found)


def test_others_are_answered_while_one_is_loaded() -> None:
    loading, go = threading.Event(), threading.Event()

    def load(key: str) -> Book:
        if key == "slow":
            loading.set()
            assert go.wait(HANG_S)
        return Book(key)

    shelf = Shelf(load, memory_bytes=1 << 30)
    with ThreadPoolExecutor(1) as caller:
        slow = caller.submit(shelf.get, "slow")
        assert loading.wait(HANG_S)
        assert shelf.get("quick").key == "quick"
        assert not slow.done()
        go.set()
        assert slow.result(HANG_S).key == "slow"


def test_what_cannot_be_loaded_is_tried_again_when_asked_again() -> None:
    answers = iter([NotFound("gone"), Book("a")])

    def load(key: str) -> Book:
        found = next(answers)
        if isinstance(found, Exception):
            raise found
        return found

    shelf = Shelf(load, memory_bytes=1)
    with pytest.raises(NotFound):
        shelf.get("a")
    assert shelf.get("a").key == "a"
