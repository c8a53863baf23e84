"""Taking in images: each is checked, staged and decoded while the next ones arrive."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from genaug.assembly.duplicates import Thumbnail, thumbnail
from genaug.assembly.source import SourceRow
from genaug.shared.digests import ID_LENGTH, sha256
from genaug.shared.errors import FailedPrecondition, InvalidArgument, NotFound
from genaug.shared.store import Store
from genaug.vision.images.pixels import Pixels, decode, is_constant, pixel_sha256

STAGED = "uploads"
HOMES = (STAGED, "images", "sealed/images")
"""Folders that may hold a content."""

_NOTHING = sha256(b"")
# Contents in flight per worker: enough to keep all busy, few enough to bound memory.
_AHEAD = 8


@dataclass(frozen=True)
class Decoded:
    """What decoding showed of a good image."""

    pixel_sha256: str
    side: int
    """The shorter one, pixels."""
    grey: bool
    """Whether all channels are equal."""
    thumbnail: Thumbnail


@dataclass(frozen=True)
class Refused:
    """Why an image cannot be used."""

    reason: str
    detail: str


Look = Decoded | Refused


def content_key(home: str, content_sha256: str) -> str:
    """Where a content lies below `home`."""
    return f"{home}/{content_sha256[:2]}/{content_sha256}"


def is_held(store: Store, content_sha256: str) -> bool:
    """Whether the store holds this content, staged or imported."""
    return any(store.exists(content_key(home, content_sha256)) for home in HOMES)


def missing_contents(store: Store, contents: list[str]) -> list[str]:
    """Those of `contents` (sha256) that the store does not hold, in their order."""
    with ThreadPoolExecutor(_workers()) as pool:
        held = pool.map(lambda content: is_held(store, content), contents)
        return [content for content, there in zip(contents, held, strict=True) if not there]


def read_content(store: Store, content_sha256: str) -> bytes:
    """Read a content, wherever it lies.

    Raises:
        FailedPrecondition: it is nowhere.
    """
    if content_sha256 == _NOTHING:
        # An empty file is never sent: on the wire, no content means that it is held.
        return b""
    for home in HOMES:
        try:
            return store.get(content_key(home, content_sha256))
        except NotFound:
            continue
    raise FailedPrecondition(
        f"image {content_sha256[:ID_LENGTH]}: its content was not sent and is not held; ask FindMissingContents and "
        "send it",
        reason="CONTENT_MISSING",
    )


class Intake:
    """Stages and decodes contents on a pool of threads (decoders release Python's lock).

    Use as a context manager: leaving it on an error drops what has not begun.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._pool = ThreadPoolExecutor(_workers(), thread_name_prefix="intake")
        self._looks: dict[str, Look] = {}
        self._pending: deque[tuple[str, Future[Look]]] = deque()
        self._seen: set[str] = set()

    def __enter__(self) -> Intake:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def take(self, row: SourceRow, content: bytes) -> None:
        """Begin with an image; `content` is empty when the store holds it. Waits while too many are in flight."""
        key = row.content_sha256
        if key in self._seen:
            return
        self._seen.add(key)
        while len(self._pending) >= _AHEAD * _workers():
            self._settle()
        self._pending.append((key, self._pool.submit(_look_at, self._store, key, content)))

    def settle(self) -> Iterator[int]:
        """Finish all; yield how many contents are done.

        Raises:
            InvalidArgument: a content has another digest than was said.
            FailedPrecondition: a content was neither sent nor held.
        """
        while self._pending:
            self._settle()
            yield len(self._looks)

    @property
    def done(self) -> int:
        """Contents finished so far."""
        return len(self._looks)

    @property
    def looks(self) -> dict[str, Look]:
        """What each content showed, by its sha256; complete after `settle`."""
        return self._looks

    def _settle(self) -> None:
        key, future = self._pending.popleft()
        self._looks[key] = future.result()


def _workers() -> int:
    return max(2, os.cpu_count() or 1)


def _look_at(store: Store, content_sha256: str, content: bytes) -> Look:
    data = content or read_content(store, content_sha256)
    if sha256(data) != content_sha256:
        raise InvalidArgument(
            f"image {content_sha256[:ID_LENGTH]}: its content has another sha256; send it again", reason="BAD_DIGEST"
        )
    if content:
        store.put_new(content_key(STAGED, content_sha256), data)
    try:
        pixels = decode(data)
    except InvalidArgument as error:
        return Refused(error.reason, error.message)
    if is_constant(pixels):
        return Refused("CONSTANT", f"all {pixels.shape[1]}×{pixels.shape[0]} pixels have one colour")
    return Decoded(pixel_sha256(pixels), min(pixels.shape[:2]), _is_grey(pixels), thumbnail(pixels))


def _is_grey(pixels: Pixels) -> bool:
    # Every eighth row and column settles it for almost all colour images.
    return pixels.shape[2] == 1 or all(bool((part == part[:, :, :1]).all()) for part in (pixels[::8, ::8], pixels))
