"""Filter of unusable draws: not finite, constant, black, or a near-duplicate."""

from __future__ import annotations

from collections import defaultdict, deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from genaug.generation.sampling.receipts import DrawnImage
from genaug.schema.generators import RejectionReason
from genaug.vision.images.pixels import Pixels, is_constant, resize

# Grey level of 255: an image is black if 99.9 % of its values are below it.
_BLACK = 12
# Largest root-mean-square difference, grey levels of 255, between the thumbnails of duplicates.
_DUPLICATE_RMS = 2.0
# Side of a thumbnail, pixels.
_THUMBNAIL = 16
# Latest accepted images of a class that a new one is compared with: bounds time and memory of large requests.
_COMPARED = 4096


@dataclass(frozen=True)
class DrawSummary:
    """The part of a draw that filtering needs; small, so that many can be kept."""

    class_name: str
    reason: RejectionReason | None
    """Why the image by itself is unusable."""
    thumbnail: NDArray[np.float32]


class DrawFilter:
    """Filter of one request's images, passed in the order of the request.

    An image is a duplicate if an accepted one of its class came before it. Rejections therefore do not depend on
    whether the request was interrupted, or on how many of its draws an earlier request had stored.
    """

    def __init__(self) -> None:
        self._accepted: dict[str, deque[NDArray[np.float32]]] = defaultdict(lambda: deque(maxlen=_COMPARED))

    def reject(self, summary: DrawSummary) -> RejectionReason | None:
        """Return why a draw is rejected; None, and compare later ones with it, if it is accepted."""
        if summary.reason:
            return summary.reason
        accepted = self._accepted[summary.class_name]
        if accepted:
            differences = np.stack(accepted) - summary.thumbnail
            if float(np.sqrt((differences**2).mean(axis=1)).min()) < _DUPLICATE_RMS:
                return RejectionReason.DUPLICATE
        accepted.append(summary.thumbnail)
        return None


def summarize(image: DrawnImage) -> DrawSummary:
    """Examine a draw by itself."""
    reason: RejectionReason | None = None
    if not image.finite:
        reason = RejectionReason.NOT_FINITE
    elif np.quantile(image.pixels, 0.999) < _BLACK:
        reason = RejectionReason.BLACK
    elif is_constant(image.pixels):
        reason = RejectionReason.CONSTANT
    return DrawSummary(image.request.class_name, reason, _thumbnail(image.pixels))


def _thumbnail(pixels: Pixels) -> NDArray[np.float32]:
    small = resize(pixels, _THUMBNAIL) if min(pixels.shape[:2]) > _THUMBNAIL else pixels
    return small.astype(np.float32).ravel()
