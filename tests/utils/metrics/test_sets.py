"""Set distances against closed forms, brute force and torch-fidelity."""

import numpy as np
import pytest
import torch

from utils.metrics.sets import KernelDistance, frechet_distance, frechet_of_halves, kernel_distance_subsets


def kernel(a: np.ndarray, b: np.ndarray) -> float:
    return float((a @ b / len(a) + 1) ** 3)


def with_moments(rng: np.random.Generator, n: int, mean: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """Samples whose sample mean and covariance are exactly these."""
    x = rng.normal(size=(n, len(mean)))
    x -= x.mean(axis=0)
    whitened = x @ np.linalg.inv(np.linalg.cholesky(np.cov(x, rowvar=False))).T
    return whitened @ np.linalg.cholesky(covariance).T + mean


def test_frechet_distance_of_gaussians_is_the_closed_form():
    rng = np.random.default_rng(0)
    rotation = np.linalg.qr(rng.normal(size=(5, 5)))[0]
    scales_x, scales_y = np.array([1.0, 2, 3, 4, 5]), np.array([2.0, 2, 1, 7, 0.5])
    mean_x, mean_y = rng.normal(size=5), rng.normal(size=5)
    x = with_moments(rng, 50, mean_x, rotation @ np.diag(scales_x**2) @ rotation.T)
    y = with_moments(rng, 40, mean_y, rotation @ np.diag(scales_y**2) @ rotation.T)
    expected = np.square(mean_x - mean_y).sum() + np.square(scales_x - scales_y).sum()
    assert frechet_distance(x, y) == pytest.approx(expected, rel=1e-9)
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("n", [10, 300])
def test_frechet_distance_equals_torch_fidelity(n):
    from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_features_to_statistics, fid_statistics_to_metric

    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(n, 32)), rng.normal(size=(n + 5, 32)) * 1.3 + 0.2
    statistics = [fid_features_to_statistics(torch.from_numpy(a)) for a in (x, y)]
    expected = fid_statistics_to_metric(*statistics, False)[KEY_METRIC_FID]
    assert frechet_distance(x, y) == pytest.approx(expected, rel=1e-5)


def test_the_floor_of_fid_is_between_disjoint_halves_of_the_originals():
    """And the figure beside it is of the reconstructions of one half, so both are at half of the images."""
    rng = np.random.default_rng(7)
    x = rng.normal(size=(21, 40))
    found = frechet_of_halves(x, x + 0.01 * rng.normal(size=x.shape))
    assert found["n"] == 10 and found["value"] < 0.1 < 10 < found["originals"]
    pairs = [frechet_distance(*rng.permutation(x)[:20].reshape(2, 10, 40)) for _ in range(40)]
    assert found["originals"] == pytest.approx(np.mean(pairs), rel=0.1)


def test_kernel_distance_is_the_unbiased_sum():
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(5, 3)), rng.normal(size=(5, 3))
    xx = np.mean([kernel(x[i], x[j]) for i in range(5) for j in range(5) if i != j])
    yy = np.mean([kernel(y[i], y[j]) for i in range(5) for j in range(5) if i != j])
    xy = np.mean([kernel(a, b) for a in x for b in y])
    assert KernelDistance(x, y)() == pytest.approx(xx + yy - 2 * xy, rel=1e-12)


def test_kernel_distance_equals_torch_fidelity():
    from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, kid_features_to_metric

    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(30, 16)), rng.normal(size=(30, 16)) + 0.3
    expected = kid_features_to_metric(
        torch.from_numpy(x), torch.from_numpy(y), kid_subset_size=30, kid_subsets=1, verbose=False
    )[KEY_METRIC_KID_MEAN]
    assert KernelDistance(x, y)() == pytest.approx(expected, rel=1e-9)
    assert kernel_distance_subsets(x, y, 30) == KernelDistance(x, y)()
    subsets = kernel_distance_subsets(x, y, 25)
    assert subsets == kernel_distance_subsets(x, y, 25)
    assert subsets == pytest.approx(expected, rel=0.1)


def test_an_image_that_a_draw_repeats_is_no_pair_of_different_images():
    rng = np.random.default_rng(4)
    x = rng.normal(size=(40, 3))
    distance = KernelDistance(x, x + 0.3 * rng.normal(size=x.shape))
    draws = [distance(rng.multinomial(40, np.full(40, 1 / 40)).astype(float)) for _ in range(4000)]
    assert np.mean(draws) == pytest.approx(distance(), abs=4 * np.std(draws) / np.sqrt(len(draws)))
    assert np.isnan(distance(np.array([3.0, *[0.0] * 39])))  # one image three times is still one image
