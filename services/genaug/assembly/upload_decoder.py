"""Checking, staging and decoding of uploaded images while further ones arrive."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from genaug.assembly.fingerprints import Fingerprint, fingerprint
from genaug.assembly.import_plan import SourceRow
from genaug.shared.digests import ID_LENGTH, sha256
from genaug.shared.errors import FailedPrecondition, InvalidArgument, NotFound
from genaug.shared.store import Store
from genaug.vision.images.pixels import Pixels, decode, is_constant, pixel_sha256

STAGED = "uploads"
HOMES = (STAGED, "images", "sealed/images")
"""Store prefixes that may hold a content."""

_NOTHING = sha256(b"")
# Contents in flight per worker: enough to keep all busy, few enough to bound memory.
_AHEAD = 8


@dataclass(frozen=True)
class DecodedImage:
    """Properties of an image that can be imported."""

    pixel_sha256: str
    side: int
    """Shorter side, pixels."""
    grey: bool
    """Whether all channels are equal."""
    fingerprint: Fingerprint


@dataclass(frozen=True)
class UnusableImage:
    """Reason why an image cannot be imported."""

    reason: str
    detail: str


DecodeResult = DecodedImage | UnusableImage


def content_key(home: str, content_sha256: str) -> str:
    """Store key of a content below the prefix `home`."""
    return f"{home}/{content_sha256[:2]}/{content_sha256}"


def is_held(store: Store, content_sha256: str) -> bool:
    """Return whether the store holds this content, staged or imported."""
    return any(store.exists(content_key(home, content_sha256)) for home in HOMES)


def missing_contents(store: Store, contents: list[str]) -> list[str]:
    """Return the `contents` (sha256) that the store does not hold, in their order."""
    with ThreadPoolExecutor(_workers()) as pool:
        held = pool.map(lambda content: is_held(store, content), contents)
        return [content for content, is_there in zip(contents, held, strict=True) if not is_there]


def read_content(store: Store, content_sha256: str) -> bytes:
    """Read a content, staged or imported.

    Raises:
        FailedPrecondition: the store does not hold it.
    """
    if content_sha256 == _NOTHING:
        # On the wire an empty content means that the server holds it, so that an empty file is never sent.
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


class UploadDecoder:
    """Thread pool that stages and decodes contents; decoders release Python's lock.

    A context manager: an error cancels decodings that have not begun.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._pool = ThreadPoolExecutor(_workers(), thread_name_prefix="decode")
        self.results: dict[str, DecodeResult] = {}
        """Result of each content, by its sha256; complete after `finish`."""
        self._pending: deque[tuple[str, Future[DecodeResult]]] = deque()
        self._seen: set[str] = set()

    def __enter__(self) -> UploadDecoder:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def submit(self, row: SourceRow, content: bytes) -> None:
        """Start decoding an image; `content` is empty when the store holds it. Waits while too many are in flight."""
        key = row.content_sha256
        if key in self._seen:
            return
        self._seen.add(key)
        while len(self._pending) >= _AHEAD * _workers():
            self._finish_one()
        self._pending.append((key, self._pool.submit(_decode, self._store, key, content)))

    def finish(self) -> Iterator[int]:
        """Wait for all contents; yield the number of finished ones.

        Raises:
            InvalidArgument: a content has another digest than its row.
            FailedPrecondition: a content was neither sent nor held.
        """
        while self._pending:
            self._finish_one()
            yield len(self.results)

    def _finish_one(self) -> None:
        key, future = self._pending.popleft()
        self.results[key] = future.result()


def _workers() -> int:
    return max(2, os.cpu_count() or 1)


def _decode(store: Store, content_sha256: str, content: bytes) -> DecodeResult:
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
        return UnusableImage(error.reason, error.message)
    if is_constant(pixels):
        return UnusableImage("CONSTANT", f"all {pixels.shape[1]}×{pixels.shape[0]} pixels have one colour")
    return DecodedImage(pixel_sha256(pixels), min(pixels.shape[:2]), _is_grey(pixels), fingerprint(pixels))


def _is_grey(pixels: Pixels) -> bool:
    # Every eighth row and column rules out almost all colour images without reading the others.
    return pixels.shape[2] == 1 or all(bool((part == part[:, :, :1]).all()) for part in (pixels[::8, ::8], pixels))
