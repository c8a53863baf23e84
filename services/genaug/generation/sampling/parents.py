"""Which training image a made image starts from, where it starts from one."""

from __future__ import annotations

import numpy as np

from genaug.generation.sampling.receipts import Wanted
from genaug.shared.digests import seed_of


def parent_of(wanted: Wanted, images: int) -> int:
    """The position of one of a class's `images`: round-robin through a seeded order.

    Any `images` draws in a row use each of them once.
    """
    order = np.random.default_rng(seed_of("parents/1", wanted.seed, wanted.class_name)).permutation(images)
    return int(order[wanted.index % images])
