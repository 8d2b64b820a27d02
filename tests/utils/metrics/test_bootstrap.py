"""Intervals cover the truth when samples come in groups, and know that groups are what was sampled."""

import numpy as np
import pytest

from utils.metrics.bootstrap import ClusterBootstrap, sign_flip


def sample(rng: np.random.Generator, groups: int, size: int, within: float) -> tuple[np.ndarray, list[str]]:
    """Values with mean 0: a group effect of standard deviation 1 and noise within the group."""
    values = rng.normal(size=(groups, 1)) + within * rng.normal(size=(groups, size))
    return values.ravel(), [f"drive{g}" for g in range(groups) for _ in range(size)]


@pytest.mark.parametrize("groups", [5, 9])
def test_covers_the_mean_at_its_level(groups):
    rng = np.random.default_rng(0)
    covered = naive = 0
    trials = 300
    for _ in range(trials):
        values, names = sample(rng, groups, 4, 0.3)
        low, high = ClusterBootstrap(names, draws=500).mean(values)
        covered += low <= 0 <= high
        low, high = ClusterBootstrap([str(i) for i in range(len(values))], draws=500).mean(values)
        naive += low <= 0 <= high
    assert 0.89 <= covered / trials <= 0.99
    assert naive / trials < 0.8  # what counting each image as a sample of its own would give


def test_seeded_and_independent_of_the_order_of_samples():
    rng = np.random.default_rng(2)
    values, names = sample(rng, 6, 5, 0.5)
    order = rng.permutation(len(values))
    first = ClusterBootstrap(names).mean(values)
    assert ClusterBootstrap(names).mean(values) == first
    assert ClusterBootstrap([names[i] for i in order]).mean(values[order]) == pytest.approx(first)
    assert ClusterBootstrap(names, seed=1).mean(values) != first


def test_a_statistic_sees_the_same_draws_as_the_mean():
    rng = np.random.default_rng(3)
    values, names = sample(rng, 7, 3, 0.5)
    bootstrap = ClusterBootstrap(names)
    assert bootstrap.statistic(lambda w: float(w @ values / w.sum())) == pytest.approx(bootstrap.mean(values))
    partial = bootstrap.statistic(lambda w: float("nan") if w[0] == 0 else float(w @ values / w.sum()))
    assert partial is not None and np.isfinite(partial).all()


def test_one_group_has_no_interval():
    bootstrap = ClusterBootstrap(["only", "only", "only"])
    assert bootstrap.groups == 1
    assert bootstrap.mean([1.0, 2.0, 3.0]) is None
    assert bootstrap.statistic(lambda w: 1.0) is None


def test_the_sign_flip_test_counts_the_signs_that_give_as_large_a_sum() -> None:
    assert sign_flip([1.0, 2.0, 3.0, 4.0]) == 2 / 16, "the smallest that four groups allow"
    assert sign_flip([1.0, 2.0, 3.0, -4.0]) == sign_flip([-1.0, -2.0, -3.0, 4.0]) == 14 / 16
    assert sign_flip([1.0, -1.0]) == 1 and sign_flip([1.0]) is None
    many = np.random.default_rng(1).normal(0.3, 1, 20)
    assert sign_flip(many) == pytest.approx(sign_flip(many, 2**20), abs=0.01)
    assert 0 < (sign_flip(np.ones(40)) or 0) < 1e-3
