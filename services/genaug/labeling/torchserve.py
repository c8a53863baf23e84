"""TorchServe's handler of an exported classifier: runs inside a TorchServe worker, beside genaug.

A request is the Open Inference Protocol's, as JSON: a BYTES tensor of encoded images. Images of all requests of a batch
share minibatches. An image that cannot be classified has a status; a malformed request gets a well-formed response
without images: on an error, TorchServe would drop the batch's other requests, and hang the next batch.
"""

from __future__ import annotations

import base64
import binascii
import json
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from obstore.store import LocalStore

from genaug.labeling.export import HEAD
from genaug.schema.common import Precision
from genaug.shared.errors import InvalidArgument
from genaug.shared.store import Store
from genaug.vision.batching.dynamic_batcher import STATUSES, Status
from genaug.vision.images.pixels import Pixels, fitted, is_constant, with_pixels
from genaug.vision.models.classifiers import TrainedClassifier, load

log = logging.getLogger(__name__)

_DECODERS = 4


@dataclass(frozen=True)
class _Loaded:
    classifier: TrainedClassifier
    pool: ThreadPoolExecutor


_loaded: _Loaded | None = None


def handle(rows: Sequence[dict[str, Any]] | None, context: Any) -> list[dict[str, Any]] | None:
    """Entry point of TorchServe: first without rows, to load the model; then with one row per request of a batch."""
    global _loaded
    if _loaded is None:
        _loaded = _open(Path(context.system_properties["model_dir"]), context.system_properties.get("gpu_id"))
    if rows is None:
        return None
    return answer(rows, _loaded.classifier, _loaded.pool)


def _open(folder: Path, gpu: object) -> _Loaded:
    head = json.loads((folder / HEAD).read_text())
    store = Store(LocalStore(folder), "labeling", url=f"file://{folder}")
    device = "auto" if gpu is None else f"cuda:{gpu}"
    return _Loaded(
        load(store, head["name"], device=device, precision=Precision(head["precision"])), ThreadPoolExecutor(_DECODERS)
    )


def answer(
    rows: Sequence[dict[str, Any]], classifier: TrainedClassifier, pool: ThreadPoolExecutor
) -> list[dict[str, Any]]:
    """Answer the requests of a batch, in the protocol's JSON."""
    requests = [images_of(row) for row in rows]
    results = _classify([data for images in requests for data in images], classifier, pool)
    answers, start = [], 0
    for row, images in zip(rows, requests, strict=True):
        part = results[start : start + len(images)]
        start += len(images)
        answers.append(_to_json(part, _id_of(row), classes=len(classifier.classes)))
    return answers


def images_of(row: dict[str, Any]) -> list[bytes]:
    """Read the encoded images of a request; none if it is malformed."""
    try:
        (tensor,) = [tensor for tensor in _body(row)["inputs"] if tensor["name"] == "images"]
        return [base64.b64decode(text, validate=True) for text in _values(tensor)]
    except (KeyError, TypeError, ValueError, binascii.Error):
        log.warning("malformed request: answered without images")
        return []


def _values(tensor: dict[str, Any]) -> list[str]:
    values: list[str] = tensor["data"] if "data" in tensor else tensor["contents"]["bytes_contents"]
    return values


def _body(row: dict[str, Any]) -> dict[str, Any]:
    body: Any = row.get("body", row.get("data"))
    value: dict[str, Any] = json.loads(body) if isinstance(body, (bytes, bytearray, str)) else body
    return value


def _id_of(row: dict[str, Any]) -> str:
    try:
        return str(_body(row).get("id") or "")
    except (AttributeError, TypeError, ValueError):
        return ""


def _classify(
    images: Sequence[bytes], classifier: TrainedClassifier, pool: ThreadPoolExecutor
) -> list[tuple[Status, Any]]:
    """Status and probabilities of each image."""
    decoded = list(pool.map(lambda data: _decoded(data, classifier), images))
    valid = [pixels for _, pixels in decoded if pixels is not None]
    probabilities = iter(classifier.classify(classifier.extract_features(np.stack(valid)))[1] if valid else ())
    return [(status, None if pixels is None else next(probabilities)) for status, pixels in decoded]


def _decoded(data: bytes, classifier: TrainedClassifier) -> tuple[Status, Pixels | None]:
    try:
        return with_pixels(
            data,
            lambda pixels: (
                "CONSTANT" if is_constant(pixels) else "OK",
                fitted(
                    pixels,
                    image_size=classifier.image_size,
                    channels=classifier.channels,
                    pre_resize=classifier.pre_resize,
                ),
            ),
            window=classifier.window,
        )
    except InvalidArgument as error:
        return next((status for status in STATUSES if status == error.reason), "UNREADABLE"), None


def _to_json(results: Sequence[tuple[Status, Any]], request_id: str, *, classes: int) -> dict[str, Any]:
    scores = np.zeros((len(results), classes), np.float32)
    for index, (_, probabilities) in enumerate(results):
        if probabilities is not None:
            scores[index] = probabilities
    return {
        "id": request_id,
        "model_name": "",
        "model_version": "",
        "outputs": [
            _tensor("scores", "FP32", list(scores.shape), [float(value) for value in scores.ravel()]),
            _tensor("status", "INT64", [len(results)], [STATUSES.index(status) for status, _ in results]),
        ],
    }


def _tensor(name: str, datatype: str, shape: list[int], values: list[Any]) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": shape, "data": values}
