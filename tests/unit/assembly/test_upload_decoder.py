"""What arrives may be anything: nothing crashes, and each refusal says why."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from genaug.assembly.import_plan import SourceRow
from genaug.assembly.upload_decoder import (
    DecodedImage,
    DecodeResult,
    UnusableImage,
    UploadDecoder,
    content_key,
    missing_contents,
    read_content,
)
from genaug.shared.digests import sha256
from genaug.shared.errors import FailedPrecondition, InvalidArgument
from genaug.shared.store import Store


def decode(store: Store, data: bytes) -> DecodeResult:
    with UploadDecoder(store) as decoder:
        decoder.submit(SourceRow(sha256(data), "name", "a"), data)
        list(decoder.finish())
        list(decoder.render(bits=0, window=()))
        return decoder.results[sha256(data)]


def png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    body = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", body) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )


def test_every_truncation_of_a_jpeg_is_decided(stores, photograph, encode) -> None:
    whole = encode(photograph(0), "JPEG")
    for length in range(1, len(whole) - 2, 7):
        result = decode(stores("assembly"), whole[:length])
        assert isinstance(result, UnusableImage)
        assert result.reason == "UNREADABLE"
    assert isinstance(decode(stores("assembly"), whole), DecodedImage)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"this is text in a file that is called photo.jpg", "UNREADABLE"),
        (b"\xff\xd8\xff", "UNREADABLE"),
        (png_header(60_000, 60_000), "TOO_LARGE"),
        (png_header(3, 500), "TOO_SMALL"),
        (png_header(0, 0), "UNREADABLE"),
        (b"\x89PNG\r\n\x1a\n", "UNREADABLE"),
    ],
    ids=["text", "jpeg-marker", "bomb", "thin", "nothing", "png-marker"],
)
def test_what_is_no_image_is_refused(stores, data: bytes, reason: str) -> None:
    result = decode(stores("assembly"), data)
    assert isinstance(result, UnusableImage)
    assert result.reason == reason
    assert result.detail


def test_an_animated_gif_is_refused(stores) -> None:
    sink = io.BytesIO()
    pictures = [Image.new("RGB", (20, 20), color) for color in ("red", "blue")]
    pictures[0].save(sink, "GIF", save_all=True, append_images=pictures[1:])
    result = decode(stores("assembly"), sink.getvalue())
    assert isinstance(result, UnusableImage)
    assert result.reason == "SEVERAL_FRAMES"


def test_a_constant_image_is_refused(stores, encode) -> None:
    result = decode(stores("assembly"), encode(np.full((20, 30, 3), 9, np.uint8)))
    assert result == UnusableImage("CONSTANT", "all 30×20 pixels have one colour")


def test_print_colours_and_sixteen_bits_are_read(stores, photograph, encode) -> None:
    sink = io.BytesIO()
    Image.fromarray(photograph(0)).convert("CMYK").save(sink, "JPEG")
    color = decode(stores("assembly"), sink.getvalue())
    grey = decode(stores("assembly"), encode(photograph(1)[:, :, 0].astype(np.uint16) * 200))
    assert isinstance(color, DecodedImage)
    assert isinstance(grey, DecodedImage)
    assert (color.grey, grey.grey) == (False, True)
    assert grey.side == 40


def test_grey_in_three_channels_is_grey(stores, photograph, encode) -> None:
    grey = np.repeat(photograph(2)[:, :, :1], 3, axis=2)
    spotted = grey.copy()
    spotted[3, 5, 1] ^= 64
    results = [decode(stores("assembly"), encode(pixels)) for pixels in (grey, spotted)]
    assert [result.grey for result in results if isinstance(result, DecodedImage)] == [True, False]


def test_another_digest_is_refused_and_nothing_is_staged(stores, photograph, encode) -> None:
    store: Store = stores("assembly")
    with UploadDecoder(store) as decoder:
        decoder.submit(SourceRow("0" * 64, "name", "a"), encode(photograph(0)))
        with pytest.raises(InvalidArgument, match="another sha256") as caught:
            list(decoder.finish())
    assert caught.value.reason == "BAD_DIGEST"
    assert list(store.list("uploads/")) == []


def test_a_content_that_is_nowhere_is_asked_for(stores) -> None:
    with UploadDecoder(stores("assembly")) as decoder:
        decoder.submit(SourceRow("1" * 64, "name", "a"), b"")
        with pytest.raises(FailedPrecondition) as caught:
            list(decoder.finish())
    assert caught.value.reason == "CONTENT_MISSING"


def test_contents_are_found_wherever_they_lie(stores) -> None:
    store: Store = stores("assembly")
    contents = {home: sha256(home.encode()) for home in ("uploads", "images", "sealed/images")}
    for home, digest in contents.items():
        store.put_new(content_key(home, digest), home.encode())
    assert missing_contents(store, [*contents.values(), "2" * 64]) == ["2" * 64]
    assert [read_content(store, digest).decode() for digest in contents.values()] == list(contents)


def test_an_empty_file_is_no_image_and_no_missing_content(stores) -> None:
    """On the wire an empty content means that the server holds it."""
    assert read_content(stores("assembly"), sha256(b"")) == b""
