"""Projection of features on a plane: PCA, then t-SNE (van der Maaten & Hinton 2008) as openTSNE computes it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from openTSNE import TSNE

from genaug.shared.digests import seed_of

Plane = NDArray[np.float64]
"""float64 [n, 2]."""

COMPONENTS = 50
"""Most principal components that enter t-SNE."""

PERPLEXITY = 30.0
"""Effective number of t-SNE's neighbours; less for few images."""

# Fewer images have no neighbourhoods; their map is the first two principal components.
_FEW = 12
# Most images whose neighbours are exact: reproducible, and not slower.
_EXACT = 5_000


def project(features: NDArray[np.float32], *, seed: int) -> Plane:
    """Project `features` [n, dimensions], n ≥ 1, on a plane that keeps neighbours near each other.

    Deterministic in features and seed. Distances between far groups are not meaningful.
    """
    components = principal_components(features, COMPONENTS)
    if len(components) < _FEW or components.shape[1] < 2 or not components.any():
        return _two_columns(components)
    return _tsne(components, seed=seed)


def principal_components(features: NDArray[np.float32], count: int) -> NDArray[np.float64]:
    """Compute the first principal components of `features` [n, d]: [n, at most min(count, n, d)], largest first.

    Signs are fixed (the largest loading of each is positive), so that equal features never give mirrored maps.
    """
    centred = features.astype(np.float64) - features.mean(axis=0, dtype=np.float64)
    # Directions from the smaller of the two Gram matrices: far quicker than a full SVD of many rows.
    if len(centred) >= centred.shape[1]:
        values, directions = np.linalg.eigh(centred.T @ centred)
        directions = directions[:, np.argsort(-values, kind="stable")[:count]]
    else:
        directions = np.linalg.svd(centred, full_matrices=False)[2][:count].T
    strongest = directions[np.abs(directions).argmax(axis=0), np.arange(directions.shape[1])]
    result: NDArray[np.float64] = centred @ (directions * np.where(strongest < 0, -1.0, 1.0))
    return result


def _tsne(components: NDArray[np.float64], *, seed: int) -> Plane:
    count = len(components)
    start = components[:, :2] / components[:, 0].std() * 1e-4
    # Equal images would start, and stay, at one point.
    start = start + np.random.default_rng(seed_of("t-SNE start", seed)).normal(scale=1e-6, size=start.shape)
    model = TSNE(
        perplexity=min(PERPLEXITY, (count - 1) / 3),
        initialization=start,
        neighbors="exact" if count <= _EXACT else "annoy",
        negative_gradient_method="bh" if count <= 10_000 else "fft",
        # One thread: sums in the same order each time, and no competition with the model's threads.
        n_jobs=1,
        random_state=seed_of("t-SNE", seed) % 2**31,
    )
    return np.asarray(model.fit(components), dtype=np.float64)


def _two_columns(components: NDArray[np.float64]) -> Plane:
    result = np.zeros((len(components), 2))
    result[:, : components.shape[1]] = components[:, :2]
    return result
