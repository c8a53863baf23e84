"""Embedding: penultimate features of a version's real training images, computed once and kept."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

from genaug.shared.digests import digest_of
from genaug.shared.errors import Cancelled, FailedPrecondition
from genaug.shared.manifest import Row, read_rows
from genaug.shared.store import Store
from genaug.vision.classifiers import Classifier

RECIPE = "embed/1"

# Images embedded between two looks at whether the caller is still there.
_CHUNK = 256

Features = NDArray[np.float32]
"""float32 [rows, dimensions]."""


@dataclass(frozen=True)
class Embedding:
    """Features of images, by image id."""

    name: str
    """Resource name, "embeddings/{digest}"."""
    image_ids: tuple[str, ...]
    features: Features

    @property
    def object(self) -> str:
        """Where it lies in the store."""
        return object_of(self.name)


@dataclass(frozen=True)
class Done:
    """How far the embedding is."""

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
) -> Iterator[Done | Embedding]:
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
        model = loaded()
        parts: list[Features] = []
        for start in range(0, len(rows), _CHUNK):
            if not until():
                raise Cancelled(f"embedding of {dataset_version} was cancelled after {start} of {len(rows)} images")
            parts.append(model.features_of_rows(store, rows[start : start + _CHUNK]))
            yield Done(min(start + _CHUNK, len(rows)), len(rows))
        write_embedding(store, name, [row.image_id for row in rows], np.concatenate(parts))
    yield read_embedding(store, name)


def write_embedding(store: Store, name: str, image_ids: Sequence[str], features: Features) -> None:
    """Write features [rows, dimensions] with the ids of their rows, unless they are there."""
    data = safetensors.numpy.save({"features": features}, metadata={"image_ids": json.dumps(list(image_ids))})
    store.put_new(object_of(name), data)


def read_embedding(store: Store, name: str) -> Embedding:
    """Read the embedding `name`.

    Raises:
        NotFound: there is none.
    """
    data = store.get(object_of(name))
    features: Features = safetensors.numpy.load(data)["features"]
    return Embedding(name, tuple(json.loads(_metadata(data)["image_ids"])), features)


def _metadata(data: bytes) -> dict[str, Any]:
    """The header of a safetensors file: 8 bytes of its length, then JSON."""
    length = int.from_bytes(data[:8], "little")
    header: dict[str, Any] = json.loads(data[8 : 8 + length])
    metadata: dict[str, Any] = header["__metadata__"]
    return metadata
