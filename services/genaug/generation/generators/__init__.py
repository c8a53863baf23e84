"""Kinds of generator: each trains generators of its kind, and loads them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar, cast

import torch

from genaug.generation.artifacts import Artifact, read_artifact
from genaug.generation.diffusion.denoise import Denoiser
from genaug.generation.sampling.draw import DirectGenerator
from genaug.generation.training.diffusion_data import TrainingSet
from genaug.generation.training.finetune_context import FinetuneContext, FinetuneResult
from genaug.schema.generators import GeneratorKind, GeneratorSpec
from genaug.schema.registry import load
from genaug.shared.store import Store
from genaug.vision.lru_cache import LoadingCache, Sized

Generator = Denoiser | DirectGenerator
"""A loaded generator. It has `nbytes`, the bytes of memory that it holds."""
V_co = TypeVar("V_co", bound=Sized, covariant=True)


class Kind(Protocol):
    """A kind of generator; `genaug.schema.generators.GENERATORS` names its implementation."""

    def train(
        self,
        spec: GeneratorSpec,
        classes: Sequence[str],
        training: TrainingSet,
        held_out: TrainingSet,
        context: FinetuneContext,
    ) -> FinetuneResult:
        """Train a generator. Called again after a kill, it continues from the context's checkpoint.

        Args:
            spec: The specification, complete.
            classes: The label map.
            training: Images to train on.
            held_out: Images of other subjects, for validation losses; empty for a kind that does not learn.
            context: Store, progress and processes.

        Raises:
            InvalidArgument, FailedPrecondition: what the specification names cannot be used.
            Cancelled: raised by the context's progress callback.
        """

    def load(self, artifact: Artifact, loader: Loader) -> Generator:
        """Load a trained generator.

        Raises:
            FailedPrecondition: reason BROKEN_GENERATOR; the weights do not fit the configuration.
        """


class Resource(Protocol[V_co]):
    """Hashable description of an object to load, such as a base model that several generators share."""

    def load(self, loader: Loader) -> V_co:
        """Load the object."""

    def __hash__(self) -> int: ...


class Loader:
    """Loads generators and their shared resources, and caches them by last use.

    Args:
        store: Holds the generators.
        device: Device of their networks.
        memory_bytes: Budget of the cache.
    """

    def __init__(self, store: Store, *, device: torch.device, memory_bytes: int) -> None:
        self.store = store
        self.device = device
        self._cache: LoadingCache[Resource[Sized] | str, Sized] = LoadingCache(self._load, memory_bytes=memory_bytes)

    def generator(self, name: str) -> Generator:
        """The generator "generators/{digest}".

        Raises:
            NotFound: it does not exist or is not finished; or its base model does not exist.
            FailedPrecondition: its weights do not fit its configuration, or this version does not know its kind.
        """
        return cast(Generator, self._cache.get(name))

    def resource(self, resource: Resource[V_co]) -> V_co:
        """The object of a resource, loaded on first use."""
        return cast(V_co, self._cache.get(resource))

    def _load(self, key: Resource[Sized] | str) -> Sized:
        if not isinstance(key, str):
            return key.load(self)
        artifact = read_artifact(self.store, key)
        return cast(Sized, load_kind(artifact.record.spec.kind).load(artifact, self))


def load_kind(entry: GeneratorKind) -> Kind:
    """The implementation of a registered kind, imported now."""
    return cast(Kind, load(entry.implementation))
