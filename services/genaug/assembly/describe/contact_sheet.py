"""Contact sheets: small training images of each class, for the page of a description."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from PIL import Image

from genaug.assembly.datasets import read_image
from genaug.shared.manifest import Row
from genaug.shared.store import Store
from genaug.vision.images.pixels import Pixels, with_pixels

MOST_OF_CLASS = 24
# Bounds the page with hundreds of classes: about 3 MB.
_MOST = 1200
_FEWEST_OF_CLASS = 4
_SIDE = 96
_QUALITY = 70
_READERS = 4


@dataclass(frozen=True)
class ContactImage:
    """A training image, scaled down."""

    width: int
    height: int
    data: str
    """JPEG in base64."""


def contact_sheets(store: Store, rows: Sequence[Row]) -> Mapping[str, list[ContactImage]]:
    """Training images of each class, scaled to 96 pixels: a random choice that is the same each time.

    Raises:
        FailedPrecondition: an image is lost or damaged.
    """
    classes = sorted({row.class_name for row in rows})
    most = max(_FEWEST_OF_CLASS, min(MOST_OF_CLASS, _MOST // max(len(classes), 1)))
    # Ids are digests, so that their order is a random one.
    training = sorted((row for row in rows if row.split == "train"), key=lambda row: row.image_id)
    chosen = {name: [row for row in training if row.class_name == name][:most] for name in classes}
    with ThreadPoolExecutor(_READERS, thread_name_prefix="contact-sheet") as pool:
        return {
            name: list(pool.map(lambda row: _contact_image(read_image(store, row)), members))
            for name, members in chosen.items()
        }


def _contact_image(data: bytes) -> ContactImage:
    return with_pixels(data, _scaled)


def _scaled(pixels: Pixels) -> ContactImage:
    image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    image.thumbnail((_SIDE, _SIDE))
    sink = io.BytesIO()
    image.save(sink, "JPEG", quality=_QUALITY)
    return ContactImage(*image.size, base64.b64encode(sink.getvalue()).decode())
