"""Embedding: penultimate features of a version's real training images, computed once and kept."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

from genaug.shared.digests import digest_of
from genaug.shared.errors import FailedPrecondition, NotFound
from genaug.shared.manifest import Row, read_rows
from genaug.shared.store import Store
from genaug.shared.tensors import notes_of
from genaug.vision.batching.dynamic_batcher import Model, Seen
from genaug.vision.features.image_encoder import ImageEncoder, Until, see_all

RECIPE = "embed/3"

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
    precision: str
    """What it computed in."""
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


def embedding_name(dataset_version: str, model: Model) -> str:
    """Name of the embedding of a version by the penultimate layer of a classifier."""
    inputs = {"dataset_version": dataset_version, "classifier": model.name, "precision": model.precision}
    return f"embeddings/{digest_of(RECIPE, inputs)}"


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
    store: Store, dataset_version: str, model: Model, *, eye: Callable[[Model], ImageEncoder], until: Until = lambda: True
) -> Iterator[Doing | Embedding]:
    """Embed the real training rows of a version; yield progress, then the embedding.

    One that is there already is not computed again. Features are kept in shards on the way: one that is cut short and
    asked for again goes on where it was.

    Args:
        eye: Gives the classifier, when it is needed.
        until: Whether the caller is still there.

    Raises:
        FailedPrecondition: reason UNREADABLE_IMAGE.
        Cancelled: `until` said no; no embedding was written.
    """
    name = embedding_name(dataset_version, model)
    if not store.exists(object_of(name)):
        rows = training_rows(store, dataset_version)
        parts: list[Features] = []
        done = 0
        for seen in see_all(store, [row.uri for row in rows], eye(model), until=until):
            parts.append(stacked(rows[done : done + len(seen)], seen))
            done += len(seen)
            yield Doing("embedding", done, len(rows))
        ids = tuple(row.image_id for row in rows)
        write_embedding(
            store, Embedding(name, dataset_version, model.name, model.precision, ids, np.concatenate(parts))
        )
    yield read_embedding(store, name)


def stacked(rows: Sequence[Row], seen: Sequence[Seen]) -> Features:
    """The penultimate features of `rows`, which were `seen`.

    Raises:
        FailedPrecondition: reason UNREADABLE_IMAGE: it was imported or made, so something has changed it since.
    """
    for row, one in zip(rows, seen, strict=True):
        if one.penultimate is None:
            raise FailedPrecondition(
                f"image {row.image_id} ({row.uri}) cannot be seen: {one.message or one.status}; restore it",
                reason="UNREADABLE_IMAGE",
                image_id=row.image_id,
            )
    return np.stack([one.penultimate for one in seen if one.penultimate is not None])


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
        NotFound: there is none.
        FailedPrecondition: reason OLD_EMBEDDING; it was written before embeddings said how.
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
        metadata["precision"],
        tuple(json.loads(metadata["image_ids"])),
        safetensors.numpy.load(data)["features"],
    )
