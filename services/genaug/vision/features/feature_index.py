"""Features of images in shards of the store, so that each is computed once, whoever needs it first.

embeddings/<feature space>/<digest of the images' keys>.safetensors

A shard holds the features of up to `SHARD` consecutive rows of one list: the training rows of a view, the rows of a
batch. Whoever has the list finds its shards; nothing lists the folder.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from safetensors import SafetensorError

from genaug.shared.digests import digest_of
from genaug.shared.errors import NotFound
from genaug.shared.manifest import read_rows
from genaug.shared.store import Store, damaged

SHARD = 64
"""Images in a shard."""

_RECIPE = "shard/1"
# `genaug.vision.batching.dynamic_batcher.STATUSES` from here on are of images without features.
_UNSEEN = 2


@dataclass(frozen=True)
class Shard:
    """Features of some images."""

    features: NDArray[np.float32]
    """[images, ...], as `Classifier.see` gives them; NaN where an image could not be seen."""
    statuses: NDArray[np.int8]
    """[images], indices into `genaug.vision.batching.dynamic_batcher.STATUSES`."""


def cut(uris: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """The lists of images that a list's shards hold."""
    for start in range(0, len(uris), SHARD):
        yield tuple(uris[start : start + SHARD])


def shard_key(space: str, uris: Sequence[str]) -> str:
    """Where the shard of these images lies."""
    return f"embeddings/{space}/{digest_of(_RECIPE, {'images': list(uris)})}.safetensors"


def read_shard(store: Store, space: str, uris: Sequence[str]) -> Shard | None:
    """The shard of these images; None where there is none.

    Raises:
        FailedPrecondition: reason DAMAGED_OBJECT.
    """
    key = shard_key(space, uris)
    try:
        data = store.get(key)
    except NotFound:
        return None
    try:
        found = safetensors.numpy.load(data)
        shard = Shard(found["features"], found["statuses"])
    except (SafetensorError, KeyError):
        raise damaged(key, "no shard of features") from None
    if len(shard.features) != len(uris) or len(shard.statuses) != len(uris):
        raise damaged(key, f"features of {len(shard.features)} images, not of {len(uris)}")
    return shard


def write_shard(store: Store, space: str, uris: Sequence[str], shard: Shard) -> None:
    """Write a shard unless it is there."""
    data = safetensors.numpy.save({"features": shard.features, "statuses": shard.statuses})
    store.put_new(shard_key(space, uris), data)


class Shelf:
    """Which shard holds an image, of lists that are known.

    Args:
        real: Keys of real images, each list as it is cut into shards.
        made: Keys of made images, likewise; their shards are labeling's to write.
    """

    def __init__(self, real: Iterable[Sequence[str]], made: Iterable[Sequence[str]] = ()) -> None:
        self._real = [part for uris in real for part in cut(uris)]
        self._places: dict[str, tuple[tuple[str, ...], int]] = {}
        for part in (*self._real, *(part for uris in made for part in cut(uris))):
            for index, uri in enumerate(part):
                self._places.setdefault(uri, (part, index))

    def features(self, store: Store, space: str, uris: Iterable[str]) -> dict[str, NDArray[np.float32]]:
        """The features of those of `uris` that lie in shards of `space`; others are left out."""
        wanted: dict[tuple[str, ...], list[tuple[str, int]]] = {}
        for uri in uris:
            if uri in self._places:
                part, index = self._places[uri]
                wanted.setdefault(part, []).append((uri, index))
        found: dict[str, NDArray[np.float32]] = {}
        for part, members in wanted.items():
            shard = read_shard(store, space, part)
            if shard is not None:
                found |= {uri: shard.features[index] for uri, index in members if shard.statuses[index] < _UNSEEN}
        return found

    def keep(self, store: Store, space: str, known: Mapping[str, NDArray[np.float32]]) -> None:
        """Write the shards of real images whose features are all `known`."""
        for part in self._real:
            if all(uri in known for uri in part) and not store.exists(shard_key(space, part)):
                features = np.stack([known[uri] for uri in part])
                write_shard(store, space, part, Shard(features, np.zeros(len(part), np.int8)))


def read_shelf(store: Store, sources: Mapping[str, Sequence[str]]) -> Shelf:
    """The shelf of a run.

    Args:
        store: Where the manifests are.
        sources: `views`: dataset versions whose real training and validation rows were, or will be, seen.
            `labels`: labelled batches ("labels/{digest}").
    """
    views = [read_rows(store, f"{name}/rows.parquet") for name in sources["views"]]
    real = [
        [row.uri for row in rows if row.split == split and row.source == "real"]
        for rows in views
        for split in ("train", "validation")
    ]
    made = [[row.uri for row in read_rows(store, f"{name}/manifest.parquet")] for name in sources["labels"]]
    return Shelf(real, made)
