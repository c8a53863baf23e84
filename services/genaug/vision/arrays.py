"""Images of a manifest as one array, decoded once."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from genaug.shared.manifest import Row
from genaug.shared.store import Store
from genaug.vision.images import Pixels, decode, resize, with_channels

# The store answers and Pillow decodes outside the interpreter's lock.
_THREADS = 8


def load_pixels(store: Store, rows: Sequence[Row], *, image_size: int, channels: int) -> Pixels:
    """Read, decode, crop and scale the images of `rows`.

    Returns:
        uint8 [len(rows), image_size, image_size, channels], in the order of `rows`.

    Raises:
        NotFound: an image is not in the store.
        PermissionDenied: the store's identity may not read it.
    """

    def load(row: Row) -> Pixels:
        return with_channels(resize(decode(store.get(row.uri)), image_size), channels)

    pixels = np.empty((len(rows), image_size, image_size, channels), np.uint8)
    with ThreadPoolExecutor(_THREADS) as pool:
        for index, image in enumerate(pool.map(load, rows)):
            pixels[index] = image
    return pixels
