"""Draws that are no images: not finite, one colour, black, or what was drawn already."""

from __future__ import annotations

from collections import defaultdict, deque

import numpy as np
from numpy.typing import NDArray

from genaug.generation.receipts import Drawn, Fault
from genaug.vision.images import Pixels, is_constant, resize

# An image whose brightest pixels (all but the top thousandth) are below this shows nothing.
_BLACK = 12
# Two images are one if their 16×16 thumbnails differ by less than this (root mean square, grey levels of 255).
_SAME = 2.0
_THUMBNAIL = 16
# Images of a class that a new one is compared with.
_REMEMBERED = 4096


class Inspector:
    """Looks at the images of one request, in their order.

    An image is a duplicate where an accepted one of its class came before it, so a request that was interrupted and
    sent again rejects the same draws.
    """

    def __init__(self) -> None:
        self._seen: dict[str, deque[NDArray[np.float32]]] = defaultdict(lambda: deque(maxlen=_REMEMBERED))

    def fault(self, drawn: Drawn) -> Fault | None:
        """Why a draw is no image; None, and remembered, where it is one."""
        if not drawn.finite:
            return "REASON_NOT_FINITE"
        if np.quantile(drawn.pixels, 0.999) < _BLACK:
            return "REASON_BLACK"
        if is_constant(drawn.pixels):
            return "REASON_CONSTANT"
        thumbnail = _thumbnail(drawn.pixels)
        seen = self._seen[drawn.wanted.class_name]
        if seen:
            differences = np.stack(seen) - thumbnail
            if float(np.sqrt((differences**2).mean(axis=1)).min()) < _SAME:
                return "REASON_DUPLICATE"
        seen.append(thumbnail)
        return None


def _thumbnail(pixels: Pixels) -> NDArray[np.float32]:
    small = resize(pixels, _THUMBNAIL) if min(pixels.shape[:2]) > _THUMBNAIL else pixels
    return small.astype(np.float32).ravel()
