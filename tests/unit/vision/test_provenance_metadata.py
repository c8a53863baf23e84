from __future__ import annotations

import io
import json
from contextlib import suppress
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image, PngImagePlugin

from genaug.shared.errors import InvalidArgument
from genaug.vision.images.pixels import Pixels, decode
from genaug.vision.images.provenance_metadata import Format, encode_marked, receipt_of

RECEIPT: dict[str, Any] = {
    "generator": "generators/" + "0" * 32,
    "class_name": "stäbe × 草",
    "seed": -(2**63),
    "sampler": {"steps": 3, "negative_prompt": '"]}\\'},
    "parent_ids": ["a" * 32],
}
IPTC = "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
TEXT = st.text(st.characters(blacklist_categories=("Cs",)), max_size=40)


def noise(channels: int = 3) -> Pixels:
    return np.random.default_rng(0).integers(0, 256, (16, 16, channels), dtype=np.uint8)


@given(
    pixels=arrays(np.uint8, st.tuples(st.integers(4, 12), st.integers(4, 12), st.sampled_from([1, 3]))),
    format=st.sampled_from(["PNG", "JPEG"]),
    prompt=TEXT,
    seed=st.integers(-(2**63), 2**63 - 1),
)
@settings(max_examples=60)
def test_a_receipt_comes_back_as_it_was_and_png_keeps_each_pixel(
    pixels: Pixels, format: Format, prompt: str, seed: int
) -> None:
    receipt = RECEIPT | {"prompt": prompt, "seed": seed}
    data = encode_marked(pixels, receipt, format=format)
    assert receipt_of(data) == receipt
    if format == "PNG":
        assert np.array_equal(decode(data), pixels)
    else:
        assert decode(data).shape == pixels.shape


def test_a_jpeg_is_nearly_the_image() -> None:
    smooth = np.broadcast_to(np.linspace(0, 255, 64).astype(np.uint8)[:, None, None], (64, 64, 3))
    found = decode(encode_marked(np.ascontiguousarray(smooth), RECEIPT, format="JPEG"))
    assert np.abs(found.astype(int) - smooth).max() <= 3


@pytest.mark.parametrize("format", ["PNG", "JPEG"])
@pytest.mark.parametrize(
    ("receipt", "source"),
    [
        ({"sampler": {"steps": 3}}, "trainedAlgorithmicMedia"),
        ({"sampler": {"steps": 3}, "parent_ids": ["a"]}, "trainedAlgorithmicMedia"),
        ({"parent_ids": ["a"]}, "algorithmicallyEnhanced"),
    ],
)
def test_the_image_says_in_iptcs_words_where_it_comes_from(
    receipt: dict[str, Any], source: str, format: Format
) -> None:
    data = encode_marked(noise(), {"generator": "g", **receipt}, format=format)
    with Image.open(io.BytesIO(data)) as image:
        said = ElementTree.fromstring(image.info["xmp"])
    [description] = said.iter("{http://www.w3.org/1999/02/22-rdf-syntax-ns#}Description")
    assert description.get(f"{{{IPTC}}}DigitalSourceType") == f"http://cv.iptc.org/newscodes/digitalsourcetype/{source}"


def png_saying(text: str) -> bytes:
    info, sink = PngImagePlugin.PngInfo(), io.BytesIO()
    info.add_itxt("genaug", text)
    Image.fromarray(noise()).save(sink, "PNG", pnginfo=info)
    return sink.getvalue()


def jpeg_saying(comment: bytes) -> bytes:
    sink = io.BytesIO()
    Image.fromarray(noise()).save(sink, "JPEG", comment=comment)
    return sink.getvalue()


HOSTILE = {
    "nothing": "",
    "no JSON": "hello",
    "other JSON": json.dumps({"prompt": "a cat"}),
    "a list": json.dumps([RECEIPT]),
    "a number": "1" * 5000,
    "deep": "[" * 60_000,
    "deep in a receipt": '{"generator":' * 5000,
    "long": json.dumps({"generator": "x" * 70_000}),
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_what_is_no_receipt_of_ours_is_none(text: str) -> None:
    short = text.encode()[:65_000]
    for data in (png_saying(text), jpeg_saying(short)):
        with pytest.raises(InvalidArgument) as caught:
            receipt_of(data)
        assert caught.value.reason == "NO_RECEIPT"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no image",
        encode_marked(noise(), RECEIPT)[:60],
        encode_marked(noise(), RECEIPT, format="JPEG")[:20],
        jpeg_saying(b"\xff\xfe\x00{"),
        png_saying("x" * 3_000_000),
    ],
    ids=["empty", "text", "cut PNG", "cut JPEG", "no UTF-8", "megabytes"],
)
def test_what_is_damaged_carries_none(data: bytes) -> None:
    with pytest.raises(InvalidArgument) as caught:
        receipt_of(data)
    assert caught.value.reason == "NO_RECEIPT"


@given(st.binary(max_size=300), st.integers(0, 2000))
@settings(max_examples=100)
def test_no_bytes_bring_it_down(junk: bytes, at: int) -> None:
    data = encode_marked(noise(1), RECEIPT)
    broken = data[:at] + junk + data[at + len(junk) :]
    with suppress(InvalidArgument):
        assert "generator" in receipt_of(broken)
