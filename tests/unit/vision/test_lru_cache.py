from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genaug.shared.errors import NotFound
from genaug.vision.lru_cache import LoadingCache


@dataclass(frozen=True)
class Book:
    key: str
    nbytes: int = 10


def test_what_was_not_used_longest_leaves_first() -> None:
    loaded: list[str] = []

    def load(key: str) -> Book:
        loaded.append(key)
        return Book(key)

    cache = LoadingCache(load, memory_bytes=20)
    for key in "abacab":
        assert cache.get(key).key == key
    assert loaded == ["a", "b", "c", "b"]


def test_one_is_kept_whatever_its_size() -> None:
    cache = LoadingCache(lambda key: Book(key), memory_bytes=1)
    assert cache.get("a") is cache.get("a")
    assert cache.peek("b") is None


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(1, 30))), st.integers(1, 60))
def test_what_is_kept_fits_unless_it_is_one(asked: list[tuple[str, int]], memory: int) -> None:
    sizes = dict(asked)
    cache = LoadingCache(lambda key: Book(key, sizes[key]), memory_bytes=memory)
    for key, _ in asked:
        cache.get(key)
        kept = [one for one in map(cache.peek, "abcdef") if one is not None]
        assert cache.peek(key) is not None
        assert len(kept) == 1 or sum(one.nbytes for one in kept) <= memory


def test_it_is_loaded_once_however_many_ask() -> None:
    loaded: list[str] = []

    def load(key: str) -> Book:
        loaded.append(key)
        time.sleep(0.05)
        return Book(key)

    cache = LoadingCache(load, memory_bytes=1 << 30)
    with ThreadPoolExecutor(8) as callers:
        found = list(callers.map(cache.get, ["a"] * 8))
    assert len(loaded) == 1
    assert all(one is found[0] for one in found)


def test_others_are_answered_while_one_is_loaded() -> None:
    loading, go = threading.Event(), threading.Event()

    def load(key: str) -> Book:
        if key == "slow":
            loading.set()
            assert go.wait(20)
        return Book(key)

    cache = LoadingCache(load, memory_bytes=1 << 30)
    with ThreadPoolExecutor(1) as caller:
        slow = caller.submit(cache.get, "slow")
        assert loading.wait(20)
        assert cache.get("quick").key == "quick"
        assert not slow.done()
        go.set()
        assert slow.result(20).key == "slow"


def test_what_cannot_be_loaded_is_tried_again_when_asked_again() -> None:
    answers = iter([NotFound("gone"), Book("a")])

    def load(key: str) -> Book:
        found = next(answers)
        if isinstance(found, Exception):
            raise found
        return found

    cache = LoadingCache(load, memory_bytes=1)
    with pytest.raises(NotFound):
        cache.get("a")
    assert cache.get("a").key == "a"


def test_growth_after_loading_counts() -> None:
    sizes = {"a": 10, "b": 10, "c": 10}

    class Growing:
        def __init__(self, key: str) -> None:
            self.key = key

        @property
        def nbytes(self) -> int:
            return sizes[self.key]

    cache = LoadingCache(Growing, memory_bytes=30)
    cache.get("a"), cache.get("b")
    sizes["b"] = 20
    cache.get("c")
    assert cache.peek("a") is None
    assert cache.peek("b") is not None
