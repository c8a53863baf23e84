"""Estimated leakage of a split by image, which ignores subjects."""

from __future__ import annotations

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
    # Sorted by subject, so that the order of the rows means nothing.
    _, numbers = np.unique(np.asarray(sorted(subjects)), return_inverse=True)
    count = int(numbers.max()) + 1
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
