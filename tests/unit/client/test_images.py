"""Images as the client asks for them and gets them."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest
from tests.rooms import GENERATOR, DrawingRoom, serving
from tests.servers import wait_until

from genaug.client import Client, DrawnImage
from genaug.shared.errors import FailedPrecondition, InvalidArgument
from genaug.shared.protojson import to_dict
from genaug.shared.settings import Settings
from genaug.v1 import common_pb2, generator_pb2, sampler_pb2
from genaug.v1 import generation_service_pb2 as wire


@pytest.fixture
def room() -> DrawingRoom:
    return DrawingRoom()


@pytest.fixture
def client(room: DrawingRoom) -> Iterator[Client]:
    with serving(room) as address, Client(address, settings=Settings()) as found:
        yield found


def test_images_come_with_receipt_format_and_pixels(client: Client) -> None:
    images = list(client.generate(GENERATOR, "lies", count=2, seed=7))
    assert [(one.receipt.class_name, one.receipt.seed, one.receipt.index) for one in images] == [
        ("lies", 7, 0),
        ("lies", 7, 1),
    ]
    assert {one.format for one in images} == {"PNG"}
    assert images[1].image.size == (8, 8)
    assert images[1].image.getpixel((0, 0)) == 1
    assert images[1].image is images[1].image
    (jpeg,) = client.generate(GENERATOR, "lies", format="JPEG")
    assert jpeg.data.startswith(b"\xff\xd8")
    assert jpeg.image.format == jpeg.format == "JPEG"


def test_every_setting_reaches_the_wire_and_what_is_left_out_is_unset(client: Client, room: DrawingRoom) -> None:
    list(client.generate(GENERATOR, "lies"))
    list(
        client.generate(
            GENERATOR,
            {"lies": 2, "stands": 1},
            seed=3,
            first_index=10,
            steps=5,
            guidance_scale=2.5,
            scheduler="DDIMScheduler",
            negative_prompt="blurred",
            image_size=512,
            strength=0.5,
            profile="TURBO",
            precision="BFLOAT16",
            format="JPEG",
        )
    )
    plain, full = room.requests
    assert not plain.HasField("sampler")
    assert plain.counts == [common_pb2.ClassCount(class_name="lies", count=1)]
    assert {one.class_name: one.count for one in full.counts} == {"lies": 2, "stands": 1}
    assert (full.seed, full.first_index, full.format) == (3, 10, wire.GenerateImagesRequest.FORMAT_JPEG)
    assert full.sampler == sampler_pb2.SamplerSettings(
        steps=5,
        guidance_scale=2.5,
        scheduler="DDIMScheduler",
        negative_prompt="blurred",
        image_size=512,
        strength=0.5,
        profile=sampler_pb2.SamplerSettings.PROFILE_TURBO,
        precision=common_pb2.PRECISION_BFLOAT16,
    )


def test_hooks_hear_of_progress_and_of_draws_that_are_no_images(client: Client) -> None:
    told: list[common_pb2.Progress] = []
    rejected: list[wire.RejectedDraw] = []
    images = client.generate(GENERATOR, "lies", count=4, on_progress=told.append, on_rejected=rejected.append)
    assert [one.receipt.index for one in images] == [0, 1, 3]
    assert told[0].queue_position == 2
    assert (told[-1].done, told[-1].steps, told[-1].steps_total) == (4, 80, 80)
    assert [(one.reason, one.receipt.index) for one in rejected] == [(generator_pb2.Rejection.REASON_DUPLICATE, 2)]


@pytest.mark.parametrize("how", ["break", "error", "close"])
def test_leaving_the_loop_stops_the_drawing(client: Client, room: DrawingRoom, how: str) -> None:
    if how == "error":
        with pytest.raises(RuntimeError):
            _fail(client)
    elif how == "break":
        for _ in client.generate(GENERATOR, "endless"):
            break
    else:
        images = client.generate(GENERATOR, "endless")
        next(images)
        images.close()
    wait_until(lambda: room.left, what="the end of the drawing")


def _fail(client: Client) -> None:
    for _ in client.generate(GENERATOR, "endless"):
        raise RuntimeError


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"profile": "turbo"}, "BAD_PROFILE"),
        ({"precision": "INT8"}, "BAD_PRECISION"),
        ({"format": "GIF"}, "BAD_FORMAT"),
        ({"steps": 2**40}, "BAD_NUMBER"),
        ({"seed": 2**70}, "BAD_NUMBER"),
        ({"class_name": {"lies": 1}, "count": 2}, "BAD_COUNT"),
    ],
)
def test_what_fits_no_request_is_refused_before_it_is_sent(
    client: Client, room: DrawingRoom, wrong: dict, reason: str
) -> None:
    with pytest.raises(InvalidArgument) as caught:
        client.generate(GENERATOR, **({"class_name": "lies"} | wrong))
    assert caught.value.reason == reason
    assert not room.requests


def test_the_servers_errors_are_ours(client: Client) -> None:
    with pytest.raises(InvalidArgument) as caught:
        next(client.generate("generators/other", "lies"))
    assert caught.value.reason == "BAD_GENERATOR"


def test_an_image_is_drawn_again_from_its_receipt_as_message_or_json(client: Client) -> None:
    (image,) = client.generate(GENERATOR, "lies")
    assert client.regenerate(image.receipt).same_pixels
    assert client.regenerate(to_dict(image.receipt)).image.data == image.data
    assert not client.regenerate(to_dict(image.receipt) | {"index": 5}).same_pixels
    with pytest.raises(InvalidArgument) as caught:
        client.regenerate({"colour": "red"})
    assert caught.value.reason == "BAD_RECEIPT"


def test_without_pillow_there_is_the_file_and_word_of_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    image = DrawnImage(b"file", generator_pb2.Receipt())
    with pytest.raises(FailedPrecondition, match=r"pip install genaug\[images\]") as caught:
        _ = image.image
    assert caught.value.reason == "NO_PILLOW"
    assert image.data == b"file"
