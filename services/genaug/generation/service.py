"""GenerationService: protobuf in, a domain call, protobuf out."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import grpc

from genaug.generation.artefacts import check_classes, read_record, samples
from genaug.generation.batches import BatchRequest, Done, fill_batch
from genaug.generation.receipts import Drawn, Sampler, Wanted, draw_digest, receipt_json
from genaug.shared.errors import InvalidArgument
from genaug.shared.names import digest_id
from genaug.shared.protojson import from_dict
from genaug.shared.server import Room, page
from genaug.shared.settings import Settings
from genaug.shared.store import Store
from genaug.v1 import common_pb2, generation_service_pb2_grpc, generator_pb2
from genaug.v1 import generation_service_pb2 as wire
from genaug.vision.images import encode_png, pixel_sha256

if TYPE_CHECKING:
    from genaug.generation.models import Models

log = logging.getLogger(__name__)

MAX_IMAGES = 100_000
MAX_STEPS = 1000
MAX_GUIDANCE = 100.0
MAX_INDEX = 2**53
# Seconds between two events of progress.
_INTERVAL = 0.5

Active = Callable[[], bool]


class GenerationServicer(generation_service_pb2_grpc.GenerationServiceServicer):
    """Draws images. Stateless but for the generators it keeps loaded.

    Args:
        store: Opened as "generation".
        settings: `device` and `threads` are those of the models.
    """

    service_name = "genaug.v1.GenerationService"

    def __init__(self, store: Store, settings: Settings) -> None:
        self._store = store
        self._settings = settings
        self._models: Models | None = None
        self._lock = threading.Lock()

    def warm_up(self) -> None:
        """Prove that the store keeps its promises. The first call that draws imports torch and loads its model."""
        self._store.check()

    def close(self) -> None:
        """Let the models' thread end."""
        with self._lock:
            if self._models is not None:
                self._models.close()

    def GetGenerator(self, request: wire.GetGeneratorRequest, context: grpc.ServicerContext) -> generator_pb2.Generator:
        return from_dict(generator_pb2.Generator, self._record(request.name))

    def ListGenerators(
        self, request: wire.ListGeneratorsRequest, context: grpc.ServicerContext
    ) -> wire.ListGeneratorsResponse:
        folders = [f"generators/{child}" for child in self._store.children("generators/")]
        finished = [name for name in folders if self._store.exists(f"{name}/generator.json")]
        names, token = page(finished, page_size=request.page_size, page_token=request.page_token)
        records = [from_dict(generator_pb2.Generator, read_record(self._store, name)) for name in names]
        return wire.ListGeneratorsResponse(generators=records, next_page_token=token)

    def GenerateImages(
        self, request: wire.GenerateImagesRequest, context: grpc.ServicerContext
    ) -> Iterator[wire.GenerateImagesResponse]:
        record = self._record(request.generator)
        batch = _batch_request(request, record)
        check_classes(record, batch.counts)
        if request.output == wire.GenerateImagesRequest.OUTPUT_INLINE:
            return self._draw_inline(batch, active=context.is_active)
        return self._draw_into_store(batch, active=context.is_active)

    def RegenerateImage(
        self, request: wire.RegenerateImageRequest, context: grpc.ServicerContext
    ) -> wire.RegenerateImageResponse:
        receipt = request.receipt
        record = self._record(receipt.generator)
        check_classes(record, [receipt.class_name])
        sampler = _sampler(receipt.sampler) if samples(record) else None
        wanted = Wanted(receipt.class_name, receipt.seed, _index(receipt.index, field="receipt.index"))
        digest = draw_digest(receipt.generator, wanted, sampler)
        if receipt.draw and receipt.draw != digest:
            raise InvalidArgument(
                f"receipt.draw: {receipt.draw} does not follow from the receipt's other fields, which make {digest}; "
                "send the receipt as it was given",
                reason="BAD_RECEIPT",
            )
        models = self._opened()
        generator = models.load(receipt.generator)
        drawn = models.draw(
            generator, [wanted], sampler=sampler or Sampler(), active=context.is_active, bucket=receipt.bucket
        )
        image = _image(receipt.generator, next(drawn), sampler)
        return wire.RegenerateImageResponse(image=image, same_pixels=image.receipt.pixel_sha256 == receipt.pixel_sha256)

    def _draw_inline(self, batch: BatchRequest, *, active: Active) -> Iterator[wire.GenerateImagesResponse]:
        models, wanted = self._opened(), batch.wanted()
        generator = models.load(batch.generator)
        yield _progress(0, len(wanted))
        last = time.monotonic()
        drawn = models.draw(generator, wanted, sampler=batch.sampler or Sampler(), active=active)
        for done, one in enumerate(drawn, start=1):
            # At most 512×512 RGB: below a message's 4 MB even where nothing can be packed.
            yield wire.GenerateImagesResponse(image=_image(batch.generator, one, batch.sampler))
            if time.monotonic() - last > _INTERVAL or done == len(wanted):
                last = time.monotonic()
                yield _progress(done, len(wanted))

    def _draw_into_store(self, batch: BatchRequest, *, active: Active) -> Iterator[wire.GenerateImagesResponse]:
        if self._store.exists(batch.manifest):
            yield _finished(batch, drawn=0)
            return
        models = self._opened()
        generator = models.load(batch.generator)
        sampler = batch.sampler or Sampler()
        events = fill_batch(
            self._store,
            batch,
            draw_missing=lambda missing: models.draw(generator, missing, sampler=sampler, active=active),
            parents=generator.parents,
            bucket=generator.bucket,
        )
        for event in events:
            if isinstance(event, Done):
                yield _progress(event.done, event.total)
            else:
                log.info("batch filled", extra={"batch": batch.name, "drawn": event.drawn})
                yield _finished(batch, drawn=event.drawn)

    def _record(self, name: str) -> dict[str, Any]:
        digest_id(name, "generators")
        return read_record(self._store, name)

    def _opened(self) -> Models:
        """The models, with torch, which the first call imports: the server itself starts in a second."""
        with self._lock:
            if self._models is None:
                from genaug.generation.models import Models

                self._models = Models(self._store, device=self._settings.device, threads=self._settings.threads)
            return self._models


def register(server: grpc.Server, settings: Settings) -> Room:
    """Add GenerationService to `server`."""
    servicer = GenerationServicer(Store.open(settings.store, "generation"), settings)
    generation_service_pb2_grpc.add_GenerationServiceServicer_to_server(servicer, server)
    return servicer


def _batch_request(request: wire.GenerateImagesRequest, record: dict[str, Any]) -> BatchRequest:
    if request.output not in wire.GenerateImagesRequest.Output.values():
        raise InvalidArgument(f"output: {request.output} is not a value of Output", reason="BAD_OUTPUT")
    sampler = _sampler(request.sampler)
    return BatchRequest(
        generator=request.generator,
        counts=_counts(request),
        seed=request.seed,
        first_index=_index(request.first_index, field="first_index"),
        sampler=sampler if samples(record) else None,
        source="synthetic" if samples(record) else "transformed",
    )


def _counts(request: wire.GenerateImagesRequest) -> dict[str, int]:
    counts: dict[str, int] = {}
    for entry in request.counts:
        if entry.count < 1:
            raise InvalidArgument(
                f"counts: {entry.count} images of class {entry.class_name!r}; ask for at least 1", reason="BAD_COUNT"
            )
        if entry.class_name in counts:
            raise InvalidArgument(f"counts: class {entry.class_name!r} is there twice; add up", reason="BAD_COUNT")
        counts[entry.class_name] = entry.count
    if not 1 <= sum(counts.values()) <= MAX_IMAGES:
        raise InvalidArgument(
            f"counts: {sum(counts.values())} images in all; ask for 1 to {MAX_IMAGES}, more in several requests with "
            "other first_index",
            reason="BAD_COUNT",
        )
    return counts


def _sampler(settings: generator_pb2.SamplerSettings) -> Sampler:
    """The settings, with defaults for what is 0."""
    default = Sampler()
    steps = settings.steps or default.steps
    guidance_scale = settings.guidance_scale or default.guidance_scale
    if not 1 <= steps <= MAX_STEPS:
        raise InvalidArgument(f"sampler.steps: {steps} is not within 1 and {MAX_STEPS}", reason="BAD_SAMPLER")
    if not 1 <= guidance_scale <= MAX_GUIDANCE:
        raise InvalidArgument(
            f"sampler.guidance_scale: {guidance_scale} is not within 1 (no guidance) and {MAX_GUIDANCE:g}",
            reason="BAD_SAMPLER",
        )
    return Sampler(steps, guidance_scale)


def _index(value: int, *, field: str) -> int:
    if not 0 <= value <= MAX_INDEX:
        raise InvalidArgument(f"{field}: {value} is not within 0 and {MAX_INDEX}", reason="BAD_INDEX")
    return value


def _image(generator: str, drawn: Drawn, sampler: Sampler | None) -> wire.GeneratedImage:
    receipt = receipt_json(
        generator,
        drawn,
        sampler=sampler,
        digest=draw_digest(generator, drawn.wanted, sampler),
        pixel_sha256=pixel_sha256(drawn.pixels),
    )
    return wire.GeneratedImage(png=encode_png(drawn.pixels), receipt=from_dict(generator_pb2.Receipt, receipt))


def _progress(done: int, total: int) -> wire.GenerateImagesResponse:
    return wire.GenerateImagesResponse(
        progress=common_pb2.Progress(step="drawing", done=done, total=total, unit="images")
    )


def _finished(batch: BatchRequest, *, drawn: int) -> wire.GenerateImagesResponse:
    counts = [common_pb2.ClassCount(class_name=name, count=count) for name, count in sorted(batch.counts.items())]
    return wire.GenerateImagesResponse(
        batch=generator_pb2.Batch(name=batch.name, manifest=batch.manifest, counts=counts, drawn=drawn)
    )
