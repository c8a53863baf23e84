"""Embedding: penultimate features of a version's real training images, computed once and kept."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

from genaug.shared.digests import digest_of
from genaug.shared.errors import Cancelled, FailedPrecondition, NotFound
from genaug.shared.manifest import Row, read_rows
from genaug.shared.store import Store
from genaug.shared.tensors import notes_of
from genaug.vision.classifiers import Classifier

RECIPE = "embed/2"

# Images embedded between two looks at whether the caller is still there; a network's pass.
_CHUNK = 64

Features = NDArray[np.float32]
"""float32 [rows, dimensions]."""


@dataclass(frozen=True)
class Embedding:
    """Features of images, by image id."""

    name: str
    """Resource name, "embeddings/{digest}"."""
    dataset_version: str
    """Whose training images they are."""
    classifier: str
    """Whose penultimate features they are."""
    image_ids: tuple[str, ...]
    features: Features

    @property
    def object(self) -> str:
        """Where it lies in the store."""
        return object_of(self.name)


@dataclass(frozen=True)
class Doing:
    """What is being done now, and how far it is, in images."""

    step: str
    done: int
    total: int


def embedding_name(dataset_version: str, classifier: str) -> str:
    """Name of the embedding of a version by the penultimate layer of a classifier."""
    return f"embeddings/{digest_of(RECIPE, {'dataset_version': dataset_version, 'classifier': classifier})}"


def object_of(name: str) -> str:
    """Where the embedding `name` lies in the store."""
    return f"{name}/features.safetensors"


def training_rows(store: Store, dataset_version: str) -> list[Row]:
    """The real training rows of a version, in the manifest's order.

    Raises:
        NotFound: there is no such version.
        FailedPrecondition: it has no real training rows.
    """
    rows = read_rows(store, f"{dataset_version}/rows.parquet")
    rows = [row for row in rows if row.split == "train" and row.source == "real"]
    if not rows:
        raise FailedPrecondition(f"{dataset_version} has no real training images", reason="NO_TRAINING_IMAGES")
    return rows


def embed(
    store: Store,
    dataset_version: str,
    classifier: str,
    *,
    loaded: Callable[[], Classifier],
    until: Callable[[], bool] = lambda: True,
) -> Iterator[Doing | Embedding]:
    """Embed the real training rows of a version; yield progress, then the embedding.

    One that is there already is not computed again.

    Args:
        loaded: Gives the classifier, when it is needed.
        until: Whether the caller is still there; looked at between chunks.

    Raises:
        Cancelled: `until` said no; nothing was written.
    """
    name = embedding_name(dataset_version, classifier)
    if not store.exists(object_of(name)):
        rows = training_rows(store, dataset_version)
        features = yield from embed_rows(store, rows, loaded(), until=until)
        ids = tuple(row.image_id for row in rows)
        write_embedding(store, Embedding(name, dataset_version, classifier, ids, features))
    yield read_embedding(store, name)


def embed_rows(
    store: Store, rows: Sequence[Row], model: Classifier, *, until: Callable[[], bool]
) -> Generator[Doing, None, Features]:
    """The features of `rows`, at least one, in their order; yields progress between chunks.

    Raises:
        Cancelled: `until` said no.
    """
    parts: list[Features] = []
    for start in range(0, len(rows), _CHUNK):
        if not until():
            raise Cancelled(f"embedding was cancelled after {start} of {len(rows)} images; nothing was written")
        parts.append(model.features_of_rows(store, rows[start : start + _CHUNK]))
        yield Doing("embedding", min(start + _CHUNK, len(rows)), len(rows))
    return np.concatenate(parts)


def write_embedding(store: Store, embedding: Embedding) -> None:
    """Write an embedding unless it is there."""
    metadata = {
        "image_ids": json.dumps(list(embedding.image_ids)),
        "dataset_version": embedding.dataset_version,
        "classifier": embedding.classifier,
    }
    store.put_new(embedding.object, safetensors.numpy.save({"features": embedding.features}, metadata=metadata))


def read_embedding(store: Store, name: str) -> Embedding:
    """Read the embedding `name`.

    Raises:
        NotFound: there is none.
        FailedPrecondition: reason OLD_EMBEDDING; it was written before embeddings said what they embed.
    """
    try:
        data = store.get(object_of(name))
    except NotFound:
        raise NotFound(f"{name}: there is no such embedding; embed the dataset version first") from None
    metadata = notes_of(data, key=object_of(name))
    if "classifier" not in metadata:
        raise FailedPrecondition(
            f"{name} was written by an earlier version of genaug; embed the dataset version again",
            reason="OLD_EMBEDDING",
        )
    return Embedding(
        name,
        metadata["dataset_version"],
        metadata["classifier"],
        tuple(json.loads(metadata["image_ids"])),
        safetensors.numpy.load(data)["features"],
    )
