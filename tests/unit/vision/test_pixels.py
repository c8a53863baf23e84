"""Decoding: all formats, depths and orientations, by bands as well as whole."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps, TiffImagePlugin

from genaug.schema.datasets import Window
from genaug.shared.errors import InvalidArgument
from genaug.vision.images import decode, pixels
from genaug.vision.images.pixels import opened, with_pixels

GREY = np.random.default_rng(1).integers(0, 256, (40, 30), dtype=np.uint8)
TWELVE = Window(low=0, high=4095)


def encoded(image: Image.Image | NDArray[Any], format: str, **options: Any) -> bytes:
    sink = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(sink, format, **options)
    return sink.getvalue()


def values_of(data: bytes) -> NDArray[Any]:
    with opened(data) as image:
        assert image.is_deep
        return np.concatenate(list(image.values()))


def tiff(values: NDArray[Any], *, photometric: int = 1, sample_format: int = 1) -> bytes:
    """An uncompressed grey TIFF of one strip, written by hand: Pillow does not write all kinds."""
    height, width = values.shape
    bits, data = 8 * values.itemsize, values.tobytes()
    tags = [
        *((256, width), (257, height), (258, bits), (259, 1), (262, photometric), (273, 8), (277, 1), (278, height)),
        *((279, len(data)), (339, sample_format)),
    ]
    directory = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return b"II*\0" + struct.pack("<I", 8 + len(data)) + data + directory + bytes(4)


@pytest.fixture(params=[1 << 20, 300], ids=["whole", "bands"])
def band(request, monkeypatch) -> None:
    monkeypatch.setattr(pixels, "_BAND", request.param)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientations_are_applied(band, orientation: int) -> None:
    image = Image.fromarray(np.random.default_rng(2).integers(0, 256, (40, 30, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112] = orientation
    for format in ("PNG", "TIFF", "WEBP"):
        data = encoded(image, format, exif=exif, **({"lossless": True} if format == "WEBP" else {}))
        expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
        assert np.array_equal(decode(data), expected)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK"])
def test_modes_become_grey_or_colour(band, mode: str) -> None:
    image = Image.fromarray(np.random.default_rng(3).integers(0, 256, (40, 30, 4), dtype=np.uint8))
    image = image.convert("RGB").convert("P") if mode == "P" else image.convert(mode)
    data = encoded(image, "TIFF" if mode == "CMYK" else "PNG")
    black = Image.new("RGBA", image.size, (0, 0, 0, 255))
    expected = (
        image.convert("L")
        if mode in ("1", "L")
        else Image.alpha_composite(black, image.convert("RGBA")).convert("RGB")
        if mode in ("LA", "RGBA")
        else image.convert("RGB")
    )
    assert np.array_equal(decode(data).squeeze(), np.asarray(expected))


@pytest.mark.parametrize(
    "format", ["JPEG", "PNG", "BMP", "DIB", "TIFF", "WEBP", "GIF", "PPM", "JPEG2000", "PCX", "SGI", "TGA"]
)
def test_every_format_is_read(format: str) -> None:
    decoded = decode(encoded(GREY, format, **({"quality": 100} if format == "JPEG" else {})))
    assert decoded.shape[:2] == (40, 30)
    assert np.abs(decoded[:, :, 0].astype(int) - GREY).mean() < (20 if format == "WEBP" else 2)


@pytest.mark.parametrize("format", ["EPS", "PDF", "ICO"])
def test_other_formats_are_no_images(format: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        decode(encoded(np.repeat(GREY[:, :, None], 3, 2), format))
    assert caught.value.reason == "UNREADABLE"


@pytest.mark.parametrize(
    "data",
    [
        encoded(GREY.astype(np.uint16) * 16, "PNG"),
        encoded(GREY.astype(np.uint16) * 16, "TIFF", compression="tiff_deflate"),
        encoded((GREY.astype(np.uint16) * 16).astype(">u2"), "TIFF"),
        encoded(GREY.astype(np.int32) * 16, "TIFF"),
        encoded(GREY.astype(np.float32) * 16, "TIFF"),
        tiff(GREY.astype(np.int16) * 16, sample_format=2),
        tiff(GREY.astype(np.uint32) * 16),
        b"P5 30 40 4095\n" + (GREY.astype(np.uint16) * 16).astype(">u2").tobytes(),
        b"P2 30 40 4095\n" + " ".join(map(str, (GREY.astype(int) * 16).ravel())).encode(),
    ],
    ids=["png", "deflate", "big-endian", "int32", "float", "int16", "uint32", "pgm", "plain-pgm"],
)
def test_values_are_those_of_the_file(band, data: bytes) -> None:
    assert np.array_equal(values_of(data), GREY.astype(np.int64) * 16)
    rendered = decode(data, window=TWELVE)
    assert rendered.shape == (40, 30, 1)
    assert np.abs(rendered[:, :, 0].astype(int) - GREY).max() <= 1


def test_large_and_negative_values_of_tiffs_are_those_of_the_file() -> None:
    large = np.full((8, 8), 3_000_000_000, np.uint32)
    assert (values_of(tiff(large)) == 3_000_000_000).all()
    negative = np.full((8, 8), -100, np.int8)
    assert (values_of(tiff(negative, sample_format=2)) == -100).all()


def test_sixteen_bit_jpeg_2000_keeps_its_values() -> None:
    data = encoded(GREY.astype(np.uint16) * 16, "JPEG2000", irreversible=False)
    assert np.array_equal(values_of(data), GREY.astype(int) * 16)
    # The same file with 12 bits as its precision, in the codestream's and in the container's header.
    place = data.index(b"\xff\x4f\xff\x51") + 42
    assert data[place] == 15
    with opened(data[:place] + b"\x0b" + data[place + 1 :]) as image:
        assert image._scale(np.array([[4095 << 4]], np.uint16)) == 4095


def test_white_is_zero_turns_deep_images_over() -> None:
    deep = decode(tiff(4095 - GREY.astype(np.uint16) * 16, photometric=0), window=TWELVE)
    assert np.abs(deep[:, :, 0].astype(int) - GREY).max() <= 1
    assert np.array_equal(decode(tiff(255 - GREY, photometric=0))[:, :, 0], GREY)


def test_a_deep_image_without_a_window_is_refused() -> None:
    for values in (GREY.astype(np.uint16), GREY.astype(np.float32)):
        with pytest.raises(InvalidArgument, match="more than 8 bits") as caught:
            decode(encoded(values, "TIFF"))
        assert caught.value.reason == "UNREADABLE"


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_no_numbers_are_refused(value: float) -> None:
    values = GREY.astype(np.float32)
    values[3, 4] = value
    with pytest.raises(InvalidArgument, match="NaN or infinite") as caught:
        decode(encoded(values, "TIFF"), window=TWELVE)
    assert caught.value.reason == "UNREADABLE"


def test_sixteen_bit_colour_is_read_by_its_high_bytes() -> None:
    rows = b"".join(b"\0" + bytes([10, 99, 20, 99, 30, 99]) * 5 for _ in range(5))
    import zlib

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", 5, 5, 16, 2, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    with opened(data) as image:
        assert (image.is_deep, image.has_high_bytes) == (False, True)
        assert (image.pixels() == [10, 20, 30]).all()
    with opened(encoded(np.repeat(GREY[:, :, None], 3, 2), "PNG")) as image:
        assert not image.has_high_bytes


@pytest.mark.parametrize("format", ["GIF", "PNG", "WEBP", "TIFF"])
def test_several_frames_are_refused(format: str) -> None:
    frames = [Image.new("RGB", (20, 20), color) for color in ("red", "blue")]
    with pytest.raises(InvalidArgument) as caught:
        decode(encoded(frames[0], format, save_all=True, append_images=frames[1:]))
    assert caught.value.reason == "SEVERAL_FRAMES"


def test_the_preview_of_a_file_is_no_frame() -> None:
    photograph, preview = Image.fromarray(GREY).convert("RGB"), Image.new("RGB", (16, 16), "red")
    mpo = encoded(photograph, "MPO", save_all=True, append_images=[preview])
    with Image.open(io.BytesIO(mpo)) as image:
        assert image.format == "MPO"
    assert decode(mpo).shape == (40, 30, 3)
    pages = io.BytesIO()
    with TiffImagePlugin.AppendingTiffWriter(pages) as writer:
        photograph.save(writer, "TIFF")
        writer.newFrame()
        preview.save(writer, "TIFF", tiffinfo={254: 1})
        writer.newFrame()
    with Image.open(pages) as image:
        assert image.n_frames == 2
    assert np.array_equal(decode(pages.getvalue()), np.asarray(photograph))


def test_an_error_of_the_use_is_not_the_images() -> None:
    def use(image: object) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        with_pixels(encoded(GREY, "PNG"), use)
