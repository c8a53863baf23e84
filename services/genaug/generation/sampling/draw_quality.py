"""Draws that are no images: not finite, one colour, black, or what was drawn already."""

from __future__ import annotations

from collections import defaultdict, deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from genaug.generation.sampling.receipts import Drawn, Fault
from genaug.vision.images.pixels import Pixels, is_constant, resize

# An image whose brightest pixels (all but the top thousandth) are below this shows nothing.
_BLACK = 12
# Two images are one if their 16×16 thumbnails differ by less than this (root mean square, grey levels of 255).
_SAME = 2.0
_THUMBNAIL = 16
# Images of a class that a new one is compared with.
_REMEMBERED = 4096


@dataclass(frozen=True)
class Look:
    """What is looked at of a draw; small, so that many can be kept."""

    class_name: str
    fault: Fault | None
    """What is wrong with it by itself."""
    thumbnail: NDArray[np.float32]


class Inspector:
    """Judges the images of one request, in their order.

    An image is a duplicate where an accepted one of its class came before it, so the same draws are rejected whether
    the request was interrupted or not, and whatever of it others had drawn before.
    """

    def __init__(self) -> None:
        self._seen: dict[str, deque[NDArray[np.float32]]] = defaultdict(lambda: deque(maxlen=_REMEMBERED))

    def fault(self, drawn: Drawn) -> Fault | None:
        """Why a draw is no image; None, and remembered, where it is one."""
        return self.classify(look(drawn))

    def classify(self, one: Look) -> Fault | None:
        """The same, of what was looked at before."""
        if one.fault:
            return one.fault
        seen = self._seen[one.class_name]
        if seen:
            differences = np.stack(seen) - one.thumbnail
            if float(np.sqrt((differences**2).mean(axis=1)).min()) < _SAME:
                return "REASON_DUPLICATE"
        seen.append(one.thumbnail)
        return None


def look(drawn: Drawn) -> Look:
    """Look at a draw by itself."""
    fault: Fault | None = None
    if not drawn.finite:
        fault = "REASON_NOT_FINITE"
    elif np.quantile(drawn.pixels, 0.999) < _BLACK:
        fault = "REASON_BLACK"
    elif is_constant(drawn.pixels):
        fault = "REASON_CONSTANT"
    return Look(drawn.wanted.class_name, fault, _thumbnail(drawn.pixels))


def _thumbnail(pixels: Pixels) -> NDArray[np.float32]:
    small = resize(pixels, _THUMBNAIL) if min(pixels.shape[:2]) > _THUMBNAIL else pixels
    return small.astype(np.float32).ravel()
