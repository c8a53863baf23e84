"""Which classifiers a model server should have: labeling says so in the store, `genaug model-server sync` reads it.

serving/<digest>-<precision>/wanted.json   the classifier, its number format, and when labeling last asked for it
"""

from __future__ import annotations

import logging
import threading
import time

from genaug.labeling.export import model_name
from genaug.shared.errors import GenaugError, NotFound
from genaug.shared.store import Store
from genaug.vision.batching.dynamic_batcher import Model

log = logging.getLogger(__name__)

# Seconds after which a classifier that is still asked for is named again.
_AGAIN = 60.0


class Wanted:
    """Names what labeling asks of its model server.

    Args:
        store: As the identity labeling.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._named: dict[Model, float] = {}
        self._lock = threading.Lock()

    def __call__(self, model: Model) -> None:
        """Say that `model` is asked for now; told each time, written once a minute."""
        now = time.monotonic()
        with self._lock:
            if now - self._named.get(model, -_AGAIN) < _AGAIN:
                return
            self._named[model] = now
        wanted = {"classifier": model.name, "precision": model.precision, "time": time.time()}
        try:
            self._store.put_json(_key(model_name(model)), wanted)
        except GenaugError as error:
            # A server that has the model answers all the same.
            log.warning("what the model server should have was not written", extra={"reason": error.reason})


def read_wanted(store: Store, *, within_s: float) -> list[Model]:
    """The classifiers that labeling asked for in the last `within_s` seconds."""
    found = []
    for name in store.children("serving/"):
        try:
            one = store.get_json(_key(name))
        except NotFound:
            continue
        if time.time() - one["time"] < within_s:
            found.append(Model(one["classifier"], one["precision"]))
    return found


def _key(name: str) -> str:
    return f"serving/{name}/wanted.json"
