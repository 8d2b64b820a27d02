"""Confidence intervals when samples come in groups (drives, cities) and samples of one group resemble each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Interval = tuple[float, float]
LEVEL = 0.95


class ClusterBootstrap:
    """Cluster bootstrap: whole groups are drawn with replacement, so what a group shares is not counted as certainty.

    `groups`: the group of each sample, n strings. `draws` replicates, seeded; the same for every statistic, and
    whatever the order of the samples. Percentile intervals whose tails are widened as a t interval's with G - 1 degrees
    of freedom ("expanded percentile", Hesterberg 2015, arXiv 1411.5279): with few groups plain percentiles are too
    narrow. For the interval of a difference between two systems, pass the differences of their samples.
    """

    def __init__(self, groups: Sequence[str], *, draws: int = 2000, seed: int = 0) -> None:
        names, index = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
        self.groups = len(names)
        """Number of groups G; below two there is no interval."""
        rng = np.random.default_rng(seed)
        counts = rng.multinomial(self.groups, np.full(self.groups, 1 / max(self.groups, 1)), size=draws)
        self.weights = counts[:, index].astype(np.float64)
        """How often each sample is drawn (draws, n)."""

    def mean(self, values: NDArray[np.floating] | Sequence[float]) -> Interval | None:
        """Interval of the mean over samples of `values` (n,); None with fewer than two groups."""
        return self.interval(self.weights @ np.asarray(values, dtype=np.float64) / self.weights.sum(axis=1))

    def statistic(self, function: Callable[[NDArray[np.float64]], float]) -> Interval | None:
        """Interval of a statistic of the set: `function` maps the samples' multiplicities (n,) to its value.

        It is NaN where the statistic needs more than was drawn.
        """
        return self.interval(np.array([function(weights) for weights in self.weights])) if self.groups > 1 else None

    def interval(self, replicates: NDArray[np.float64]) -> Interval | None:
        """Interval of a statistic from its value at every draw (draws,); draws whose value is NaN do not count."""
        from scipy.special import ndtr, stdtrit

        replicates = replicates[np.isfinite(replicates)]
        if self.groups < 2 or not len(replicates):
            return None
        tail = ndtr(stdtrit(self.groups - 1, 0.5 - LEVEL / 2) * np.sqrt(self.groups / (self.groups - 1)))
        low, high = np.quantile(replicates, [tail, 1 - tail])
        return float(low), float(high)


def sign_flip(differences: NDArray[np.floating] | Sequence[float], draws: int = 2**14) -> float | None:
    """The two-sided p value of a paired permutation test: how often random signs give as large a sum of differences.

    `differences` (G,): between two systems, one a group, since samples of one group are no independent evidence. Under
    the null hypothesis each is as likely positive as negative (Fisher 1935, The Design of Experiments, section 21).
    Exact up to 14 groups; for more, `draws` sign patterns, seeded. The smallest p is 2 / 2^G. None below two groups.
    """
    values = np.asarray(differences, dtype=np.float64)
    count = len(values)
    if count < 2:
        return None
    if 2**count <= draws:
        signs = 1 - 2 * (np.arange(2**count)[:, None] >> np.arange(count) & 1)
    else:  # The observed signs are one of the patterns, so that p is never 0.
        signs = np.random.default_rng(0).choice((-1, 1), (draws, count))
        signs[0] = 1
    return float(np.mean(np.abs(signs @ values) >= np.abs(values.sum()) * (1 - 1e-12)))
