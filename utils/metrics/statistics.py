"""Distances between two sets of feature vectors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

KERNEL_DEGREE = 3
"""Degree of the polynomial kernel k(a, b) = (a.b / d + 1)^3 of Binkowski et al. 2018 (arXiv 1801.01401, section 4)."""


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


def kernel_distance(x: NDArray[np.floating], y: NDArray[np.floating]) -> float:
    """Squared maximum mean discrepancy of x (n, d) and y (m, d), n, m >= 2, polynomial kernel, unbiased for independent
    sets: Gretton et al. 2012, eq. 3; the estimator of the kernel inception distance. May be slightly negative."""
    n, m = len(x), len(y)
    xx, yy, xy = _kernel(x, x), _kernel(y, y), _kernel(x, y)
    within = (xx.sum() - np.trace(xx)) / (n * (n - 1)) + (yy.sum() - np.trace(yy)) / (m * (m - 1))
    return float(within - 2 * xy.mean())


def kernel_distance_subsets(
    x: NDArray[np.floating], y: NDArray[np.floating], subset_size: int, subsets: int = 100, seed: int = 0
) -> float:
    """Mean of `kernel_distance` over seeded random subsets, as KID is defined; if one holds everything, that one."""
    if subset_size >= max(len(x), len(y)):
        return kernel_distance(x, y)
    rng = np.random.default_rng(seed)
    values = []
    for _ in range(subsets):
        chosen_x = rng.choice(len(x), min(subset_size, len(x)), replace=False)
        chosen_y = rng.choice(len(y), min(subset_size, len(y)), replace=False)
        values.append(kernel_distance(x[chosen_x], y[chosen_y]))
    return float(np.mean(values))


class PairedKernelDistance:
    """Kernel distance between the spatial features of originals and of their own reconstructions.

    Image i has vectors x_ip and y_ip. Originals and reconstructions are not independent sets, nor are the positions of
    an image, so the average runs over pairs of *different* images only (the one-sample U-statistic of Gretton et al.
    2012, Lemma 6, with images as samples):

        mean over i != j, p, q of  k(x_ip, x_jq) + k(y_ip, y_jq) - k(x_ip, y_jq) - k(y_ip, x_jq)

    It is unbiased when images are independent, exactly 0 if y = x, and may be slightly negative.

    `x` and `y`: per image (P_i, d). At most `max_vectors` vectors are used, an equal number from each image, the first
    ones (`SPATIAL_SAMPLE` in utils/metrics/effnet.py puts them in random order). Needs two images (ValueError).
    """

    def __init__(
        self, x: Sequence[NDArray[np.floating]], y: Sequence[NDArray[np.floating]], max_vectors: int = 8192
    ) -> None:
        if len(x) < 2 or len(x) != len(y):
            raise ValueError(f"The kernel distance needs the same 2 or more images twice, not {len(x)} and {len(y)}.")
        per_image = max(1, max_vectors // len(x))
        xs = [np.asarray(features[:per_image], dtype=np.float64) for features in x]
        ys = [np.asarray(features[:per_image], dtype=np.float64) for features in y]
        counts = np.array([len(features) for features in xs], dtype=np.float64)
        xy = _block_sums(xs, ys)
        self._sums = _block_sums(xs, xs) + _block_sums(ys, ys) - xy - xy.T
        self._pairs = np.outer(counts, counts)
        # A pair of an image with itself never counts, also when a bootstrap draws that image twice.
        np.fill_diagonal(self._sums, 0.0)
        np.fill_diagonal(self._pairs, 0.0)

    def __call__(self, weights: NDArray[np.floating] | None = None) -> float:
        """The distance with image i counted weights[i] times (n,), default once each; NaN if fewer than two remain."""
        w = np.ones(len(self._sums)) if weights is None else np.asarray(weights, dtype=np.float64)
        pairs = w @ self._pairs @ w
        return float(w @ self._sums @ w / pairs) if pairs > 0 else float("nan")


def _gaussian(x: NDArray[np.floating]) -> tuple[Array, Array]:
    """Mean (d,) and a root R of the covariance, S = R^T R, with min(n, d) rows."""
    features = np.asarray(x, dtype=np.float64)
    mean = features.mean(axis=0)
    centred = (features - mean) / np.sqrt(len(features) - 1)
    if len(centred) > centred.shape[1]:
        centred = np.asarray(np.linalg.qr(centred, mode="r"))
    return mean, centred


def _kernel(a: NDArray[np.floating], b: NDArray[np.floating]) -> Array:
    base = np.asarray(a, dtype=np.float64) @ np.asarray(b, dtype=np.float64).T / a.shape[1] + 1.0
    result: Array = base.copy()
    for _ in range(KERNEL_DEGREE - 1):
        result *= base
    return result


def _block_sums(a: Sequence[Array], b: Sequence[Array]) -> Array:
    """Sums of the kernel over all vectors of a[i] and b[j]: (len(a), len(b))."""
    columns = np.concatenate(list(b))
    starts = np.cumsum([0] + [len(features) for features in b[:-1]])
    return np.stack([np.add.reduceat(_kernel(rows, columns).sum(axis=0), starts) for rows in a])
