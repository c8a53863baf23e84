from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from genaug.assembly.describe.facts import BINS, ImageFacts, image_facts
from genaug.vision.images.pixels import decode


def facts(data: bytes) -> ImageFacts:
    return image_facts(data, decode(data))


def test_an_encoder_is_told_by_its_tables_and_camera_and_never_named(photograph) -> None:
    def encoded(format: str = "JPEG", *, make: str = "", **options: object) -> str:
        image, sink = Image.fromarray(photograph(1)), io.BytesIO()
        exif = Image.Exif()
        if make:
            exif[271] = make
        image.save(sink, format, exif=exif, **options)
        return facts(sink.getvalue()).encoder

    digests = [
        encoded(quality=90),
        encoded(quality=60),
        encoded(quality=90, subsampling=0),
        encoded(quality=90, make="Fundus Clinic 7"),
        encoded("PNG"),
    ]
    assert len(set(digests)) == 5
    assert encoded(quality=90) == digests[0]
    assert not any("Fundus" in digest for digest in digests)


def test_formats_and_bytes_are_those_of_the_file(photograph, encode) -> None:
    data = encode(photograph(2), "JPEG")
    assert (facts(data).format, facts(data).size_bytes) == ("JPEG", len(data))


def test_a_border_is_measured_on_each_side(photograph, encode) -> None:
    framed = np.full((100, 200, 3), 7, np.uint8)
    framed[10:95, 20:196] = np.random.default_rng(0).integers(100, 255, (85, 176, 3), np.uint8)
    border = facts(encode(framed)).border
    assert (border.top, border.bottom, border.left, border.right) == (0.1, 0.05, 0.1, 0.02)
    assert border.luma == pytest.approx(7)
    assert facts(encode(photograph(3))).border.luma == -1


def test_color_and_luma_are_counted(encode) -> None:
    pixels = np.zeros((40, 40, 3), np.uint8)
    pixels[:20] = (200, 100, 50)
    found = facts(encode(pixels))
    assert found.mean_color == (100, 50, 25)
    assert found.histogram.shape == (BINS,)
    assert found.histogram[0] == 0.5
    assert found.histogram.sum() == pytest.approx(1)
    grey = facts(encode(pixels[:, :, 0]))
    assert grey.mean_color == (100, 100, 100)
