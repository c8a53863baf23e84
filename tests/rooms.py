"""A generation service of the tests' own, which draws without a model."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import grpc
import numpy as np

from genaug.shared.errors import InvalidArgument
from genaug.shared.protojson import from_dict
from genaug.shared.server import Server
from genaug.shared.settings import AuthSettings, ServerSettings, Settings
from genaug.v1 import common_pb2, generator_pb2
from genaug.v1 import generation_service_pb2 as wire
from genaug.v1 import generation_service_pb2_grpc as wire_grpc
from genaug.vision.images.pixels import pixel_sha256
from genaug.vision.images.provenance_metadata import Format, encode_marked

GENERATOR = "generators/g"
TOKEN = "a-token-0123456789"


class DrawingRoom(wire_grpc.GenerationServiceServicer):
    """Draws images of `GENERATOR`, each grey by its index; that with index 2 is a duplicate; "endless" never ends."""

    service_name = "genaug.v1.GenerationService"

    def __init__(self) -> None:
        self.requests: list[wire.GenerateImagesRequest] = []
        self.left = False

    def warm_up(self) -> None: ...
    def close(self) -> None: ...

    def GenerateImages(self, request, context) -> Iterator[wire.GenerateImagesResponse]:
        self.requests.append(request)
        if request.generator != GENERATOR:
            raise InvalidArgument(f"generator: {request.generator} is none", reason="BAD_GENERATOR")
        total = sum(one.count for one in request.counts)
        format: Format = "JPEG" if request.format == request.FORMAT_JPEG else "PNG"
        try:
            yield _progress(total=total, queue_position=2)
            done = 0
            for one in request.counts:
                for index in range(one.count):
                    image = _image(one.class_name, request.seed, index, format)
                    if index == 2:
                        reason = generator_pb2.Rejection.REASON_DUPLICATE
                        rejected = wire.RejectedDraw(reason=reason, receipt=image.receipt)
                        yield wire.GenerateImagesResponse(rejected=rejected)
                    else:
                        yield wire.GenerateImagesResponse(image=image)
                    done += 1
                    yield _progress(done=done, total=total, steps=done * 20, steps_total=total * 20)
                while one.class_name == "endless" and context.is_active():
                    yield _progress(done=done, total=total)
                    time.sleep(0.01)
        finally:
            self.left = True

    def RegenerateImage(self, request, context) -> wire.RegenerateImageResponse:
        asked = request.receipt
        image = _image(asked.class_name, asked.seed, asked.index, "PNG")
        return wire.RegenerateImageResponse(image=image, same_pixels=image.receipt.pixel_sha256 == asked.pixel_sha256)


@contextmanager
def serving(room: DrawingRoom, *, token: str = "") -> Iterator[str]:
    """The address at which `room` is served."""

    def add(server: grpc.Server, settings: Settings) -> DrawingRoom:
        wire_grpc.add_GenerationServiceServicer_to_server(room, server)
        return room

    auth = AuthSettings(mode="token", token=token) if token else AuthSettings()
    server = Server(Settings(server=ServerSettings(address="127.0.0.1:0"), auth=auth), [add])
    server.start()
    try:
        yield server.address
    finally:
        server.stop(0)


def _image(class_name: str, seed: int, index: int, format: Format) -> wire.GeneratedImage:
    pixels = np.full((8, 8, 1), index, np.uint8)
    receipt = {"generator": GENERATOR, "class_name": class_name, "seed": seed, "index": index}
    receipt |= {"pixel_sha256": pixel_sha256(pixels)}
    data = encode_marked(pixels, receipt, format=format)
    return wire.GeneratedImage(data=data, receipt=from_dict(generator_pb2.Receipt, receipt))


def _progress(**far: int) -> wire.GenerateImagesResponse:
    return wire.GenerateImagesResponse(progress=common_pb2.Progress(step="drawing", unit="images", **far))
