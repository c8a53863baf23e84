"""The generators that are loaded, and the one thread on which they draw."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence

import torch

from genaug.generation.draw import draw
from genaug.generation.generators import Generator, load_generator
from genaug.generation.receipts import Drawn, Sampler, Wanted
from genaug.shared.store import Store
from genaug.vision.devices import ModelThread, pick_device


class Models:
    """Loads generators when they are needed and keeps the last few.

    Args:
        store: Where they lie.
        device: "auto", "cpu", "cuda", …
        threads: CPU threads of the process; 0 for torch's default.
        kept: Generators that stay loaded.
    """

    def __init__(self, store: Store, *, device: str, threads: int = 0, kept: int = 4) -> None:
        self._store = store
        self._device = pick_device(device)
        self._kept = kept
        self._loaded: OrderedDict[str, Generator] = OrderedDict()
        if threads:
            torch.set_num_threads(threads)
        self._thread = ModelThread("generation")

    def load(self, name: str) -> Generator:
        """The generator `name`.

        Raises:
            NotFound, FailedPrecondition: see `load_generator`.
            ResourceExhausted: too many calls wait already.
        """
        return next(iter(self._thread.stream(lambda: iter([self._load(name)]))))

    def draw(
        self,
        generator: Generator,
        wanted: Sequence[Wanted],
        *,
        sampler: Sampler,
        active: Callable[[], bool],
        bucket: int = 0,
    ) -> Iterator[Drawn]:
        """`genaug.generation.draw.draw`, on the models' thread, a bucket at a time: others have their turn in between.

        A reader that is slow holds up nobody but itself.

        Raises:
            ResourceExhausted: too many calls wait already.
        """
        # A bucket below 1 is refused by `draw`.
        size = max(1, bucket or generator.bucket)
        for start in range(0, len(wanted), size):
            some = wanted[start : start + size]
            yield from list(self._thread.stream(_drawing(generator, some, sampler, active, bucket)))

    def close(self) -> None:
        """Let the thread end after the work at hand."""
        self._thread.close()

    def _load(self, name: str) -> Generator:
        """On the thread, which alone knows what is loaded."""
        if name not in self._loaded:
            self._loaded[name] = load_generator(self._store, name, device=self._device)
            while len(self._loaded) > self._kept:
                self._loaded.popitem(last=False)
        self._loaded.move_to_end(name)
        return self._loaded[name]


def _drawing(
    generator: Generator, wanted: Sequence[Wanted], sampler: Sampler, active: Callable[[], bool], bucket: int
) -> Callable[[], Iterator[Drawn]]:
    return lambda: draw(generator, wanted, sampler=sampler, active=active, bucket=bucket)
