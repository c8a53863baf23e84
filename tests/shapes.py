"""Tiny images that can be told apart, as a dataset version in a store: bars that lie, stand or lean, in noise."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from genaug.schema.classifiers import ClassifierSpec, Role
from genaug.schema.common import Precision
from genaug.schema.jobs import TrainItem
from genaug.schema.run import ScenarioSampling
from genaug.shared.manifest import Row, write_rows
from genaug.shared.settings import InferenceSettings
from genaug.shared.store import Store
from genaug.vision.batching.dynamic_batcher import DynamicBatcher, ModelKey
from genaug.vision.features.image_encoder import LocalEncoder
from genaug.vision.images.pixels import Pixels, encode_png, pixel_sha256
from genaug.vision.models.classifiers import TrainedClassifier

CLASSES = ["leans", "lies", "stands"]
VERSION = "datasets/shapes/versions/real"
FOLDS = 5
SMALL = ClassifierSpec(backbone="SMALL_CNN", image_size=8).completed(8, pre_resize=0)
"""A classifier of these images."""


def shape(kind: str, *, seed: int, size: int = 8, noise: float = 25.0) -> Pixels:
    """One image, uint8 [size, size, 1]."""
    rng = np.random.default_rng([seed, *kind.encode()])
    image = np.full((size, size), 40.0)
    at = rng.integers(2, size - 2)
    if kind == "lies":
        image[at] = 210
    elif kind == "stands":
        image[:, at] = 210
    else:
        np.fill_diagonal(image if rng.random() < 0.5 else image[:, ::-1], 210)
    return (image + rng.normal(scale=noise, size=image.shape)).clip(0, 255).astype(np.uint8)[:, :, None]


def put_image(store: Store, pixels: Pixels, kind: str, *, folder: str = "images", **facts: Any) -> Row:
    """Put an image into the store; the row that names it."""
    data = encode_png(pixels)
    digest = hashlib.sha256(data).hexdigest()
    key = f"{folder}/{digest[:2]}/{digest}"
    store.put_new(key, data)
    return Row(digest[:32], key, digest, pixel_sha256(pixels), kind, **facts)


def real_rows(store: Store, counts: Mapping[str, int], *, split: Any = "train", first: int = 0) -> list[Row]:
    """Real images of each class, each its own subject, dealt to folds in turn."""
    return [
        put_image(store, shape(kind, seed=first + i), kind, split=split, fold=i % FOLDS, group_id=f"{kind}-{first + i}")
        for kind, count in counts.items()
        for i in range(count)
    ]


def put_version(store: Store, rows: list[Row], *, name: str = VERSION) -> str:
    """Write a version's rows; its name."""
    write_rows(store, f"{name}/rows.parquet", rows)
    return name


def item(**changes: Any) -> TrainItem:
    """One item of a `train` Job."""
    fields: dict[str, Any] = {
        "role": Role.EVALUATOR,
        "classifier": SMALL,
        "channels": 1,
        "dataset_version": VERSION,
        "classes": tuple(CLASSES),
        "sampling": ScenarioSampling.NATURAL,
        "updates": 60,
        "batch_size": 16,
        "learning_rate": 0.005,
        "seed": 0,
    }
    return TrainItem(**{**fields, **changes})


def served(classifier: TrainedClassifier, **limits: Any) -> LocalEncoder:
    """A classifier behind an inference server of its own."""
    server = DynamicBatcher(lambda _: classifier, InferenceSettings(**limits), name="test")
    return LocalEncoder(server, ModelKey(classifier.name, Precision.FLOAT32), window=16)
