"""Tiny images that can be told apart, as a dataset version in a store: bars that lie, stand or lean, in noise."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from genaug.shared.manifest import Row, write_rows
from genaug.shared.settings import InferenceSettings
from genaug.shared.store import Store
from genaug.vision.batching.dynamic_batcher import DynamicBatcher, Model
from genaug.vision.features.image_encoder import LocalEncoder
from genaug.vision.images.pixels import Pixels, encode_png, pixel_sha256
from genaug.vision.models.classifiers import Classifier
from genaug.vision.models.precision import FLOAT32

CLASSES = ["leans", "lies", "stands"]
VERSION = "datasets/shapes/versions/real"
FOLDS = 5


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


def item(**changes: Any) -> dict[str, Any]:
    """One item of a `train` Job."""
    return {
        "role": "ROLE_EVALUATOR",
        "classifier": {"backbone": "BACKBONE_SMALL_CNN", "image_size": 8},
        "channels": 1,
        "dataset_version": VERSION,
        "classes": CLASSES,
        "sampling": "SAMPLING_NATURAL",
        "updates": 60,
        "batch_size": 16,
        "learning_rate": 0.005,
        "seed": 0,
        **changes,
    }


def served(classifier: Classifier, **limits: Any) -> LocalEncoder:
    """A classifier behind an inference server of its own."""
    server = DynamicBatcher(lambda _: classifier, InferenceSettings(**limits), name="test")
    return LocalEncoder(server, Model(classifier.name, FLOAT32), window=16)
