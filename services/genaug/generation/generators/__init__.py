"""The kinds of generator, and how one is loaded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch

from genaug.generation.artefacts import broken, read_artefact
from genaug.generation.generators import class_conditional, transforms
from genaug.generation.receipts import Drawn, Sampler, Wanted
from genaug.shared.store import Store


class Generator(Protocol):
    """What draws images of its classes."""

    name: str
    """"generators/{digest}"."""
    classes: tuple[str, ...]
    bucket: int
    """Images that are computed together, always; the shape on which decoded pixels may depend."""

    def parents(self, wanted: Wanted) -> tuple[str, ...]:
        """Ids of the real images that `wanted` is made of."""

    def make(
        self, wanted: Sequence[Wanted], *, sampler: Sampler, bucket: int, active: Callable[[], bool]
    ) -> list[Drawn] | None:
        """Make 1 to `bucket` images; None when `active()` turned false before they were done."""


def load_generator(store: Store, name: str, *, device: torch.device) -> Generator:
    """Read the generator `name` and make it ready on `device`.

    Raises:
        NotFound: there is none, or its fine-tuning has not finished.
        FailedPrecondition: its weights do not fit its configuration, or this version does not know its kind.
    """
    artefact = read_artefact(store, name)
    kind = artefact.config.get("kind")
    if kind == class_conditional.KIND:
        return class_conditional.ClassConditional.load(artefact, device=device)
    if kind == transforms.KIND:
        return transforms.Transforms.load(artefact)
    raise broken(name, f"this version of genaug knows no generator of kind {kind!r}")
