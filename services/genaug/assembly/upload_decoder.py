"""Checking, staging and decoding of uploaded images while further ones arrive."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from tempfile import TemporaryDirectory

import numpy as np

from genaug.assembly.datasets import SEALED_IMAGES, original_key
from genaug.assembly.describe.facts import ImageFacts, image_facts
from genaug.assembly.fingerprints import Fingerprint, fingerprint
from genaug.assembly.import_plan import SourceRow
from genaug.schema.datasets import Window
from genaug.shared.container_limits import cpu_count
from genaug.shared.digests import ID_LENGTH, sha256
from genaug.shared.errors import FailedPrecondition, InvalidArgument, NotFound
from genaug.shared.settings import StoreSettings
from genaug.shared.store import Store
from genaug.vision.images.pixels import Pixels, encode_png, is_constant, opened, pixel_sha256, with_pixels
from genaug.vision.images.windows import DatasetIntensities, Intensities, check_high_bytes, measure

STAGED = "uploads"
HOMES = (STAGED, "images", SEALED_IMAGES)
"""Store prefixes that may hold a content, beside those of originals."""

_NOTHING = sha256(b"")
# Contents in flight per worker, and their bytes: enough to keep all busy, few enough to bound memory.
_AHEAD, _AHEAD_BYTES = 8, 64 << 20


@dataclass(frozen=True)
class DecodedImage:
    """Properties of an image that can be imported."""

    pixel_sha256: str
    side: int
    """Shorter side, pixels."""
    grey: bool
    """Whether all channels are equal."""
    fingerprint: Fingerprint
    rendered_sha256: str = ""
    """sha256 of the 8-bit PNG that a deep image was rendered to; empty for other images."""
    high_byte: int = -1
    """Highest high byte of an image of which only those are read; -1 for other images."""
    facts: ImageFacts | None = None
    """For a description, where the decoder collects them."""


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
    return any(store.exists(key) for key in _places(content_sha256))


def _places(content_sha256: str) -> Iterator[str]:
    yield from (content_key(home, content_sha256) for home in HOMES)
    yield from (original_key(content_sha256[:ID_LENGTH], sealed=sealed) for sealed in (False, True))


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
    for key in _places(content_sha256):
        try:
            return store.get(key)
        except NotFound:
            continue
    raise FailedPrecondition(
        f"image {content_sha256[:ID_LENGTH]}: its content was not sent and is not held; ask FindMissingContents and "
        "send it",
        reason="CONTENT_MISSING",
    )


class UploadDecoder:
    """Thread pool that stages and decodes contents; decoders release Python's lock.

    Deep images are measured as they arrive, and rendered to 8 bits when all are known: see `render`.

    A context manager: an error cancels decodings that have not begun.

    Args:
        store: The store, as "assembly".
        validate_only: Collect facts for a description, and write nothing to the store: deep images are staged in a
            temporary folder.
    """

    def __init__(self, store: Store, *, validate_only: bool = False) -> None:
        self._store = store
        self._exits = ExitStack()
        self._scratch: Store | None = None
        """Store of the staged deep images, which ends with the decoder; None where they are staged in the store."""
        if validate_only:
            folder = self._exits.enter_context(TemporaryDirectory(prefix="genaug-dry-run-"))
            self._scratch = Store.open(StoreSettings(url=f"file://{folder}"), "assembly")
        self._pool = ThreadPoolExecutor(_workers(), thread_name_prefix="decode")
        self.results: dict[str, DecodeResult] = {}
        """Result of each content, by its sha256; complete after `finish` and `render`."""
        self.window: Window | None = None
        """Window of the deep images; None where there are none."""
        self.notes: tuple[str, ...] = ()
        """Sentences on values that are shown badly."""
        self._deep: list[str] = []
        self._intensities = DatasetIntensities()
        self._pending: deque[tuple[str, int, Future[DecodeResult | Intensities]]] = deque()
        self._pending_bytes = 0
        self._seen: set[str] = set()

    def __enter__(self) -> UploadDecoder:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._exits.close()

    def submit(self, row: SourceRow, content: bytes) -> None:
        """Start decoding an image; `content` is empty when the store holds it. Waits while too many are in flight."""
        key = row.content_sha256
        if key in self._seen:
            return
        self._seen.add(key)
        while self._pending and (len(self._pending) >= _AHEAD * _workers() or self._pending_bytes >= _AHEAD_BYTES):
            self._finish_one()
        self._pending.append((key, len(content), self._pool.submit(self._decode, key, content)))
        self._pending_bytes += len(content)

    def finish(self) -> Iterator[int]:
        """Wait for all contents; yield the number of finished ones.

        Raises:
            InvalidArgument: a content has another digest than its row.
            FailedPrecondition: a content was neither sent nor held.
        """
        while self._pending:
            self._finish_one()
            yield len(self.results) + len(self._deep)

    def render(self, *, bits: int, window: Sequence[float]) -> Iterator[int]:
        """Find the window of the deep images, and render them by it; yield the number of rendered ones.

        Args:
            bits: Of the import's options.
            window: Of the import's options.

        Raises:
            InvalidArgument: see `DatasetIntensities.find_window` and `check_high_bytes`.
        """
        decoded = [result for result in self.results.values() if isinstance(result, DecodedImage)]
        self.notes = check_high_bytes([image.high_byte for image in decoded if image.high_byte >= 0])
        if not self._deep:
            if bits or window:
                self.notes += ("no image has more than 8 bits per value, so that the given window changes nothing",)
            return
        eight_bit_images = sum(image.high_byte < 0 for image in decoded)
        chosen, notes = self._intensities.find_window(bits=bits, window=window, eight_bit_images=eight_bit_images)
        self.window = chosen
        self.notes += notes
        rendered = self._pool.map(lambda content: self._render(content, chosen), self._deep)
        for done, (content, result) in enumerate(zip(self._deep, rendered, strict=True), start=1):
            self.results[content] = result
            yield done

    def _finish_one(self) -> None:
        key, size, future = self._pending.popleft()
        self._pending_bytes -= size
        result = future.result()
        if isinstance(result, Intensities):
            self._deep.append(key)
            self._intensities.add(result)
        else:
            self.results[key] = result

    def _decode(self, content_sha256: str, content: bytes) -> DecodeResult | Intensities:
        data = content or read_content(self._store, content_sha256)
        if sha256(data) != content_sha256:
            raise InvalidArgument(
                f"image {content_sha256[:ID_LENGTH]}: its content has another sha256; send it again",
                reason="BAD_DIGEST",
            )
        if content and not self._scratch:
            self._store.put_new(content_key(STAGED, content_sha256), data)
        try:
            with opened(data) as image:
                if not image.is_deep:
                    reads_high_bytes = image.has_high_bytes
                    return self._examine(data, image.pixels(), reads_high_bytes=reads_high_bytes)
                width, height = image.size
                intensities = measure(image.values())
        except InvalidArgument as error:
            return UnusableImage(error.reason, error.message)
        if intensities.low == intensities.high:
            return UnusableImage("CONSTANT", f"all {width}×{height} pixels have one value")
        if self._scratch:
            self._scratch.put_new(content_key(STAGED, content_sha256), data)
        return intensities

    def _examine(self, data: bytes, pixels: Pixels, *, reads_high_bytes: bool = False) -> DecodeResult:
        if is_constant(pixels):
            return UnusableImage("CONSTANT", f"all {pixels.shape[1]}×{pixels.shape[0]} pixels have one colour")
        return DecodedImage(
            pixel_sha256=pixel_sha256(pixels),
            side=min(pixels.shape[:2]),
            grey=_is_grey(pixels),
            fingerprint=fingerprint(pixels),
            high_byte=int(pixels.max()) if reads_high_bytes else -1,
            facts=image_facts(data, pixels) if self._scratch else None,
        )

    def _render(self, content_sha256: str, window: Window) -> DecodeResult:
        """Render a deep image to an 8-bit PNG, which is staged."""

        def stage(pixels: Pixels) -> DecodeResult:
            png = encode_png(pixels)
            result = self._examine(png, pixels)
            if isinstance(result, UnusableImage):
                span = f"{window.low:.10g} to {window.high:.10g}"
                return UnusableImage(result.reason, f"in the window {span}, {result.detail}")
            rendered = sha256(png)
            if not self._scratch:
                self._store.put_new(content_key(STAGED, rendered), png)
            return replace(result, rendered_sha256=rendered)

        return with_pixels(read_content(self._scratch or self._store, content_sha256), stage, window=window)


def _workers() -> int:
    return max(2, cpu_count())


def _is_grey(pixels: Pixels) -> bool:
    # Every eighth row and column rules out almost all colour images without reading the others.
    return pixels.shape[2] == 1 or all(
        np.array_equal(part[:, :, 0], part[:, :, channel]) for part in (pixels[::8, ::8], pixels) for channel in (1, 2)
    )
