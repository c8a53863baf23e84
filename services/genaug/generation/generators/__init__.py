"""The kinds of generator, and how one is loaded."""

from __future__ import annotations

from typing import cast

import torch

from genaug.generation.artifacts import broken, read_artefact
from genaug.generation.generators.class_conditional import generator as class_conditional
from genaug.generation.generators.class_conditional.generator import ClassConditional
from genaug.generation.generators.stable_diffusion import generator as stable_diffusion
from genaug.generation.generators.stable_diffusion.base_models import open_base
from genaug.generation.generators.stable_diffusion.generator import Pipeline, StableDiffusion
from genaug.generation.generators.transforms import generator as transforms
from genaug.generation.generators.transforms.generator import Transforms
from genaug.shared.store import Store
from genaug.vision.shelf import Shelf

Generator = ClassConditional | StableDiffusion | Transforms
"""What draws images of its classes."""


class Loader:
    """Generators and the bases that several of them stand on, loaded when they are needed.

    Args:
        store: Where they lie.
        device: Where they draw.
        memory_bytes: What is kept of both; those that were not used longest leave.
    """

    def __init__(self, store: Store, *, device: torch.device, memory_bytes: int) -> None:
        self._store = store
        self._device = device
        self._shelf: Shelf[tuple[str, torch.dtype | None], Generator | Pipeline] = Shelf(
            self._load, memory_bytes=memory_bytes
        )

    def generator(self, name: str) -> Generator:
        """The generator "generators/{digest}".

        Raises:
            NotFound: there is none, or its fine-tuning has not finished; or its base is gone.
            FailedPrecondition: its weights do not fit its configuration, or this version does not know its kind.
        """
        return cast(Generator, self._shelf.get((name, None)))

    def pipeline(self, base: str, dtype: torch.dtype) -> Pipeline:
        """The networks of "bases/{digest}"."""
        return cast(Pipeline, self._shelf.get((base, dtype)))

    def _load(self, key: tuple[str, torch.dtype | None]) -> Generator | Pipeline:
        name, dtype = key
        if dtype is not None:
            return Pipeline(open_base(self._store, name), dtype=dtype, device=self._device)
        artefact = read_artefact(self._store, name)
        kind = artefact.config.get("kind")
        if kind == class_conditional.KIND:
            return ClassConditional.load(artefact, device=self._device)
        if kind == transforms.KIND:
            return Transforms.load(artefact)
        if kind == stable_diffusion.KIND:
            base = open_base(self._store, artefact.config["base"])
            return StableDiffusion(artefact, pipelines=self.pipeline, base=base, device=self._device)
        raise broken(name, f"this version of genaug knows no generator of kind {kind!r}")
