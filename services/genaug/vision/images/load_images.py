"""Loading of a manifest's images into one array."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from genaug.shared.manifest import Row
from genaug.shared.store import Store
from genaug.vision.images.pixels import Pixels, fitted, with_pixels

# Threads pay off: the store's client and Pillow's decoders work outside the interpreter's lock.
_THREADS = 8


def load_pixels(store: Store, rows: Sequence[Row], *, image_size: int, channels: int, pre_resize: int = 0) -> Pixels:
    """Read, decode, crop and scale the images of `rows`.

    Args:
        pre_resize: Side, pixels, that images are resized to before `image_size`; 0 for none.

    Returns:
        uint8 [len(rows), image_size, image_size, channels], in the order of `rows`.

    Raises:
        NotFound: an image is not in the store.
        PermissionDenied: the store's identity may not read it.
    """

    def load(row: Row) -> Pixels:
        return with_pixels(
            store.get(row.uri),
            lambda image: fitted(image, image_size=image_size, channels=channels, pre_resize=pre_resize),
        )

    pixels = np.empty((len(rows), image_size, image_size, channels), np.uint8)
    with ThreadPoolExecutor(_THREADS) as pool:
        for index, image in enumerate(pool.map(load, rows)):
            pixels[index] = image
    return pixels
