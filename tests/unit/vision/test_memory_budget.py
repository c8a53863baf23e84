"""The budget of decoders: what is reserved at once never exceeds it, and nobody waits for ever."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

from genaug.vision.images.memory_budget import MemoryBudget


def test_reservations_stay_within_the_budget() -> None:
    budget, lock = MemoryBudget(100), threading.Lock()
    held, highest = 0, 0

    def work(size: int) -> None:
        nonlocal held, highest
        with budget.reserve(size):
            with lock:
                held += size
                highest = max(highest, held)
            with lock:
                held -= size

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(work, [7, 30, 60, 99, 1, 45] * 50))
    assert held == 0
    assert 60 <= highest <= 100


def test_a_large_reservation_waits_until_it_is_alone_and_is_not_overtaken() -> None:
    budget, order = MemoryBudget(100), []
    waiting = threading.Event()

    def reserve(name: str, size: int) -> None:
        with budget.reserve(size):
            order.append(name)

    with budget.reserve(10):
        large = threading.Thread(target=reserve, args=("large", 1000))
        large.start()
        while not budget._queue:
            waiting.wait(0.001)
        small = threading.Thread(target=reserve, args=("small", 1))
        small.start()
        while len(budget._queue) < 2:
            waiting.wait(0.001)
        assert order == []
    large.join(10)
    small.join(10)
    assert order == ["large", "small"]
