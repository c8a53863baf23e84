"""Batches: lists of draws in the store. Draws that are stored are not made again; the manifest is written last."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from pydantic import ValidationError

from genaug.generation.sampling.draw_quality import DrawFilter, DrawSummary, summarize
from genaug.generation.sampling.receipts import (
    DrawnImage,
    DrawProgress,
    ImageRequest,
    draw_digest,
    draw_key,
    receipt_json,
    receipt_of,
    sampler_json,
)
from genaug.schema.common import class_counts
from genaug.schema.generators import Batch, Generator, Receipt, Rejection, RejectionReason
from genaug.schema.model import read
from genaug.schema.sampling import Sampler
from genaug.shared.digests import canonical_json, digest_of, sha256
from genaug.shared.errors import InvalidArgument, NotFound
from genaug.shared.manifest import Row, write_rows
from genaug.shared.metrics import DRAWS_REJECTED, IMAGES_GENERATED
from genaug.shared.store import Store, damaged
from genaug.vision.images import provenance_metadata
from genaug.vision.images.pixels import decode, pixel_sha256

RECIPE = "batch/2"

# Store requests and PNG compression release the interpreter's lock, so these threads run beside the device's.
_UPLOAD_THREADS = 8
# Images that may wait for their upload.
_MAX_PENDING_UPLOADS = 64
# Seconds between two events of progress.
_PROGRESS_INTERVAL = 0.5


@dataclass(frozen=True)
class BatchRequest:
    """A list of images to have in the store."""

    generator: str
    """"generators/{digest}"."""
    counts: Mapping[str, int]
    """Images per class."""
    seed: int
    first_index: int
    sampler: Sampler | None
    """None for a generator that does not sample."""

    @property
    def name(self) -> str:
        """Name of the batch, "batches/{digest}"; the order of the classes changes nothing."""
        inputs = {
            "generator": self.generator,
            "counts": dict(self.counts),
            "seed": self.seed,
            "first_index": self.first_index,
            "sampler": sampler_json(self.sampler),
        }
        return f"batches/{digest_of(RECIPE, inputs)}"

    @property
    def manifest(self) -> str:
        """Store key of its manifest."""
        return f"{self.name}/manifest.parquet"

    @property
    def record(self) -> str:
        """Store key of its record, written before the manifest."""
        return f"{self.name}/batch.json"

    def images(self) -> list[ImageRequest]:
        """Its images, by class, then by index."""
        return [
            ImageRequest(name, self.seed, self.first_index + offset)
            for name in sorted(self.counts)
            for offset in range(self.counts[name])
        ]


@dataclass(frozen=True)
class BatchProgress:
    """Progress of a batch."""

    done: int
    """Images in the store."""
    total: int
    drawing: DrawProgress


DrawMissing = Callable[[Sequence[ImageRequest]], Iterator[DrawnImage | DrawProgress]]


def fill_batch(
    store: Store, request: BatchRequest, record: Generator, *, device: str, draw_missing: DrawMissing
) -> Iterator[BatchProgress | Batch]:
    """Have every image of `request` in the store, then write its manifest, without rejected draws.

    Args:
        store: The store.
        request: The images.
        record: The generator's record, for receipts.
        device: Description of the device that draws, for receipts.
        draw_missing: Draws images, in order. Encoding and upload run on threads of their own meanwhile.

    Yields:
        Progress, at most twice a second; then the batch.

    Raises:
        Errors of `draw_missing`, once the images drawn before are in the store.
    """
    images = request.images()
    with ThreadPoolExecutor(_UPLOAD_THREADS, thread_name_prefix="upload") as pool:
        stored = dict(zip(images, pool.map(lambda image: _read_stored(store, request, image), images), strict=True))
        missing = [image for image in images if stored[image] is None]
        before, drawing, last = len(images) - len(missing), DrawProgress(), time.monotonic()
        yield BatchProgress(before, len(images), drawing)
        batch_filter = _BatchFilter(stored, enabled=request.sampler is not None)
        uploads: dict[ImageRequest, Future[Row]] = {}
        pending: list[Future[Row]] = []
        for event in draw_missing(missing) if missing else ():
            if isinstance(event, DrawProgress):
                drawing = event
            elif batch_filter.accept(event):
                uploads[event.request] = pool.submit(_upload, store, request, record, event, device)
                pending.append(uploads[event.request])
            if len(pending) > _MAX_PENDING_UPLOADS:
                # Waiting here ends drawing soon after the store fails, and bounds memory while the store is slow.
                pending.pop(0).result()
            if time.monotonic() - last > _PROGRESS_INTERVAL:
                last = time.monotonic()
                done = before + sum(upload.done() for upload in uploads.values())
                yield BatchProgress(done, len(images), drawing)
        rows = batch_filter.stored_rows() | {image: upload.result() for image, upload in uploads.items()}
    batch = _batch(request, rows, batch_filter.rejected)
    # The number of new draws is this request's, not the batch's.
    store.put_new_json(request.record, batch.model_dump(mode="json", exclude={"drawn"}))
    write_rows(store, request.manifest, (rows[image] for image in images if image in rows))
    yield BatchProgress(len(rows), len(images), drawing)
    yield batch.model_copy(update={"drawn": len(uploads)})


class _BatchFilter:
    """Filters new draws together with stored ones, all in the order of the request.

    Args:
        stored: The stored draw of each image, in the order of the request.
        enabled: Whether anything is rejected; transforms of real images are not.
    """

    def __init__(self, stored: Mapping[ImageRequest, _StoredDraw | None], *, enabled: bool) -> None:
        self._stored = stored
        self._enabled = enabled
        self._filter = DrawFilter()
        self._remaining = iter(stored)
        self._rows: dict[ImageRequest, Row] = {}
        self.rejected: Counter[tuple[str, RejectionReason]] = Counter()

    def accept(self, image: DrawnImage) -> bool:
        """Whether a new draw is accepted, after the stored ones that precede it in the request."""
        self._take_stored(before=image.request)
        return self._accept(summarize(image))

    def stored_rows(self) -> dict[ImageRequest, Row]:
        """Rows of all accepted stored draws; call it once every new draw has been filtered."""
        self._take_stored(before=None)
        return self._rows

    def _take_stored(self, *, before: ImageRequest | None) -> None:
        for request in self._remaining:
            if request == before:
                return
            draw = self._stored[request]
            if draw is not None and self._accept(draw.summary):
                self._rows[request] = draw.row

    def _accept(self, summary: DrawSummary) -> bool:
        reason = self._filter.reject(summary) if self._enabled else None
        if reason:
            self.rejected[summary.class_name, reason] += 1
            DRAWS_REJECTED.labels(reason.name.lower()).inc()
        return reason is None


def _batch(
    request: BatchRequest, rows: Mapping[ImageRequest, Row], rejected: Mapping[tuple[str, RejectionReason], int]
) -> Batch:
    accepted = Counter(image.class_name for image in rows)
    return Batch(
        name=request.name,
        manifest=request.manifest,
        counts=class_counts({name: accepted[name] for name in sorted(request.counts)}),
        rejected=tuple(
            Rejection(class_name=name, reason=reason, count=count) for (name, reason), count in sorted(rejected.items())
        ),
    )


def finished_batch(store: Store, request: BatchRequest) -> Batch | None:
    """Return the batch as an earlier request finished it; None if it is not finished."""
    return read(store, request.record, Batch) if store.exists(request.manifest) else None


@dataclass(frozen=True)
class _StoredDraw:
    summary: DrawSummary
    row: Row


def _read_stored(store: Store, request: BatchRequest, image: ImageRequest) -> _StoredDraw | None:
    digest = draw_digest(request.generator, image, request.sampler)
    try:
        png = store.get(draw_key(digest))
    except NotFound:
        return None
    return _parse_stored(request, image, png, digest=digest)


def _upload(store: Store, request: BatchRequest, record: Generator, image: DrawnImage, device: str) -> Row:
    """Store an image and return its row. If another request has stored its own draw meanwhile, that one counts."""
    receipt = receipt_of(record, image, sampler=request.sampler, device=device)
    png = provenance_metadata.encode_marked(image.pixels, receipt_json(receipt))
    key = draw_key(receipt.draw)
    if store.put_new(key, png):
        IMAGES_GENERATED.labels(receipt.class_name).inc()
        return _row(request, image.request, receipt, png=png)
    return _parse_stored(request, image.request, store.get(key), digest=receipt.draw).row


def _parse_stored(request: BatchRequest, image: ImageRequest, png: bytes, *, digest: str) -> _StoredDraw:
    key = draw_key(digest)
    try:
        receipt = Receipt.model_validate(provenance_metadata.receipt_of(png))
        pixels = decode(png)
    except InvalidArgument as error:
        raise damaged(key, error.message) from None
    except ValidationError:
        raise damaged(key, "its receipt cannot be read") from None
    if receipt.draw != digest or receipt.pixel_sha256 != pixel_sha256(pixels):
        raise damaged(key, "its receipt is another image's")
    drawn = DrawnImage(image, pixels, receipt.bucket, receipt.parent_ids)
    return _StoredDraw(summarize(drawn), _row(request, image, receipt, png=png))


def _row(request: BatchRequest, image: ImageRequest, receipt: Receipt, *, png: bytes) -> Row:
    return Row(
        image_id=receipt.draw,
        uri=draw_key(receipt.draw),
        content_sha256=sha256(png),
        pixel_sha256=receipt.pixel_sha256,
        class_name=image.class_name,
        split="train",
        source="synthetic" if request.sampler else "transformed",
        generator=request.generator,
        # The requested class; the caption is in the receipt.
        prompt=image.class_name,
        seed=image.seed,
        index=image.index,
        parent_ids=receipt.parent_ids,
        receipt=canonical_json(receipt_json(receipt)).decode(),
    )
