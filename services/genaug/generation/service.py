"""GenerationService: protobuf in, a domain call, protobuf out."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import grpc

from genaug.generation.artifacts import check_classes, read_record, samples
from genaug.generation.sampling.batches import BatchRequest, Done, fill_batch, finished_batch
from genaug.generation.sampling.draw_quality import Inspector
from genaug.generation.sampling.receipts import Drawn, Sampler, Source, Steps, Wanted, draw_digest, receipt_json
from genaug.generation.sampling.sampler_settings import read_sampler
from genaug.shared.digests import sha256
from genaug.shared.errors import InvalidArgument
from genaug.shared.metrics import DRAWS_REJECTED
from genaug.shared.names import digest_id
from genaug.shared.protojson import from_dict, to_dict
from genaug.shared.server import Room, page
from genaug.shared.settings import Settings
from genaug.shared.store import Store
from genaug.v1 import common_pb2, generation_service_pb2_grpc, generator_pb2
from genaug.v1 import generation_service_pb2 as wire
from genaug.vision.images.pixels import pixel_sha256
from genaug.vision.images.provenance_metadata import Format, encode_marked

if TYPE_CHECKING:
    from genaug.generation.sampling.sampling_server import DrawingServer

log = logging.getLogger(__name__)

MAX_IMAGES = 100_000
MAX_INDEX = 2**53


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
        self._drawing: DrawingServer | None = None
        self._lock = threading.Lock()

    def warm_up(self) -> None:
        """Prove that the store keeps its promises. The first call that draws imports torch and loads its model."""
        self._store.check()

    def close(self) -> None:
        """Let the models' thread end."""
        with self._lock:
            if self._drawing is not None:
                self._drawing.close()

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
        asked = _Request(_batch_request(request, record), _source(record))
        check_classes(record, asked.batch.counts)
        if request.output == wire.GenerateImagesRequest.OUTPUT_INLINE:
            return self._draw_inline(asked, _format(request), context)
        return self._draw_into_store(asked, context)

    def RegenerateImage(
        self, request: wire.RegenerateImageRequest, context: grpc.ServicerContext
    ) -> wire.RegenerateImageResponse:
        receipt = request.receipt
        record = self._record(receipt.generator)
        check_classes(record, [receipt.class_name])
        sampler = read_sampler(to_dict(receipt.sampler), record)
        wanted = Wanted(receipt.class_name, receipt.seed, _index(receipt.index, field="receipt.index"))
        digest = draw_digest(receipt.generator, wanted, sampler)
        if receipt.draw and receipt.draw != digest:
            raise InvalidArgument(
                f"receipt.draw: {receipt.draw} does not follow from the receipt's other fields, which make {digest}; "
                "send the receipt as it was given",
                reason="BAD_RECEIPT",
            )
        server = self._opened()
        generator = server.load(receipt.generator)
        events = server.draw(
            generator,
            [wanted],
            sampler=sampler or Sampler(),
            client=_client(context),
            active=context.is_active,
            bucket=receipt.bucket if sampler else 0,
        )
        drawn = next(event for event in events if isinstance(event, Drawn))
        source = replace(_source(record), device=server.device)
        image = _image(drawn, _receipt(source, drawn, sampler), "PNG")
        return wire.RegenerateImageResponse(image=image, same_pixels=image.receipt.pixel_sha256 == receipt.pixel_sha256)

    def _draw_inline(
        self, request: _Request, format: Format, context: grpc.ServicerContext
    ) -> Iterator[wire.GenerateImagesResponse]:
        batch, inspector = request.batch, Inspector()
        wanted = batch.wanted()
        server = self._opened()
        source = replace(request.source, device=server.device)
        generator = server.load(batch.generator)
        steps, done = Steps(0, 0, 0), 0
        yield _progress(0, len(wanted), steps)
        for event in server.draw(
            generator, wanted, sampler=batch.sampler or Sampler(), client=_client(context), active=context.is_active
        ):
            if isinstance(event, Steps):
                steps = event
            else:
                done += 1
                fault = inspector.fault(event) if batch.sampler else None
                receipt = _receipt(source, event, batch.sampler)
                if fault:
                    DRAWS_REJECTED.labels(fault.removeprefix("REASON_").lower()).inc()
                    rejected = wire.RejectedDraw(reason=fault, receipt=from_dict(generator_pb2.Receipt, receipt))
                    yield wire.GenerateImagesResponse(rejected=rejected)
                else:
                    yield wire.GenerateImagesResponse(image=_image(event, receipt, format))
            yield _progress(done, len(wanted), steps)

    def _draw_into_store(
        self, request: _Request, context: grpc.ServicerContext
    ) -> Iterator[wire.GenerateImagesResponse]:
        batch = request.batch
        found = finished_batch(self._store, batch)
        if found is not None:
            yield wire.GenerateImagesResponse(batch=from_dict(generator_pb2.Batch, found))
            return
        server = self._opened()
        generator = server.load(batch.generator)

        def draw_missing(missing: Sequence[Wanted]) -> Iterator[Drawn | Steps]:
            sampler, client = batch.sampler or Sampler(), _client(context)
            return server.draw(generator, missing, sampler=sampler, client=client, active=context.is_active)

        source = replace(request.source, device=server.device)
        for event in fill_batch(self._store, batch, source, draw_missing=draw_missing):
            if isinstance(event, Done):
                yield _progress(event.done, event.total, event.steps)
            else:
                log.info("batch filled", extra={"batch": batch.name, "drawn": event.record["drawn"]})
                yield wire.GenerateImagesResponse(batch=from_dict(generator_pb2.Batch, event.record))

    def _record(self, name: str) -> dict[str, Any]:
        digest_id(name, "generators")
        return read_record(self._store, name)

    def _opened(self) -> DrawingServer:
        """What draws, with torch, which the first call imports: the server itself starts in a second."""
        with self._lock:
            if self._drawing is None:
                from genaug.generation.sampling.sampling_server import DrawingServer

                settings = self._settings
                self._drawing = DrawingServer(
                    self._store, settings.generation, device=settings.device, threads=settings.threads
                )
            return self._drawing


@dataclass(frozen=True)
class _Request:
    batch: BatchRequest
    source: Source


def register(server: grpc.Server, settings: Settings) -> Room:
    """Add GenerationService to `server`."""
    servicer = GenerationServicer(Store.open(settings.store, "generation"), settings)
    generation_service_pb2_grpc.add_GenerationServiceServicer_to_server(servicer, server)
    return servicer


def _batch_request(request: wire.GenerateImagesRequest, record: dict[str, Any]) -> BatchRequest:
    if request.output not in wire.GenerateImagesRequest.Output.values():
        raise InvalidArgument(f"output: {request.output} is not a value of Output", reason="BAD_OUTPUT")
    return BatchRequest(
        generator=request.generator,
        counts=_counts(request),
        seed=request.seed,
        first_index=_index(request.first_index, field="first_index"),
        sampler=read_sampler(to_dict(request.sampler), record),
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


def _index(value: int, *, field: str) -> int:
    if not 0 <= value <= MAX_INDEX:
        raise InvalidArgument(f"{field}: {value} is not within 0 and {MAX_INDEX}", reason="BAD_INDEX")
    return value


def _format(request: wire.GenerateImagesRequest) -> Format:
    if request.format not in wire.GenerateImagesRequest.Format.values():
        raise InvalidArgument(f"format: {request.format} is not a value of Format", reason="BAD_FORMAT")
    return "JPEG" if request.format == wire.GenerateImagesRequest.FORMAT_JPEG else "PNG"


def _source(record: Mapping[str, Any]) -> Source:
    return Source(
        record["name"],
        base=record.get("base", ""),
        weights_sha256=record.get("weights_sha256", ""),
        captions=dict(record.get("captions", {})),
    )


def _client(context: grpc.ServicerContext) -> str:
    """Whose request it is: who shows the same token over the same connection."""
    token = dict(context.invocation_metadata() or ()).get("authorization", "")
    return f"{sha256(str(token).encode())[:16]} {context.peer()}"


def _receipt(source: Source, drawn: Drawn, sampler: Sampler | None) -> dict[str, Any]:
    return receipt_json(source, drawn, sampler=sampler, pixel_sha256=pixel_sha256(drawn.pixels))


def _image(drawn: Drawn, receipt: dict[str, Any], format: Format) -> wire.GeneratedImage:
    # At most 1024×1024 RGB: below a message's 4 MB unless nothing can be packed.
    data = encode_marked(drawn.pixels, receipt, format=format)
    return wire.GeneratedImage(data=data, receipt=from_dict(generator_pb2.Receipt, receipt))


def _progress(done: int, total: int, steps: Steps) -> wire.GenerateImagesResponse:
    return wire.GenerateImagesResponse(
        progress=common_pb2.Progress(
            step="drawing",
            done=done,
            total=total,
            unit="images",
            steps=steps.done,
            steps_total=steps.total,
            queue_position=steps.position,
        )
    )
