"""Export of a classifier as the files that a model server loads."""

from __future__ import annotations

import json
from collections.abc import Iterator

import yaml

from genaug.shared.digests import canonical_json, sha256
from genaug.shared.store import Store
from genaug.vision.batching.dynamic_batcher import ModelKey
from genaug.vision.models.classifiers import read_config, read_record, supports_precision
from genaug.vision.models.precision import not_quantized
from genaug.vision.models.weights import key_of

HEAD = "export.json"
"""The first file: the exported classifier and its number format, for the handler."""
SUMS = "SHA256SUMS"
"""The last file: the digest of every other, as `sha256sum --check` reads it."""

TORCHSERVE = "torchserve"

# TorchServe imports it by this name from the model's folder.
_HANDLER = '''"""TorchServe's handler. genaug, which does the work, must be installed beside TorchServe."""

from genaug.labeling.torchserve import handle

__all__ = ["handle"]
'''
# Requests that share a minibatch: each has up to labeling.open_inference.images images already.
_CONFIG = {"minWorkers": 1, "maxWorkers": 1, "batchSize": 4, "maxBatchDelay": 5, "responseTimeout": 120}


def export_torchserve(store: Store, model: ModelKey) -> Iterator[tuple[str, bytes]]:
    """Yield the files of a TorchServe model folder (its archiver's "no-archive"): `HEAD` first, `SUMS` last.

    The classifier's files are those of the store; frozen backbone weights come along unless a package brings them.

    Raises:
        NotFound: no such classifier, or its training has not finished.
        FailedPrecondition: reason NOT_QUANTIZED.
    """
    read_record(store, model.name)
    if not supports_precision(store, model.name, model.precision):
        raise not_quantized()
    sums: list[str] = []
    for path, data in _files(store, model):
        sums.append(f"{sha256(data)}  {path}\n")
        yield path, data
    yield SUMS, "".join(sums).encode()


def _files(store: Store, model: ModelKey) -> Iterator[tuple[str, bytes]]:
    yield HEAD, canonical_json({"name": model.name, "format": TORCHSERVE, "precision": model.precision})
    manifest = {
        "runtime": "python",
        "model": {
            "modelName": model_name(model),
            "handler": "handler.py",
            "modelVersion": "1.0",
            "configFile": "model-config.yaml",
        },
        "archiverVersion": "0.12.0",
    }
    yield "MAR-INF/MANIFEST.json", json.dumps(manifest, indent=1).encode()
    yield "model-config.yaml", yaml.safe_dump(_CONFIG).encode()
    yield "handler.py", _HANDLER.encode()
    for part in ("config.json", "model.safetensors", "classifier.json"):
        yield f"{model.name}/{part}", store.get(f"{model.name}/{part}")
    frozen = key_of(read_config(store, model.name).backbone_weights_sha256)
    if store.exists(frozen):
        yield frozen, store.get(frozen)


def model_name(model: ModelKey, template: str = "{digest}-{precision}") -> str:
    """Name of a classifier on a model server, from its digest and its number format."""
    precision = model.precision.name.lower()
    return template.format(digest=model.name.removeprefix("classifiers/"), precision=precision)
