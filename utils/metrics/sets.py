"""Metrics of a set of images, computed from the Inception features that were kept for each image: FID and KID."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from utils.metrics.bootstrap import ClusterBootstrap

Array = NDArray[np.float64]
Features = NDArray[np.floating] | None
"""Inception features (2048,) of an image; None where they were not asked for or the weights are not there."""
KID_SUBSET_SIZE = 1000
"""KID's subsets hold this many images, or all there are."""
KID_SUBSETS = 100
KERNEL_DEGREE = 3
"""Degree of the polynomial kernel k(a, b) = (a.b / d + 1)^3 of Binkowski et al. 2018 (arXiv 1801.01401, section 4)."""
MIN_IMAGES = 10
"""Images below which FID and KID are not reported: of so few, one vector each, 2048 variances say nothing."""
HALVINGS = 10
"""Random ways of cutting the images into two halves over which FID's floor is averaged."""
REFERENCE = "the originals of the same images"


def frechet_distance(x: NDArray[np.floating], y: NDArray[np.floating]) -> float:
    """Fréchet distance between Gaussians fitted to x (n, d) and y (m, d): Heusel et al. 2017 (arXiv 1706.08500, eq. 6).

    |mean_x - mean_y|^2 + tr(S_x + S_y - 2 (S_x S_y)^(1/2)), covariances with n - 1. With S = R^T R the last trace is
    the sum of the singular values of R_x R_y^T: exact for singular covariances too (n < d), and no d x d eigenproblem
    is needed for few samples. Needs n, m >= 2 (ValueError).
    """
    if len(x) < 2 or len(y) < 2:
        raise ValueError(f"A covariance needs at least 2 samples, not {min(len(x), len(y))}.")
    (mean_x, root_x), (mean_y, root_y) = _gaussian(x), _gaussian(y)
    cross = np.linalg.svd(root_x @ root_y.T, compute_uv=False).sum()
    value = np.square(mean_x - mean_y).sum() + np.square(root_x).sum() + np.square(root_y).sum() - 2 * cross
    return max(float(value), 0.0)


def frechet_of_halves(x: NDArray[np.floating], y: NDArray[np.floating]) -> dict[str, float]:
    """FID at half of the images, with the floor that belongs to it, for originals x and reconstructions y (n, d).

    The images are cut at random into halves A and B of n // 2 images, HALVINGS times, seeded. "originals": mean of
    FID(x of A, x of B), two sets of different originals. "value": mean of FID(x of A, y of A). Both at n // 2 images,
    so they compare with each other; neither compares with the FID of all n.
    """
    rng, size = np.random.default_rng(0), len(x) // 2
    orders = [rng.permutation(len(x)) for _ in range(HALVINGS)]
    halves = [(order[:size], order[size : 2 * size]) for order in orders]
    return {
        "n": size,
        "value": float(np.mean([frechet_distance(x[a], y[a]) for a, _ in halves])),
        "originals": float(np.mean([frechet_distance(x[a], x[b]) for a, b in halves])),
    }


class KernelDistance:
    """Kernel inception distance (Binkowski et al. 2018) of x (n, d) against y (n, d), y_i made from x_i.

    The squared maximum mean discrepancy in its unbiased form (Gretton et al. 2012, eq. 3), torch-fidelity's estimator:
    the mean of k(x_i, x_j) + k(y_i, y_j) over i != j, minus twice the mean of k(x_i, y_j) over all i, j. It may be
    slightly negative.
    """

    def __init__(self, x: NDArray[np.floating], y: NDArray[np.floating]) -> None:
        cross = _kernel(x, y)
        self._own = np.diag(cross).copy()
        self._within = _kernel(x, x) + _kernel(y, y)
        self._between = cross + cross.T
        for pairs in (self._within, self._between):
            np.fill_diagonal(pairs, 0.0)

    def __call__(self, weights: NDArray[np.floating] | None = None) -> float:
        """The distance with image i counted weights[i] times (n,), default once each; NaN if fewer than two remain.

        Two copies of one image are no pair of different images: they count neither within a set nor between the sets,
        or every bootstrap draw would be biased by the images that it repeats.
        """
        w = np.ones(len(self._own)) if weights is None else np.asarray(weights, dtype=np.float64)
        pairs, total = w.sum() ** 2 - np.square(w).sum(), w.sum()
        if pairs <= 0:
            return float("nan")
        within, between = (w @ matrix @ w / pairs for matrix in (self._within, self._between))
        # Of the n^2 pairs (x_i, y_j), a share 1/n is an original with its own reconstruction.
        share = 1 / len(w)
        return float(within - (1 - share) * between - 2 * share * (w @ self._own) / total)


def kernel_distance_subsets(x: NDArray[np.floating], y: NDArray[np.floating], size: int, seed: int = 0) -> float:
    """Mean of the distance over KID_SUBSETS seeded random subsets of `size` images; of all, if they are no more."""
    if size >= len(x):
        return KernelDistance(x, y)()
    rng = np.random.default_rng(seed)
    chosen = [rng.choice(len(x), size, replace=False) for _ in range(KID_SUBSETS)]
    return float(np.mean([KernelDistance(x[part], y[part])() for part in chosen]))


def summarise_set(
    name: str, references: Sequence[Features], hats: Sequence[Features], bootstrap: ClusterBootstrap
) -> dict[str, Any]:
    """The entry of "fid" or "kid": {"value", "n", "reference", ...}, or {"unavailable": reason and remedy}."""
    if any(features is None for features in (*references, *hats)):
        return {"unavailable": "Features of some images were not stored: evaluate again into a new folder."}
    if (n := len(references)) < MIN_IMAGES:
        return {"unavailable": f"It takes at least {MIN_IMAGES} images, and n is {n}: evaluate more."}
    x, y = (np.array(features, dtype=np.float64) for features in (references, hats))
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        return {"unavailable": "Features of some images are not finite numbers: look at the reconstructions."}
    if name == "fid":
        # No interval: every bootstrap replicate has fewer distinct images, which biases a Fréchet distance upward.
        return {"value": frechet_distance(x, y), "n": n, "reference": REFERENCE, "halves": frechet_of_halves(x, y)}
    size = min(KID_SUBSET_SIZE, n)
    interval = bootstrap.statistic(KernelDistance(x, y))
    return {
        "value": kernel_distance_subsets(x, y, size),
        "ci95": list(interval) if interval else None,
        "n": n,
        "groups": bootstrap.groups,
        "subset_size": size,
        "reference": REFERENCE,
    }


def _gaussian(x: NDArray[np.floating]) -> tuple[Array, Array]:
    """Mean (d,) and a root R of the covariance, S = R^T R, with min(n, d) rows."""
    features = np.asarray(x, dtype=np.float64)
    mean = features.mean(axis=0)
    centred = (features - mean) / np.sqrt(len(features) - 1)
    if len(centred) > centred.shape[1]:
        centred = np.asarray(np.linalg.qr(centred, mode="r"))
    return mean, centred


def _kernel(a: NDArray[np.floating], b: NDArray[np.floating]) -> Array:
    base: Array = np.asarray(a, dtype=np.float64) @ np.asarray(b, dtype=np.float64).T / a.shape[1] + 1.0
    return base**KERNEL_DEGREE
