"""A batch: a list of draws in the store. Draws that are there are not made again; the manifest comes last."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from genaug.generation.sampling.draw_quality import Inspector, Look, look
from genaug.generation.sampling.receipts import (
    Drawn,
    Fault,
    Sampler,
    Source,
    Steps,
    Wanted,
    draw_digest,
    draw_key,
    receipt_json,
    sampler_json,
)
from genaug.shared.digests import canonical_json, digest_of, sha256
from genaug.shared.errors import InvalidArgument, NotFound
from genaug.shared.manifest import Row, write_rows
from genaug.shared.manifest import Source as RowSource
from genaug.shared.metrics import DRAWS_REJECTED, IMAGES_GENERATED
from genaug.shared.store import Store, damaged
from genaug.vision.images.pixels import decode, pixel_sha256
from genaug.vision.images.provenance_metadata import encode_marked, receipt_of

RECIPE = "batch/2"

# The store answers and Pillow packs outside the interpreter's lock, beside the model's thread.
_THREADS = 8
# Images that may wait for their upload.
_WAITING = 64
# Seconds between two events of progress.
_INTERVAL = 0.5


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
    source: RowSource

    @property
    def name(self) -> str:
        """ "batches/{digest}", whatever the order of the classes."""
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
        """Where its manifest lies."""
        return f"{self.name}/manifest.parquet"

    @property
    def record(self) -> str:
        """Where its record lies, written before the manifest."""
        return f"{self.name}/batch.json"

    def wanted(self) -> list[Wanted]:
        """Its images, by class, then by index."""
        return [
            Wanted(name, self.seed, self.first_index + offset)
            for name in sorted(self.counts)
            for offset in range(self.counts[name])
        ]


@dataclass(frozen=True)
class Done:
    """How far a batch is."""

    done: int
    """Images in the store."""
    total: int
    steps: Steps


@dataclass(frozen=True)
class Filled:
    """The batch is whole."""

    record: dict[str, Any]
    """The message `Batch` as JSON."""


DrawMissing = Callable[[Sequence[Wanted]], Iterator[Drawn | Steps]]


def fill_batch(
    store: Store, request: BatchRequest, source: Source, *, draw_missing: DrawMissing
) -> Iterator[Done | Filled]:
    """Have every image of `request` in the store, then write its manifest. Draws that are no images are left out.

    Args:
        source: What the receipts say of the generator.
        draw_missing: Draws images, in order. Encoding and upload run on threads of their own meanwhile.

    Yields:
        `Done` as steps are taken, twice a second at most; then `Filled`.

    Raises:
        What `draw_missing` raises, once the images that were drawn are in the store.
    """
    wanted = request.wanted()
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="upload") as pool:
        stored = dict(zip(wanted, pool.map(lambda one: _stored(store, request, one), wanted), strict=True))
        missing = [one for one in wanted if stored[one] is None]
        found, steps, last = len(wanted) - len(missing), Steps(0, 0, 0), time.monotonic()
        yield Done(found, len(wanted), steps)
        sieve = _Sieve(stored, judges=request.sampler is not None)
        uploads: dict[Wanted, Future[Row]] = {}
        waiting: list[Future[Row]] = []
        for event in draw_missing(missing) if missing else ():
            if isinstance(event, Steps):
                steps = event
            elif sieve.is_image(event):
                uploads[event.wanted] = pool.submit(_store, store, request, source, event)
                waiting.append(uploads[event.wanted])
            if len(waiting) > _WAITING:
                # Neither draw on while the store refuses, nor let images pile up before one that is slow.
                waiting.pop(0).result()
            if time.monotonic() - last > _INTERVAL:
                last = time.monotonic()
                yield Done(found + sum(one.done() for one in uploads.values()), len(wanted), steps)
        rows = sieve.stored_rows() | {one: upload.result() for one, upload in uploads.items()}
    record = _record(request, rows, sieve.rejected)
    store.put_new_json(request.record, record)
    write_rows(store, request.manifest, (rows[one] for one in wanted if one in rows))
    yield Done(len(rows), len(wanted), steps)
    yield Filled({**record, "drawn": len(uploads)})


class _Sieve:
    """Tells images from draws that are none, in the order they were asked for, stored ones among those drawn now.

    Args:
        stored: What the store has of each, in that order.
        judges: Whether there is anything to judge: transforms are of real images.
    """

    def __init__(self, stored: Mapping[Wanted, _Stored | None], *, judges: bool) -> None:
        self._stored = stored
        self._judges = judges
        self._inspector = Inspector()
        self._left = iter(stored)
        self._rows: dict[Wanted, Row] = {}
        self.rejected: Counter[tuple[str, Fault]] = Counter()

    def is_image(self, drawn: Drawn) -> bool:
        """Whether a new draw is one; what was stored before it counts as seen before it."""
        self._take_stored(before=drawn.wanted)
        return self._passes(look(drawn))

    def stored_rows(self) -> dict[Wanted, Row]:
        """The rows of all stored draws that are images, once no more are drawn."""
        self._take_stored(before=None)
        return self._rows

    def _take_stored(self, *, before: Wanted | None) -> None:
        for one in self._left:
            if one == before:
                return
            known = self._stored[one]
            if known is not None and self._passes(known.look):
                self._rows[one] = known.row

    def _passes(self, one: Look) -> bool:
        fault = self._inspector.classify(one) if self._judges else None
        if fault:
            self.rejected[one.class_name, fault] += 1
            DRAWS_REJECTED.labels(fault.removeprefix("REASON_").lower()).inc()
        return fault is None


def _record(
    request: BatchRequest, rows: Mapping[Wanted, Row], rejected: Mapping[tuple[str, Fault], int]
) -> dict[str, Any]:
    """The message `Batch` as JSON, but for what this request drew."""
    made = Counter(one.class_name for one in rows)
    return {
        "name": request.name,
        "manifest": request.manifest,
        "counts": [{"class_name": name, "count": made[name]} for name in sorted(request.counts)],
        "rejected": [
            {"class_name": name, "reason": fault, "count": count} for (name, fault), count in sorted(rejected.items())
        ],
    }


def finished_batch(store: Store, request: BatchRequest) -> dict[str, Any] | None:
    """The message `Batch` as JSON, drawn by others before; None when it is not whole."""
    if not store.exists(request.manifest):
        return None
    return {**store.get_json(request.record), "drawn": 0}


@dataclass(frozen=True)
class _Stored:
    look: Look
    row: Row


def _stored(store: Store, request: BatchRequest, wanted: Wanted) -> _Stored | None:
    """An image that the store has, with the receipt that it carries; None when it has not."""
    digest = draw_digest(request.generator, wanted, request.sampler)
    try:
        png = store.get(draw_key(digest))
    except NotFound:
        return None
    return _known(request, wanted, png, digest=digest)


def _store(store: Store, request: BatchRequest, source: Source, drawn: Drawn) -> Row:
    """Store an image and return its row. Where another has been stored meanwhile, that one counts."""
    digest = draw_digest(request.generator, drawn.wanted, request.sampler)
    receipt = receipt_json(source, drawn, sampler=request.sampler, pixel_sha256=pixel_sha256(drawn.pixels))
    png = encode_marked(drawn.pixels, receipt)
    if store.put_new(draw_key(digest), png):
        IMAGES_GENERATED.labels(drawn.wanted.class_name).inc()
        return _row(request, drawn.wanted, receipt, png=png)
    return _known(request, drawn.wanted, store.get(draw_key(digest)), digest=digest).row


def _known(request: BatchRequest, wanted: Wanted, png: bytes, *, digest: str) -> _Stored:
    key = draw_key(digest)
    try:
        receipt = receipt_of(png)
        pixels = decode(png)
    except InvalidArgument as error:
        raise damaged(key, error.message) from None
    if receipt.get("draw") != digest or receipt.get("pixel_sha256") != pixel_sha256(pixels):
        raise damaged(key, "its receipt is another image's")
    drawn = Drawn(wanted, pixels, int(receipt["bucket"]), tuple(receipt.get("parent_ids", ())))
    return _Stored(look(drawn), _row(request, wanted, receipt, png=png))


def _row(request: BatchRequest, wanted: Wanted, receipt: Mapping[str, object], *, png: bytes) -> Row:
    digest = str(receipt["draw"])
    parents = receipt.get("parent_ids", ())
    return Row(
        image_id=digest,
        uri=draw_key(digest),
        content_sha256=sha256(png),
        pixel_sha256=str(receipt["pixel_sha256"]),
        class_name=wanted.class_name,
        split="train",
        source=request.source,
        generator=request.generator,
        # The class that was asked for; its caption is in the receipt.
        prompt=wanted.class_name,
        seed=wanted.seed,
        index=wanted.index,
        parent_ids=tuple(map(str, parents)) if isinstance(parents, (list, tuple)) else (),
        receipt=canonical_json(receipt).decode(),
    )
