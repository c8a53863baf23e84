"""Synchronization of a TorchServe with the store: new classifiers are loaded before they are needed.

Each classifier is a model of its own, named by digest and number format, so nothing is ever replaced under a call: a
new one is loaded beside the others, and one without requests is unloaded after a while, when its queue is empty.
"""

from __future__ import annotations

import http.client
import logging
import shutil
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from pydantic.alias_generators import to_camel

from genaug.labeling.export import export_torchserve, model_name
from genaug.schema.classifiers import Role
from genaug.schema.common import Precision
from genaug.shared.errors import GenaugError, NotFound, Unavailable
from genaug.shared.store import Store
from genaug.vision.batching.dynamic_batcher import ModelKey
from genaug.vision.models.classifiers import read_record, supports_precision

log = logging.getLogger(__name__)

A = TypeVar("A")

# Seconds that the server may take to load a model; a worker imports torch.
_LOADING = 300
# Seconds that a request about models may take.
_TIMEOUT = 10
# Seconds before a model that did not load is retried, and attempts after which readiness does not wait for it.
_AGAIN, _GIVEN_UP = 15.0, 3


class _Answer(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel)


class _Worker(_Answer):
    pid: int
    status: str


class _Queue(_Answer):
    pending_requests: int


class _Model(_Answer):
    workers: list[_Worker]
    job_queue_status: _Queue


class _Listed(_Answer):
    model_name: str


class _Models(_Answer):
    models: list[_Listed]


class TorchServe:
    """The management API of a TorchServe.

    Args:
        url: "http://host:port".
    """

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")

    def models(self) -> set[str]:
        """Names of the models it has, loaded or not.

        Raises:
            Unavailable: it cannot be reached.
        """
        return {model.model_name for model in self._get(_Models, "/models?limit=1000").models}

    def workers(self, name: str) -> list[str]:
        """States of a model's workers, such as READY; other status endpoints are not reliable.

        Raises:
            NotFound: it has no such model.
            Unavailable: it cannot be reached.
        """
        return [worker.status for worker in self._model(name).workers]

    def worker_pids(self, name: str) -> list[int]:
        """Processes of a model's workers."""
        return [worker.pid for worker in self._model(name).workers]

    def waiting(self, name: str) -> int:
        """Number of requests in a model's queue."""
        return self._model(name).job_queue_status.pending_requests

    def is_ready(self) -> bool:
        """Whether it answers, and each of its models has a ready worker."""
        try:
            return all("READY" in self.workers(name) for name in self.models())
        except GenaugError:
            return False

    def load(self, name: str) -> None:
        """Load the model in the folder `name` of its model store; return once a worker has loaded it.

        Raises:
            Unavailable: it cannot be reached, or the model does not load.
        """
        query = urllib.parse.urlencode({"url": name, "model_name": name, "initial_workers": 1, "synchronous": "true"})
        self._call("POST", f"/models?{query}", seconds=_LOADING)

    def unload(self, name: str) -> None:
        """Unload a model and remove its registration."""
        self._call("DELETE", f"/models/{name}", seconds=_LOADING)

    def _model(self, name: str) -> _Model:
        # A list of the model's versions; ours have one.
        (model,) = self._get(list[_Model], f"/models/{name}")
        return model

    def _get(self, kind: type[A], path: str) -> A:
        answer = self._call("GET", path)
        try:
            return TypeAdapter(kind).validate_json(answer)
        except ValidationError as error:
            fields = ", ".join(".".join(str(part) for part in problem["loc"]) for problem in error.errors())
            raise Unavailable(
                f"TorchServe's answer to GET {path} is not understood: {fields}", reason="MODEL_SERVER_REFUSES"
            ) from None

    def _call(self, method: str, path: str, *, seconds: float = _TIMEOUT) -> bytes:
        request = urllib.request.Request(f"{self._url}{path}", method=method)  # noqa: S310  # ours: http
        try:
            # Proxies of the environment are for other hosts.
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(
                request, timeout=seconds
            ) as response:
                body: bytes = response.read()
                return body
        except urllib.error.HTTPError as error:
            if error.code == 404:
                raise NotFound(f"TorchServe has nothing at {path}") from None
            raise Unavailable(
                f"TorchServe answers {error.code} to {method} {path}; its log says why", reason="MODEL_SERVER_REFUSES"
            ) from None
        except (OSError, http.client.HTTPException) as error:
            raise Unavailable(
                f"TorchServe at {self._url} cannot be reached ({type(error).__name__})", reason="MODEL_SERVER_AWAY"
            ) from None


class ModelStore:
    """The model store of a TorchServe, synchronized with the object store.

    Args:
        store: The object store, as the identity labeling.
        folder: TorchServe's model store.
        server: The server.
        linger_s: Seconds that a model without requests stays loaded.
    """

    def __init__(self, store: Store, folder: Path, server: TorchServe, *, linger_s: float) -> None:
        self._store = store
        self._folder = folder
        self._server = server
        self._linger = linger_s
        self._unused: dict[str, float] = {}
        self._failed: dict[str, tuple[int, float]] = {}
        for part in folder.glob(".*.part"):
            # Left by a process that was killed while it wrote.
            shutil.rmtree(part, ignore_errors=True)

    def sync(self, models: Sequence[ModelKey]) -> bool:
        """Load requested models that are missing, and unload models without requests for long enough.

        A classifier that does not load does not keep others from loading; it is retried later.

        Returns:
            Whether all requested models are loaded, except those that have failed repeatedly.

        Raises:
            Unavailable: the server cannot be reached.
        """
        loaded = self._server.models()
        names = {model_name(model): model for model in models}
        for name, model in names.items():
            self._unused.pop(name, None)
            if name not in loaded and self._due(name):
                self._load(name, model)
        for name in loaded - names.keys():
            since = self._unused.setdefault(name, time.monotonic())
            # Calls that wait in the queue of an unloaded model hang.
            if time.monotonic() - since >= self._linger and self._server.waiting(name) == 0:
                self._server.unload(name)
                shutil.rmtree(self._folder / name, ignore_errors=True)
                del self._unused[name]
                log.info("classifier unloaded", extra={"model": name})
        return all(self._failed.get(name, (_GIVEN_UP, 0.0))[0] >= _GIVEN_UP for name in names)

    def _due(self, name: str) -> bool:
        """Whether a model has not failed to load, or long enough ago for a retry."""
        return name not in self._failed or time.monotonic() - self._failed[name][1] >= _AGAIN

    def _load(self, name: str, model: ModelKey) -> None:
        start = time.monotonic()
        try:
            write_model(self._store, model, self._folder)
            self._server.load(name)
        except GenaugError as error:
            attempts = self._failed.get(name, (0, 0.0))[0] + 1
            self._failed[name] = attempts, time.monotonic()
            extra = {"classifier": model.name, "reason": error.reason, "attempt": attempts}
            log.error("classifier does not load", extra=extra)
            return
        self._failed.pop(name, None)
        log.info("classifier loaded", extra={"model": name, "seconds": round(time.monotonic() - start, 1)})


def write_model(store: Store, model: ModelKey, folder: Path) -> Path:
    """Export a classifier into TorchServe's model store `folder`, whole or not at all; return its folder."""
    target = folder / model_name(model)
    part = folder / f".{target.name}.part"
    shutil.rmtree(part, ignore_errors=True)
    for path, data in export_torchserve(store, model):
        file = part / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    shutil.rmtree(target, ignore_errors=True)
    part.rename(target)
    return target


class Labelers:
    """The labelers of a store. Records are immutable, and read once.

    Args:
        store: As the identity labeling.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: dict[str, str] = {}
        """Time of training by digest; empty for other classifiers."""
        self._supported: dict[ModelKey, bool] = {}
        """Whether a labeler can compute in a number format."""

    def newest(self, count: int, precision: Precision) -> list[ModelKey]:
        """The labelers trained last that support `precision`, at most `count`."""
        for digest in self._store.children("classifiers/"):
            if digest not in self._known:
                self._read(digest)
        times = sorted(((time, digest) for digest, time in self._known.items() if time), reverse=True)
        models = (ModelKey(f"classifiers/{digest}", precision) for _, digest in times)
        return list(islice(filter(self._supports, models), count))

    def _supports(self, model: ModelKey) -> bool:
        if model not in self._supported:
            self._supported[model] = supports_precision(self._store, model.name, model.precision)
        return self._supported[model]

    def _read(self, digest: str) -> None:
        try:
            record = read_record(self._store, f"classifiers/{digest}")
        except NotFound:
            # Its training has not finished.
            return
        self._known[digest] = record.create_time if record.role == Role.LABELER else ""
