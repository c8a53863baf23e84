"""Choice of the training image that a draw starts from."""

from __future__ import annotations

import numpy as np

from genaug.generation.sampling.receipts import ImageRequest
from genaug.shared.digests import seed_of


def parent_of(request: ImageRequest, images: int) -> int:
    """Return the position of the parent among a class's training images: round-robin through a seeded order.

    Any `images` consecutive indices use each training image once.
    """
    order = np.random.default_rng(seed_of("parents/1", request.seed, request.class_name)).permutation(images)
    return int(order[request.index % images])
