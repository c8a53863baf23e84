"""Estimated leakage of a split by image, which ignores subjects."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from genaug.schema.datasets import LeakageEstimate
from genaug.shared.digests import seed_of

SPLITS = 200


def estimate_leakage(subjects: Sequence[str], *, sizes: tuple[int, int, int], seed: int) -> LeakageEstimate:
    """Draw `SPLITS` random splits by image and average their leakage.

    Args:
        subjects: Subject of each image.
        sizes: Images of training, validation and test; they add up to all, and test has some.
        seed: Seed of the draws.

    Returns:
        Mean, lowest and highest share of test images with a subject that also has a training image, 0 to 1; mean number
        of subjects with images on two sides or more.
    """
    # Only how many images each subject has matters: neither the order of the rows nor the pseudonyms, which differ
    # between datasets.
    images = sorted(Counter(subjects).values())
    count = len(images)
    numbers = np.repeat(np.arange(count), images)
    sides_in_order = np.repeat(np.arange(3), sizes)
    rng = np.random.default_rng(seed_of("naive-split", seed))
    leaked, on_two_sides = np.empty(SPLITS), np.empty(SPLITS)
    for draw in range(SPLITS):
        sides = rng.permutation(sides_in_order)
        has_images = np.zeros((3, count), dtype=bool)
        has_images[sides, numbers] = True
        leaked[draw] = has_images[0][numbers[sides == 2]].mean()
        on_two_sides[draw] = (has_images.sum(axis=0) > 1).sum()
    return LeakageEstimate(
        splits=SPLITS,
        leaked=float(leaked.mean()),
        leaked_lowest=float(leaked.min()),
        leaked_highest=float(leaked.max()),
        subjects_on_two_sides=float(on_two_sides.mean()),
    )
