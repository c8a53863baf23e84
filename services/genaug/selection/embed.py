"""Embedding: penultimate features of the real training images of a dataset version, computed once."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

from genaug.schema.common import Precision
from genaug.shared.digests import digest_of
from genaug.shared.errors import FailedPrecondition, NotFound
from genaug.shared.manifest import Row, read_rows
from genaug.shared.store import Store
from genaug.shared.tensors import notes_of
from genaug.vision.batching.dynamic_batcher import ImageResult, ModelKey
from genaug.vision.features.image_encoder import ImageEncoder, IsActive, predict_all

RECIPE = "embed/3"

Features = NDArray[np.float32]
"""float32 [rows, dimensions]."""


@dataclass(frozen=True)
class Embedding:
    """Features of images, by image id."""

    name: str
    """Resource name, "embeddings/{digest}"."""
    dataset_version: str
    """Dataset version of the training images."""
    classifier: str
    """Classifier of the penultimate features."""
    precision: Precision
    image_ids: tuple[str, ...]
    features: Features

    @property
    def object(self) -> str:
        """Its key in the store."""
        return object_of(self.name)


@dataclass(frozen=True)
class SelectionProgress:
    """Current stage, and images done so far."""

    step: str
    done: int
    total: int


def embedding_name(dataset_version: str, model: ModelKey) -> str:
    """Name of the embedding of a version by the penultimate layer of a classifier."""
    inputs = {"dataset_version": dataset_version, "classifier": model.name, "precision": model.precision}
    return f"embeddings/{digest_of(RECIPE, inputs)}"


def object_of(name: str) -> str:
    """Key of the embedding `name` in the store."""
    return f"{name}/features.safetensors"


def training_rows(store: Store, dataset_version: str) -> list[Row]:
    """The real training rows of a version, in the manifest's order.

    Raises:
        NotFound: no such version.
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
    model: ModelKey,
    *,
    open_encoder: Callable[[ModelKey], ImageEncoder],
    is_active: IsActive = lambda: True,
) -> Iterator[SelectionProgress | Embedding]:
    """Embed the real training rows of a version; yield progress, then the embedding.

    An existing embedding is returned as it is. Features are written to the feature index on the way, so that an
    interrupted call continues where it stopped.

    Args:
        open_encoder: Opens the classifier's encoder; called when it is needed.
        is_active: Whether the caller still waits.

    Raises:
        FailedPrecondition: reason UNREADABLE_IMAGE.
        Cancelled: `is_active` turned False; no embedding was written.
    """
    name = embedding_name(dataset_version, model)
    if not store.exists(object_of(name)):
        rows = training_rows(store, dataset_version)
        parts: list[Features] = []
        done = 0
        for results in predict_all(store, [row.uri for row in rows], open_encoder(model), is_active=is_active):
            parts.append(stacked(rows[done : done + len(results)], results))
            done += len(results)
            yield SelectionProgress("embedding", done, len(rows))
        ids = tuple(row.image_id for row in rows)
        write_embedding(
            store, Embedding(name, dataset_version, model.name, model.precision, ids, np.concatenate(parts))
        )
    yield read_embedding(store, name)


def stacked(rows: Sequence[Row], results: Sequence[ImageResult]) -> Features:
    """Stack the penultimate features of `rows`.

    Raises:
        FailedPrecondition: reason UNREADABLE_IMAGE: a stored image has changed since it was imported or drawn.
    """
    for row, result in zip(rows, results, strict=True):
        if result.penultimate is None:
            raise FailedPrecondition(
                f"image {row.image_id} ({row.uri}) cannot be seen: {result.message or result.status}; restore it",
                reason="UNREADABLE_IMAGE",
                image_id=row.image_id,
            )
    return np.stack([result.penultimate for result in results if result.penultimate is not None])


def write_embedding(store: Store, embedding: Embedding) -> None:
    """Write an embedding unless it is there."""
    metadata = {
        "image_ids": json.dumps(list(embedding.image_ids)),
        "dataset_version": embedding.dataset_version,
        "classifier": embedding.classifier,
        "precision": embedding.precision,
    }
    store.put_new(embedding.object, safetensors.numpy.save({"features": embedding.features}, metadata=metadata))


def read_embedding(store: Store, name: str) -> Embedding:
    """Read the embedding `name`.

    Raises:
        NotFound: no such embedding.
        FailedPrecondition: reason OLD_EMBEDDING; an earlier release wrote it, without its number format.
    """
    try:
        data = store.get(object_of(name))
    except NotFound:
        raise NotFound(f"{name}: there is no such embedding; embed the dataset version first") from None
    metadata = notes_of(data, key=object_of(name))
    if "precision" not in metadata:
        raise FailedPrecondition(
            f"{name} was written by an earlier version of genaug; embed the dataset version again",
            reason="OLD_EMBEDDING",
        )
    return Embedding(
        name,
        metadata["dataset_version"],
        metadata["classifier"],
        Precision(metadata["precision"]),
        tuple(json.loads(metadata["image_ids"])),
        safetensors.numpy.load(data)["features"],
    )
