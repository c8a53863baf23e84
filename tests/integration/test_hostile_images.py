"""A hundred files that mean no good, or know no better, imported into a real server."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image
from tests.servers import Home

REASONS = {"UNREADABLE", "CONSTANT", "TOO_LARGE", "TOO_SMALL", "SEVERAL_FRAMES", "DUPLICATE"}


def photograph(seed: int, side: int = 48) -> Image.Image:
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)


def encoded(image: Image.Image, format: str, **options: object) -> bytes:
    sink = io.BytesIO()
    image.save(sink, format, **options)
    return sink.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_header(width: int, height: int, pixels: bytes = b"") -> bytes:
    """A PNG that says it is as large as it likes."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def hostile() -> Iterator[tuple[str, bytes]]:
    """Exactly a hundred, by file name."""
    for index, (format, ending) in enumerate(
        (("JPEG", "jpg"), ("PNG", "png"), ("WEBP", "webp"), ("BMP", "bmp"), ("TIFF", "tif"))
    ):
        whole = encoded(photograph(index), format)
        lengths = np.linspace(0, len(whole) - 1, 12).astype(int)
        yield from ((f"cut-{ending}-{length}.{ending}", whole[:length]) for length in lengths)
    rng = np.random.default_rng(0)
    for index in range(16):
        whole = bytearray(encoded(photograph(10 + index), ("JPEG", "PNG")[index % 2]))
        for place in rng.integers(8, len(whole), 12):
            whole[place] ^= int(rng.integers(1, 256))
        yield f"flipped-{index}.{('jpg', 'png')[index % 2]}", bytes(whole)
    yield "bomb-header.png", png_header(60_000, 60_000)
    yield "bomb-zeros.png", png_header(60_000, 60_000, zlib.compress(b"\0" * 20_000_000))
    yield "bomb-lie.png", png_header(8_000, 7_999, zlib.compress(b"\0" * 1000))
    yield "thin.png", encoded(Image.new("RGB", (5000, 1)), "PNG")
    yield "one-pixel.jpg", encoded(Image.new("RGB", (1, 1)), "JPEG")
    yield "black.jpg", encoded(Image.new("RGB", (48, 48)), "JPEG")
    yield "white.png", encoded(Image.new("L", (48, 48), 255), "PNG")
    yield "text.jpg", b"this is no photograph\n" * 40
    yield "page.png", b"<html><script>alert(1)</script></html>"
    yield "archive.jpg", b"PK\x03\x04" + bytes(rng.integers(0, 256, 400, dtype=np.uint8))
    yield "noise.png", bytes(rng.integers(0, 256, 4000, dtype=np.uint8))
    yield "pickle.jpg", b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94\x8c\x06system\x94."
    yield "vector.png", b'<svg xmlns="http://www.w3.org/2000/svg"><rect width="9" height="9"/></svg>'
    yield "cmyk.jpg", encoded(photograph(40).convert("CMYK"), "JPEG")
    yield "palette.png", encoded(photograph(41).convert("P"), "PNG")
    yield "bits.png", encoded(photograph(42).convert("1"), "PNG")
    yield "lab.tif", encoded(photograph(43).convert("LAB"), "TIFF")
    yield "ycbcr.tif", encoded(photograph(44).convert("YCbCr"), "TIFF")
    sixteen = np.asarray(photograph(45).convert("L"), np.uint16) * 257
    yield "sixteen.png", encoded(Image.fromarray(sixteen), "PNG")
    yield "float.tif", encoded(photograph(46).convert("F"), "TIFF")
    yield "alpha.png", encoded(photograph(47).convert("RGBA"), "PNG")
    frames = [photograph(48 + i) for i in range(3)]
    yield "moving.webp", encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:])
    yield "pages.tif", encoded(frames[1], "TIFF", save_all=True, append_images=frames[2:])
    yield "same-twice.tif", encoded(frames[1], "TIFF", save_all=True, append_images=frames[2:])


def test_none_of_a_hundred_hostile_files_stops_the_server(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    files = dict(hostile())
    assert len(files) == 100
    folder = tmp_path / "images"
    for kind in ("a", "b"):
        (folder / kind).mkdir(parents=True)
        for i in range(12):
            (folder / kind / f"good-{i}.png").write_bytes(encoded(photograph(1000 + i + 100 * (kind == "b")), "PNG"))
    for name, data in files.items():
        (folder / "a" / name).write_bytes(data)
    command = ("dataset", "import", "hostile", "--format", "folder", "--images", folder)
    # One image has 16 bits, one fractions: no scale explains both.
    assert "MIXED_DEPTHS" in home.run(*command, code=1).stderr
    dataset = home.json(*command, "--window", "0,65535")
    imported = sum(int(c["count"]) for side in ("training", "validation", "test") for c in dataset.get(side, []))
    dropped = dataset["dropped"]
    assert {one["reason"] for one in dropped} <= REASONS
    assert all(one["detail"] and len(one["image_id"]) == 32 for one in dropped)
    assert imported + len(dropped) == 24 + 100, "each is imported, or named with a reason"
    assert imported >= 24 + 8, "odd colour spaces are photographs too"
    assert {"UNREADABLE", "TOO_LARGE", "TOO_SMALL", "CONSTANT", "SEVERAL_FRAMES"} <= {one["reason"] for one in dropped}
    assert not [name for name in files if name in str(dropped)], "names hold patient ids"
    assert [d["name"] for d in home.json("dataset", "list")] == ["datasets/hostile"], "the server goes on"
    found = home.json("dataset", "describe", "hostile")
    assert sum(c["training"] + c.get("validation", 0) + c.get("test", 0) for c in found["classes"]) == imported
