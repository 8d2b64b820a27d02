"""Set distances against closed forms, brute force and torch-fidelity."""

import numpy as np
import pytest
import torch

from utils.metrics.statistics import PairedKernelDistance, frechet_distance, kernel_distance, kernel_distance_subsets


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


def test_frechet_distance_needs_a_covariance():
    with pytest.raises(ValueError, match="at least 2"):
        frechet_distance(np.zeros((1, 3)), np.zeros((5, 3)))


def test_kernel_distance_is_the_unbiased_sum():
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(4, 3)), rng.normal(size=(5, 3))
    xx = np.mean([kernel(x[i], x[j]) for i in range(4) for j in range(4) if i != j])
    yy = np.mean([kernel(y[i], y[j]) for i in range(5) for j in range(5) if i != j])
    xy = np.mean([kernel(a, b) for a in x for b in y])
    assert kernel_distance(x, y) == pytest.approx(xx + yy - 2 * xy, rel=1e-12)


def test_kernel_distance_equals_torch_fidelity():
    from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, kid_features_to_metric

    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(30, 16)), rng.normal(size=(30, 16)) + 0.3
    expected = kid_features_to_metric(
        torch.from_numpy(x), torch.from_numpy(y), kid_subset_size=30, kid_subsets=1, verbose=False
    )[KEY_METRIC_KID_MEAN]
    assert kernel_distance(x, y) == pytest.approx(expected, rel=1e-9)
    assert kernel_distance_subsets(x, y, 30) == kernel_distance(x, y)
    subsets = kernel_distance_subsets(x, y, 25, subsets=400)
    assert subsets == kernel_distance_subsets(x, y, 25, subsets=400)
    assert subsets == pytest.approx(kernel_distance(x, y), rel=0.1)


def test_paired_kernel_distance_is_the_sum_over_different_images():
    rng = np.random.default_rng(4)
    x = [rng.normal(size=(p, 3)) for p in (2, 3, 2)]
    y = [a + rng.normal(size=a.shape) for a in x]
    terms = [
        kernel(x[i][p], x[j][q]) + kernel(y[i][p], y[j][q]) - kernel(x[i][p], y[j][q]) - kernel(y[i][p], x[j][q])
        for i in range(3)
        for j in range(3)
        for p in range(len(x[i]))
        for q in range(len(x[j]))
        if i != j
    ]
    distance = PairedKernelDistance(x, y)
    assert distance() == pytest.approx(np.mean(terms), rel=1e-9)
    assert distance(np.array([1.0, 1, 0])) == pytest.approx(PairedKernelDistance(x[:2], y[:2])(), rel=1e-9)
    assert np.isnan(distance(np.array([3.0, 0, 0])))  # one image three times is still one image
    assert PairedKernelDistance(x, x)() == 0


def test_paired_kernel_distance_is_unbiased_for_pairs_that_resemble_each_other():
    """x_i and y_i are strongly dependent but equally distributed: the estimator for independent sets is biased."""
    rng = np.random.default_rng(5)
    paired, independent = [], []
    for _ in range(400):
        common = rng.normal(size=(12, 1, 3))
        x, y = (common + 0.3 * rng.normal(size=(12, 4, 3)) for _ in range(2))
        paired.append(PairedKernelDistance(list(x), list(y))())
        independent.append(kernel_distance(x.reshape(-1, 3), y.reshape(-1, 3)))
    error = np.std(paired) / np.sqrt(len(paired))
    assert abs(np.mean(paired)) < 4 * error
    assert np.mean(independent) < -4 * np.std(independent) / np.sqrt(len(independent))


def test_paired_kernel_distance_of_many_vectors_uses_an_equal_part_of_each_image():
    rng = np.random.default_rng(6)
    x = [rng.normal(size=(50, 3)) for _ in range(4)]
    y = [a + 0.5 for a in x]
    assert (
        PairedKernelDistance(x, y, max_vectors=40)() == PairedKernelDistance([a[:10] for a in x], [a[:10] for a in y])()
    )
    with pytest.raises(ValueError, match="2 or more"):
        PairedKernelDistance(x[:1], y[:1])
