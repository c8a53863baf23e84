"""Index of image features in shards of the store, so that services and Jobs compute each feature once.

embeddings/<feature space>/<digest of the images' keys>.safetensors

A shard holds the features of up to `SHARD` consecutive rows of one list: the training rows of a view, the rows of a
batch. A shard's key follows from the list; nothing lists the folder.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from safetensors import SafetensorError

from genaug.schema.jobs import FeatureSources
from genaug.shared.digests import digest_of
from genaug.shared.errors import NotFound
from genaug.shared.manifest import read_rows
from genaug.shared.store import Store, damaged

SHARD = 64
"""Images in a shard."""

_RECIPE = "shard/1"
# Indices into `genaug.vision.batching.dynamic_batcher.STATUSES` from here on are of images without features.
_FIRST_WITHOUT = 2


@dataclass(frozen=True)
class Shard:
    """Features of some images."""

    features: NDArray[np.float32]
    """[images, ...], as `TrainedClassifier.extract_features` gives them; NaN for an image without features."""
    statuses: NDArray[np.int8]
    """[images], indices into `genaug.vision.batching.dynamic_batcher.STATUSES`."""


def cut(uris: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Cut a list of images into those of its shards."""
    for start in range(0, len(uris), SHARD):
        yield tuple(uris[start : start + SHARD])


def shard_key(space: str, uris: Sequence[str]) -> str:
    """Store key of the shard of these images."""
    return f"embeddings/{space}/{digest_of(_RECIPE, {'images': list(uris)})}.safetensors"


def read_shard(store: Store, space: str, uris: Sequence[str]) -> Shard | None:
    """Read the shard of these images; None where there is none.

    Raises:
        FailedPrecondition: reason DAMAGED_OBJECT.
    """
    key = shard_key(space, uris)
    try:
        data = store.get(key)
    except NotFound:
        return None
    try:
        arrays = safetensors.numpy.load(data)
        shard = Shard(arrays["features"], arrays["statuses"])
    except (SafetensorError, KeyError):
        raise damaged(key, "no shard of features") from None
    if len(shard.features) != len(uris) or len(shard.statuses) != len(uris):
        raise damaged(key, f"features of {len(shard.features)} images, not of {len(uris)}")
    return shard


def write_shard(store: Store, space: str, uris: Sequence[str], shard: Shard) -> None:
    """Write a shard unless it exists."""
    data = safetensors.numpy.save({"features": shard.features, "statuses": shard.statuses})
    store.put_new(shard_key(space, uris), data)


class FeatureIndex:
    """Index of the shards that may hold an image's features.

    Args:
        real: Keys of real images, each list as it is cut into shards.
        made: Keys of generated images, likewise; labeling writes their shards.
    """

    def __init__(self, real: Iterable[Sequence[str]], made: Iterable[Sequence[str]] = ()) -> None:
        self._real = [part for uris in real for part in cut(uris)]
        self._places: dict[str, tuple[tuple[str, ...], int]] = {}
        for part in (*self._real, *(part for uris in made for part in cut(uris))):
            for index, uri in enumerate(part):
                self._places.setdefault(uri, (part, index))

    def read(self, store: Store, space: str, uris: Iterable[str]) -> dict[str, NDArray[np.float32]]:
        """Read the features of images in a feature space; images without stored features are left out."""
        requested: dict[tuple[str, ...], list[tuple[str, int]]] = {}
        for uri in uris:
            if uri in self._places:
                part, index = self._places[uri]
                requested.setdefault(part, []).append((uri, index))
        features: dict[str, NDArray[np.float32]] = {}
        for part, members in requested.items():
            shard = read_shard(store, space, part)
            if shard is not None:
                features |= {
                    uri: shard.features[index] for uri, index in members if shard.statuses[index] < _FIRST_WITHOUT
                }
        return features

    def write(self, store: Store, space: str, known: Mapping[str, NDArray[np.float32]]) -> None:
        """Write the shards of real images that have all their features in `known`."""
        for part in self._real:
            if all(uri in known for uri in part) and not store.exists(shard_key(space, part)):
                features = np.stack([known[uri] for uri in part])
                write_shard(store, space, part, Shard(features, np.zeros(len(part), np.int8)))


def read_feature_index(store: Store, sources: FeatureSources) -> FeatureIndex:
    """Read the feature index of a run from its manifests.

    Args:
        store: Source of the manifests.
        sources: Of dataset versions, the real training and validation rows count.
    """
    views = [read_rows(store, f"{name}/rows.parquet") for name in sources.views]
    real = [
        [row.uri for row in rows if row.split == split and row.source == "real"]
        for rows in views
        for split in ("train", "validation")
    ]
    made = [[row.uri for row in read_rows(store, f"{name}/manifest.parquet")] for name in sources.labels]
    return FeatureIndex(real, made)
