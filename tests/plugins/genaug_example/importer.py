"""Importer "bars": bars that lie or stand, in noise, drawn from a fixed seed; no file is read."""

from __future__ import annotations

import io
from functools import partial

import numpy as np
from PIL import Image

from genaug.client.importers import Importer, SourceImage

ENTRY = Importer("genaug_example.importer:read", frozenset({"keep"}))


def read(spec, report):
    for class_name in ("lies", "stands"):
        for number in range(spec.keep.get(class_name, 60)):
            name = f"{class_name}-{number}"
            yield SourceImage(f"{name}.png", class_name, name, "", {}, partial(_encode, class_name, number))


def _encode(class_name: str, number: int) -> bytes:
    rng = np.random.default_rng([number, *class_name.encode()])
    image = rng.normal(60, 25, (8, 8))
    place = rng.integers(1, 7)
    if class_name == "lies":
        image[place] += 140
    else:
        image[:, place] += 140
    sink = io.BytesIO()
    Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(sink, "PNG")
    return sink.getvalue()
