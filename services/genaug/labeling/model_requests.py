"""Classifiers that a model server should hold: labeling requests them, `genaug model-server sync` reads the requests.

serving/<digest>-<precision>/wanted.json   the classifier, its number format, and the time of its last request
"""

from __future__ import annotations

import logging
import threading
import time

from genaug.labeling.export import model_name
from genaug.schema.common import Precision
from genaug.schema.model import Model, read
from genaug.shared.errors import GenaugError, NotFound
from genaug.shared.store import Store
from genaug.vision.batching.dynamic_batcher import ModelKey

log = logging.getLogger(__name__)

# Seconds after which the request for a classifier in use is written again.
_INTERVAL = 60.0


class ModelRequest(Model):
    """A stored request."""

    classifier: str
    precision: Precision
    time: float
    """Seconds since the epoch."""


class ModelRequests:
    """Records which classifiers labeling uses on its model server.

    Args:
        store: As the identity labeling.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._written: dict[ModelKey, float] = {}
        self._lock = threading.Lock()

    def __call__(self, model: ModelKey) -> None:
        """Record that `model` is in use; written once a minute at most."""
        now = time.monotonic()
        with self._lock:
            if now - self._written.get(model, -_INTERVAL) < _INTERVAL:
                return
            self._written[model] = now
        request = ModelRequest(classifier=model.name, precision=model.precision, time=time.time())
        try:
            self._store.put_json(_key(model_name(model)), request.json_value())
        except GenaugError as error:
            # A server that holds the model answers all the same.
            log.warning("the request for a model was not written", extra={"reason": error.reason})


def read_requests(store: Store, *, within_s: float) -> list[ModelKey]:
    """Classifiers that labeling requested in the last `within_s` seconds."""
    models = []
    for name in store.children("serving/"):
        try:
            request = read(store, _key(name), ModelRequest)
        except NotFound:
            continue
        if time.time() - request.time < within_s:
            models.append(ModelKey(request.classifier, request.precision))
    return models


def _key(name: str) -> str:
    return f"serving/{name}/wanted.json"
