"""Images of a manifest as one array, decoded once."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from genaug.shared.manifest import Row
from genaug.shared.store import Store
from genaug.vision.images.pixels import Pixels, decode, fitted

# The store answers and Pillow decodes outside the interpreter's lock.
_THREADS = 8


def load_pixels(store: Store, rows: Sequence[Row], *, image_size: int, channels: int, detail: int = 0) -> Pixels:
    """Read, decode, crop and scale the images of `rows`, by way of `detail` pixels where it is not 0.

    Returns:
        uint8 [len(rows), image_size, image_size, channels], in the order of `rows`.

    Raises:
        NotFound: an image is not in the store.
        PermissionDenied: the store's identity may not read it.
    """

    def load(row: Row) -> Pixels:
        return fitted(decode(store.get(row.uri)), image_size=image_size, channels=channels, detail=detail)

    pixels = np.empty((len(rows), image_size, image_size, channels), np.uint8)
    with ThreadPoolExecutor(_THREADS) as pool:
        for index, image in enumerate(pool.map(load, rows)):
            pixels[index] = image
    return pixels
