"""What a split by image, which forgets whose images they are, would have leaked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from genaug.shared.digests import seed_of

SPLITS = 200


@dataclass(frozen=True)
class NaiveSplit:
    """Over many random splits by image; field names are those of `DatasetDescription.NaiveSplit`."""

    splits: int
    leaked: float
    """Share of test images whose subject also has a training image, 0 to 1; mean over the splits."""
    leaked_lowest: float
    leaked_highest: float
    subjects_on_two_sides: float
    """Subjects with images on two sides or more; mean over the splits."""


def naive_split(subjects: Sequence[str], *, sizes: tuple[int, int, int], seed: int) -> NaiveSplit:
    """Draw `SPLITS` random splits by image and count what each would leak.

    Args:
        subjects: The subject of each image.
        sizes: Images of training, validation and test, which add up to all; test has some.
        seed: Seed of the draws.
    """
    # Numbered in order of their names, and images sorted by them: the order of the rows means nothing.
    _, numbers = np.unique(np.asarray(sorted(subjects)), return_inverse=True)
    count = int(numbers.max()) + 1
    side_of = np.repeat(np.arange(3), sizes)
    rng = np.random.default_rng(seed_of("naive-split", seed))
    leaked, on_two_sides = np.empty(SPLITS), np.empty(SPLITS)
    for draw in range(SPLITS):
        sides = rng.permutation(side_of)
        on = np.zeros((3, count), dtype=bool)
        on[sides, numbers] = True
        leaked[draw] = on[0][numbers[sides == 2]].mean()
        on_two_sides[draw] = (on.sum(axis=0) > 1).sum()
    return NaiveSplit(
        SPLITS, float(leaked.mean()), float(leaked.min()), float(leaked.max()), float(on_two_sides.mean())
    )
