"""GenerationService: protobuf in, a domain call, protobuf out."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import grpc

from genaug.generation.artifacts import check_classes, read_record
from genaug.generation.sampling.batches import BatchProgress, BatchRequest, fill_batch, finished_batch
from genaug.generation.sampling.draw_quality import DrawFilter, summarize
from genaug.generation.sampling.receipts import (
    DrawnImage,
    DrawProgress,
    ImageRequest,
    draw_digest,
    receipt_json,
    receipt_of,
)
from genaug.generation.sampling.sampler_settings import read_sampler
from genaug.schema.generators import Generator, Receipt
from genaug.schema.requests import SamplerSettings
from genaug.schema.sampling import Sampler
from genaug.schema.wire import from_proto, to_proto
from genaug.shared.digests import sha256
from genaug.shared.errors import InvalidArgument
from genaug.shared.metrics import DRAWS_REJECTED
from genaug.shared.names import digest_id
from genaug.shared.server import Service, page
from genaug.shared.settings import Settings
from genaug.shared.store import Store
from genaug.v1 import common_pb2, generation_service_pb2_grpc, generator_pb2, sampler_pb2
from genaug.v1 import generation_service_pb2 as wire
from genaug.vision.images.provenance_metadata import Format, encode_marked

if TYPE_CHECKING:
    from genaug.generation.sampling.sampling_server import SamplingServer

log = logging.getLogger(__name__)

MAX_IMAGES = 100_000
MAX_INDEX = 2**53


class GenerationServicer(generation_service_pb2_grpc.GenerationServiceServicer):
    """Draws images. Stateless, except for the generators that it keeps loaded.

    Args:
        store: Opened as "generation".
        settings: The configuration; `device` and `threads` are used for the models.
    """

    service_name = "genaug.v1.GenerationService"

    def __init__(self, store: Store, settings: Settings) -> None:
        self._store = store
        self._settings = settings
        self._server: SamplingServer | None = None
        self._lock = threading.Lock()

    def warm_up(self) -> None:
        """Check that the store works. The first call that draws imports torch and loads its model."""
        self._store.check()

    def close(self) -> None:
        """Stop the sampling server's thread."""
        with self._lock:
            if self._server is not None:
                self._server.close()

    def GetGenerator(self, request: wire.GetGeneratorRequest, context: grpc.ServicerContext) -> generator_pb2.Generator:
        return to_proto(generator_pb2.Generator, self._record(request.name))

    def ListGenerators(
        self, request: wire.ListGeneratorsRequest, context: grpc.ServicerContext
    ) -> wire.ListGeneratorsResponse:
        folders = [f"generators/{child}" for child in self._store.children("generators/")]
        finished = [name for name in folders if self._store.exists(f"{name}/generator.json")]
        names, token = page(finished, page_size=request.page_size, page_token=request.page_token)
        records = [to_proto(generator_pb2.Generator, read_record(self._store, name)) for name in names]
        return wire.ListGeneratorsResponse(generators=records, next_page_token=token)

    def GenerateImages(
        self, request: wire.GenerateImagesRequest, context: grpc.ServicerContext
    ) -> Iterator[wire.GenerateImagesResponse]:
        # Checked before the stream is returned, so that a bad request is refused before any event.
        record = self._record(request.generator)
        batch = _batch_request(request, record)
        check_classes(record, batch.counts)
        if request.output == wire.GenerateImagesRequest.OUTPUT_INLINE:
            return self._draw_inline(batch, record, _format(request), context)
        return self._draw_into_store(batch, record, context)

    def RegenerateImage(
        self, request: wire.RegenerateImageRequest, context: grpc.ServicerContext
    ) -> wire.RegenerateImageResponse:
        receipt = request.receipt
        record = self._record(receipt.generator)
        check_classes(record, [receipt.class_name])
        sampler = _sampler(receipt.sampler, record)
        image_request = ImageRequest(receipt.class_name, receipt.seed, _index(receipt.index, field="receipt.index"))
        digest = draw_digest(receipt.generator, image_request, sampler)
        if receipt.draw and receipt.draw != digest:
            raise InvalidArgument(
                f"receipt.draw: {receipt.draw} does not follow from the receipt's other fields, which make {digest}; "
                "send the receipt as it was given",
                reason="BAD_RECEIPT",
            )
        server = self._sampling_server()
        events = server.draw(
            server.load(receipt.generator),
            [image_request],
            sampler=sampler or Sampler(),
            client=_client(context),
            is_active=context.is_active,
            bucket=receipt.bucket if sampler else 0,
        )
        drawn = next(event for event in events if isinstance(event, DrawnImage))
        new_receipt = receipt_of(record, drawn, sampler=sampler, device=server.device)
        same_pixels = new_receipt.pixel_sha256 == receipt.pixel_sha256
        return wire.RegenerateImageResponse(image=_image(drawn, new_receipt, "PNG"), same_pixels=same_pixels)

    def _draw_inline(
        self, batch: BatchRequest, record: Generator, format: Format, context: grpc.ServicerContext
    ) -> Iterator[wire.GenerateImagesResponse]:
        requests, draw_filter = batch.images(), DrawFilter()
        server = self._sampling_server()
        generator = server.load(batch.generator)
        drawing, done = DrawProgress(), 0
        yield _progress(0, len(requests), drawing)
        sampler, client = batch.sampler or Sampler(), _client(context)
        for event in server.draw(generator, requests, sampler=sampler, client=client, is_active=context.is_active):
            if isinstance(event, DrawProgress):
                drawing = event
            else:
                done += 1
                # Transforms of real images are not filtered.
                reason = draw_filter.reject(summarize(event)) if batch.sampler else None
                receipt = receipt_of(record, event, sampler=batch.sampler, device=server.device)
                if reason:
                    DRAWS_REJECTED.labels(reason.name.lower()).inc()
                    message = to_proto(generator_pb2.Receipt, receipt)
                    yield wire.GenerateImagesResponse(rejected=wire.RejectedDraw(reason=reason.value, receipt=message))
                else:
                    yield wire.GenerateImagesResponse(image=_image(event, receipt, format))
            yield _progress(done, len(requests), drawing)

    def _draw_into_store(
        self, batch: BatchRequest, record: Generator, context: grpc.ServicerContext
    ) -> Iterator[wire.GenerateImagesResponse]:
        finished = finished_batch(self._store, batch)
        if finished is not None:
            yield wire.GenerateImagesResponse(batch=to_proto(generator_pb2.Batch, finished))
            return
        server = self._sampling_server()
        generator = server.load(batch.generator)

        def draw_missing(missing: Sequence[ImageRequest]) -> Iterator[DrawnImage | DrawProgress]:
            sampler, client = batch.sampler or Sampler(), _client(context)
            return server.draw(generator, missing, sampler=sampler, client=client, is_active=context.is_active)

        for event in fill_batch(self._store, batch, record, device=server.device, draw_missing=draw_missing):
            if isinstance(event, BatchProgress):
                yield _progress(event.done, event.total, event.drawing)
            else:
                log.info("batch filled", extra={"batch": event.name, "drawn": event.drawn})
                yield wire.GenerateImagesResponse(batch=to_proto(generator_pb2.Batch, event))

    def _record(self, name: str) -> Generator:
        digest_id(name, "generators")
        return read_record(self._store, name)

    def _sampling_server(self) -> SamplingServer:
        """The sampling server, started on first use: it imports torch, and the process should start in a second."""
        with self._lock:
            if self._server is None:
                from genaug.generation.sampling.sampling_server import SamplingServer

                settings = self._settings
                self._server = SamplingServer(
                    self._store, settings.generation, device=settings.device, threads=settings.threads
                )
            return self._server


def register(server: grpc.Server, settings: Settings) -> Service:
    """Add GenerationService to `server`."""
    servicer = GenerationServicer(Store.open(settings.store, "generation"), settings)
    generation_service_pb2_grpc.add_GenerationServiceServicer_to_server(servicer, server)
    return servicer


def _batch_request(request: wire.GenerateImagesRequest, record: Generator) -> BatchRequest:
    if request.output not in wire.GenerateImagesRequest.Output.values():
        raise InvalidArgument(f"output: {request.output} is not a value of Output", reason="BAD_OUTPUT")
    return BatchRequest(
        generator=request.generator,
        counts=_counts(request),
        seed=request.seed,
        first_index=_index(request.first_index, field="first_index"),
        sampler=_sampler(request.sampler, record),
    )


def _sampler(settings: sampler_pb2.SamplerSettings, record: Generator) -> Sampler | None:
    return read_sampler(from_proto(SamplerSettings, settings, path="sampler", reason="BAD_SAMPLER"), record)


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


def _index(value: int, *, field: str) -> int:
    if not 0 <= value <= MAX_INDEX:
        raise InvalidArgument(f"{field}: {value} is not within 0 and {MAX_INDEX}", reason="BAD_INDEX")
    return value


def _format(request: wire.GenerateImagesRequest) -> Format:
    if request.format not in wire.GenerateImagesRequest.Format.values():
        raise InvalidArgument(f"format: {request.format} is not a value of Format", reason="BAD_FORMAT")
    return "JPEG" if request.format == wire.GenerateImagesRequest.FORMAT_JPEG else "PNG"


def _client(context: grpc.ServicerContext) -> str:
    """Key of the client: the same token over the same connection."""
    token = dict(context.invocation_metadata() or ()).get("authorization", "")
    return f"{sha256(str(token).encode())[:16]} {context.peer()}"


def _image(drawn: DrawnImage, receipt: Receipt, format: Format) -> wire.GeneratedImage:
    # At most 1024×1024 RGB: below a message's 4 MB unless nothing can be compressed.
    data = encode_marked(drawn.pixels, receipt_json(receipt), format=format)
    return wire.GeneratedImage(data=data, receipt=to_proto(generator_pb2.Receipt, receipt))


def _progress(done: int, total: int, drawing: DrawProgress) -> wire.GenerateImagesResponse:
    return wire.GenerateImagesResponse(
        progress=common_pb2.Progress(
            step="drawing",
            done=done,
            total=total,
            unit="images",
            steps=drawing.steps,
            steps_total=drawing.steps_total,
            queue_position=drawing.queue_position,
        )
    )
