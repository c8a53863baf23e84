"""Object store: `file://`, `memory://` or `s3://`, with an access list per identity."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, PermissionDeniedError, UnauthenticatedError
from obstore.exceptions import NotFoundError as ObjectNotFoundError
from obstore.store import LocalStore, MemoryStore, ObjectStore, S3Store

from genaug.shared.digests import canonical_json
from genaug.shared.errors import FailedPrecondition, NotFound, PermissionDenied, ResourceExhausted, Unavailable
from genaug.shared.metrics import STORE_SECONDS
from genaug.shared.settings import StoreSettings


@dataclass(frozen=True)
class Access:
    """Prefixes that an identity may read and write. Write access includes read access."""

    reads: tuple[str, ...]
    writes: tuple[str, ...]


@dataclass(frozen=True)
class Entry:
    """Entry of a listing."""

    key: str
    size: int
    modified: datetime


# Concurrent reads, and objects held at most for a slower consumer. obstore releases the GIL while it reads.
_READERS, _AHEAD = 8, 64

# Bytes from which an object is uploaded in parts.
_MULTIPART_BYTES = 1 << 30

# Prefix of the objects with which every identity checks that conditional puts work.
SELFTEST = "selftest/"
_JOBS = ("requests/", "progress/")

# Identities that train never read the seal; identities that read the seal never train.
ROLES: dict[str, Access] = {
    "assembly": Access(
        reads=(
            *("batches/", "labels/", "selections/", "matches/", "generators/", "classifiers/", "evaluations/"),
            *("runs/", "draws/"),
        ),
        writes=(
            *("uploads/", "images/", "sources/", "sealed/", "restricted/", "datasets/", "seal-openings/", "draws/"),
        ),
    ),
    "finetune": Access(reads=("datasets/", "images/", "requests/"), writes=("bases/", "generators/", "progress/")),
    "generation": Access(reads=("bases/", "generators/"), writes=("draws/", "batches/")),
    "labeling": Access(
        reads=("classifiers/", "backbones/", "batches/", "draws/"), writes=("labels/", "embeddings/", "serving/")
    ),
    "selection": Access(
        reads=("datasets/", "images/", "classifiers/", "backbones/", "batches/", "labels/", "draws/"),
        writes=("embeddings/", "selections/", "matches/"),
    ),
    "train": Access(
        reads=("datasets/", "images/", "draws/", "labels/", "requests/"),
        writes=("classifiers/", "backbones/", "embeddings/", "progress/"),
    ),
    "evaluate": Access(
        reads=("datasets/", "images/", "sealed/", "classifiers/", "backbones/", "requests/"),
        writes=("evaluations/", "progress/", "seal-openings/"),
    ),
    "report": Access(
        reads=(
            *("datasets/", "images/", "draws/", "batches/", "labels/", "selections/", "embeddings/", "matches/"),
            *("generators/", "classifiers/", "evaluations/", "requests/"),
        ),
        writes=("runs/", "progress/"),
    ),
    "orchestrator": Access(
        reads=("datasets/", "generators/", "classifiers/", "selections/", "evaluations/", "batches/", "labels/"),
        writes=("runs/", *_JOBS),
    ),
}


def damaged(key: str, problem: str) -> FailedPrecondition:
    """Return the error for a damaged object. Writes are atomic, so something else has changed it."""
    return FailedPrecondition(
        f"{key} is damaged ({problem}); restore it, or delete what it belongs to and run again",
        reason="DAMAGED_OBJECT",
        key=key,
    )


class Store:
    """Object store as one identity may use it.

    Results have keys that are digests of their inputs; `put_new` writes them once and never replaces them, so the
    stored object wins. `put` is for records of progress and of runs.
    """

    def __init__(self, backend: ObjectStore, role: str, *, url: str) -> None:
        if role not in ROLES:
            raise KeyError(f"no store identity {role!r}; there are {', '.join(ROLES)}")
        self._backend = backend
        self._role = role
        self._url = url

    @classmethod
    def open(cls, settings: StoreSettings, role: str) -> Store:
        """Open the store of `settings` as `role`.

        Raises:
            FailedPrecondition: the URL has an unknown scheme, or its folder cannot be written.
        """
        return cls(_backend(settings), role, url=settings.url)

    def as_role(self, role: str) -> Store:
        """Return the same store as another identity."""
        return Store(self._backend, role, url=self._url)

    @property
    def role(self) -> str:
        """The identity."""
        return self._role

    def put_new(self, key: str, data: bytes) -> bool:
        """Write `data` at `key` unless an object is there. Return whether this call wrote it."""
        self._check(key, write=True)
        if len(data) > _MULTIPART_BYTES:
            # A conditional put is a single request, which S3 limits to 5 GiB. Two writers may race here, but keys are
            # digests, so both write the same bytes.
            if self.exists(key):
                return False
            with _operation("put_new", key):
                obstore.put(self._backend, key, data, use_multipart=True)
            return True
        try:
            with _operation("put_new", key):
                obstore.put(self._backend, key, data, mode="create")
        except AlreadyExistsError:
            return False
        return True

    def put(self, key: str, data: bytes) -> None:
        """Write `data` at `key`, replacing an existing object. For records of progress and runs only."""
        self._check(key, write=True)
        with _operation("put", key):
            obstore.put(self._backend, key, data)

    def get(self, key: str) -> bytes:
        """Read the object at `key`.

        Raises:
            NotFound: there is none.
        """
        self._check(key, write=False)
        with _operation("get", key):
            return bytes(obstore.get(self._backend, key).bytes())

    def read_ahead(self, keys: Sequence[str]) -> Iterator[bytes]:
        """Yield the objects at `keys`, in order, reading ahead in background threads; raises as `get` does."""
        with ThreadPoolExecutor(_READERS) as pool:
            for start in range(0, len(keys), _AHEAD):
                yield from pool.map(self.get, keys[start : start + _AHEAD])

    def exists(self, key: str) -> bool:
        """Return whether there is an object at `key`."""
        self._check(key, write=False)
        try:
            with _operation("head", key):
                obstore.head(self._backend, key)
        except NotFound:
            return False
        return True

    def put_new_json(self, key: str, value: Any) -> bool:
        """Write canonical JSON as `put_new` does."""
        return self.put_new(key, canonical_json(value))

    def put_json(self, key: str, value: Any) -> None:
        """Write canonical JSON as `put` does."""
        self.put(key, canonical_json(value))

    def get_json(self, key: str) -> Any:
        """Read JSON.

        Raises:
            NotFound: there is no such object.
            FailedPrecondition: reason DAMAGED_OBJECT; it is no JSON.
        """
        data = self.get(key)
        try:
            return json.loads(data)
        except ValueError:
            raise damaged(key, "no JSON") from None

    def list(self, prefix: str) -> Iterator[tuple[str, int]]:
        """Yield (key, size in bytes) of all objects below `prefix`, which ends with a slash."""
        self._check(prefix, write=False)
        with _operation("list", prefix):
            for page in obstore.list(self._backend, prefix):
                for entry in page:
                    yield entry["path"], entry["size"]

    def entries(self, prefix: str) -> Iterator[Entry]:
        """Yield all objects below `prefix`, which ends with a slash, with their times of writing."""
        self._check(prefix, write=False)
        with _operation("list", prefix):
            for page in obstore.list(self._backend, prefix):
                for entry in page:
                    yield Entry(entry["path"], entry["size"], entry["last_modified"])

    def children(self, prefix: str) -> Iterator[str]:
        """Yield the names of the folders directly below `prefix`, sorted."""
        self._check(prefix, write=False)
        with _operation("list", prefix):
            listing = obstore.list_with_delimiter(self._backend, prefix)
        yield from sorted(path.rstrip("/").rsplit("/", 1)[-1] for path in listing["common_prefixes"])

    def delete(self, key: str) -> None:
        """Delete the object at `key`, if there is one."""
        self._check(key, write=True)
        try:
            with _operation("delete", key):
                obstore.delete(self._backend, key)
        except NotFound:
            return

    def check(self) -> None:
        """Check that the store honours conditional puts: the second put of a key must fail.

        Raises:
            FailedPrecondition: reason NO_CONDITIONAL_PUT; the store replaced the object.
        """
        key = f"{SELFTEST}{self._role}-{time.time_ns()}"
        with _operation("check", key):
            obstore.put(self._backend, key, b"1", mode="create")
            honoured = False
            try:
                obstore.put(self._backend, key, b"2", mode="create")
            except AlreadyExistsError:
                honoured = True
            # A leftover test object is harmless; an error of the deletion must not hide the outcome.
            with suppress(BaseError, OSError):
                obstore.delete(self._backend, key)
        if honoured:
            return
        raise FailedPrecondition(
            f"store {self._url}: a conditional put overwrote an object; use a store that honours If-None-Match "
            "(MinIO, SeaweedFS, AWS S3)",
            reason="NO_CONDITIONAL_PUT",
        )

    def _check(self, key: str, *, write: bool) -> None:
        access = ROLES[self._role]
        allowed = access.writes if write else access.writes + access.reads
        if not key.startswith(allowed):
            raise PermissionDenied(
                f"the store identity {self._role!r} may not {'write' if write else 'read'} {key.split('/', 1)[0]}/",
                reason="STORE_ACCESS_DENIED",
                role=self._role,
            )


class _operation:
    """Measure an operation and translate obstore's errors, except the refusal of a conditional put."""

    def __init__(self, name: str, key: str) -> None:
        self._name = name
        self._key = key

    def __enter__(self) -> None:
        self._start = time.monotonic()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        # NotFound and AlreadyExists are expected outcomes, not errors, in the metric; a listing may be left early.
        expected = (AlreadyExistsError, ObjectNotFoundError, FileNotFoundError, GeneratorExit)
        outcome = "ok" if error is None or isinstance(error, expected) else "error"
        STORE_SECONDS.labels(self._name, outcome).observe(time.monotonic() - self._start)
        if error is None or isinstance(error, AlreadyExistsError):
            return
        if isinstance(error, (ObjectNotFoundError, FileNotFoundError)):
            raise NotFound(f"{self._key}: not in the store", reason="OBJECT_NOT_FOUND", key=self._key) from None
        if "No space left" in str(error) or getattr(error, "errno", None) == 28:
            raise ResourceExhausted(
                f"{self._key}: the store is full; free space and resume", reason="STORE_FULL", key=self._key
            ) from None
        # obstore has classes for denied access, but raises its generic error when listing and deleting are denied.
        denied = isinstance(error, (PermissionDeniedError, UnauthenticatedError))
        if denied or (isinstance(error, BaseError) and "AccessDenied" in str(error)):
            raise PermissionDenied(
                f"{self._key}: the store refused our credentials; check them, and the policy of this identity "
                "(`genaug store policy`)",
                reason="STORE_ACCESS_DENIED",
                key=self._key,
            ) from None
        if isinstance(error, (BaseError, OSError)):
            raise Unavailable(
                f"{self._key}: the store cannot be reached or refused ({type(error).__name__}); "
                "check store.url and its credentials with `genaug doctor`",
                reason="STORE_UNAVAILABLE",
                key=self._key,
            ) from error


def _backend(settings: StoreSettings) -> ObjectStore:
    parts = urlsplit(settings.url)
    if parts.scheme == "file":
        folder = Path(parts.path)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise FailedPrecondition(
                f"store.url: {folder} cannot be made ({error.strerror}); choose a folder you may write",
                reason="STORE_NOT_WRITABLE",
            ) from None
        return LocalStore(folder)
    if parts.scheme == "memory":
        return MemoryStore()
    if parts.scheme == "s3":
        options: dict[str, Any] = {"region": settings.region}
        if settings.endpoint:
            options |= {"endpoint": settings.endpoint, "virtual_hosted_style_request": False}
        if settings.access_key_id:
            options |= {
                "access_key_id": settings.access_key_id,
                "secret_access_key": settings.secret_access_key.get_secret_value(),
            }
        # Timeout of a whole request: a base model's weights are gigabytes.
        client: Any = {"allow_http": settings.endpoint.startswith("http://"), "timeout": "15m"}
        return S3Store(parts.netloc, prefix=parts.path.strip("/") or None, client_options=client, **options)
    raise FailedPrecondition(
        f"store.url: {settings.url!r} has no known scheme; use file://, memory:// or s3://", reason="BAD_STORE_URL"
    )


def free_bytes(settings: StoreSettings) -> int | None:
    """Return the free bytes of a `file://` store's disk; None for other stores."""
    parts = urlsplit(settings.url)
    return shutil.disk_usage(parts.path).free if parts.scheme == "file" else None
