"""A batch: a list of draws in the store. Draws that are there are not made again; the manifest comes last."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from genaug.generation.receipts import Drawn, Sampler, Wanted, draw_digest, draw_key, receipt_json, sampler_json
from genaug.shared.digests import canonical_json, digest_of, sha256
from genaug.shared.errors import NotFound
from genaug.shared.manifest import Row, Source, write_rows
from genaug.shared.metrics import IMAGES_GENERATED
from genaug.shared.store import Store
from genaug.vision.images import decode, encode_png, pixel_sha256

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
    source: Source

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
        return f"batches/{digest_of('batch/1', inputs)}"

    @property
    def manifest(self) -> str:
        """Where its manifest lies."""
        return f"{self.name}/manifest.parquet"

    def wanted(self) -> list[Wanted]:
        """Its images, by class, then by index."""
        return [
            Wanted(name, self.seed, self.first_index + offset)
            for name in sorted(self.counts)
            for offset in range(self.counts[name])
        ]


@dataclass(frozen=True)
class Done:
    """How many images are in the store."""

    done: int
    total: int


@dataclass(frozen=True)
class Filled:
    """The batch is whole."""

    drawn: int
    """Images that had to be made."""


DrawMissing = Callable[[Sequence[Wanted]], Iterator[Drawn]]


def fill_batch(
    store: Store,
    request: BatchRequest,
    *,
    draw_missing: DrawMissing,
    parents: Callable[[Wanted], tuple[str, ...]],
    bucket: int,
) -> Iterator[Done | Filled]:
    """Have every image of `request` in the store, then write its manifest.

    Args:
        draw_missing: Draws images, in order. Encoding and upload run on threads of their own meanwhile.
        parents: The real images behind one image.
        bucket: The generator's.

    Yields:
        `Done` twice a second, then `Filled`.

    Raises:
        What `draw_missing` raises, once the images that were drawn are in the store.
    """
    wanted = request.wanted()
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="upload") as pool:
        rows = dict(
            zip(wanted, pool.map(lambda one: _stored(store, request, one, parents(one), bucket), wanted), strict=True)
        )
        missing = [one for one in wanted if rows[one] is None]
        found, last = len(wanted) - len(missing), time.monotonic()
        yield Done(found, len(wanted))
        uploads: list[Future[Row]] = []
        for drawn in draw_missing(missing) if missing else ():
            uploads.append(pool.submit(_store, store, request, drawn))
            if len(uploads) > _WAITING:
                # Neither draw on while the store refuses, nor let images pile up before one that is slow.
                uploads[-_WAITING - 1].result()
            if time.monotonic() - last > _INTERVAL:
                last = time.monotonic()
                yield Done(found + sum(upload.done() for upload in uploads), len(wanted))
        rows.update(zip(missing, (upload.result() for upload in uploads), strict=True))
    write_rows(store, request.manifest, (row for row in rows.values() if row is not None))
    yield Done(len(wanted), len(wanted))
    yield Filled(len(missing))


def _stored(
    store: Store, request: BatchRequest, wanted: Wanted, parent_ids: tuple[str, ...], bucket: int
) -> Row | None:
    """The row of an image that the store has; None when it has not."""
    digest = draw_digest(request.generator, wanted, request.sampler)
    try:
        png = store.get(draw_key(digest))
    except NotFound:
        return None
    return _row(request, Drawn(wanted, decode(png), bucket, parent_ids), png=png, digest=digest)


def _store(store: Store, request: BatchRequest, drawn: Drawn) -> Row:
    """Store an image and return its row. Where another has been stored meanwhile, that one counts."""
    digest = draw_digest(request.generator, drawn.wanted, request.sampler)
    png = encode_png(drawn.pixels)
    if store.put_new(draw_key(digest), png):
        IMAGES_GENERATED.labels(drawn.wanted.class_name).inc()
        return _row(request, drawn, png=png, digest=digest)
    png = store.get(draw_key(digest))
    stored = Drawn(drawn.wanted, decode(png), drawn.bucket, drawn.parent_ids)
    return _row(request, stored, png=png, digest=digest)


def _row(request: BatchRequest, drawn: Drawn, *, png: bytes, digest: str) -> Row:
    wanted, pixels = drawn.wanted, pixel_sha256(drawn.pixels)
    receipt = receipt_json(request.generator, drawn, sampler=request.sampler, digest=digest, pixel_sha256=pixels)
    return Row(
        image_id=digest,
        uri=draw_key(digest),
        content_sha256=sha256(png),
        pixel_sha256=pixels,
        class_name=wanted.class_name,
        split="train",
        source=request.source,
        generator=request.generator,
        prompt=wanted.class_name,
        seed=wanted.seed,
        index=wanted.index,
        parent_ids=drawn.parent_ids,
        receipt=canonical_json(receipt).decode(),
    )
