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
        self._options = {"draws": draws, "seed": seed}
        names, index = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
        self.groups = len(names)
        """Number of groups G; below two there is no interval."""
        rng = np.random.default_rng(seed)
        counts = rng.multinomial(self.groups, np.full(self.groups, 1 / max(self.groups, 1)), size=draws)
        self._weights = counts[:, index].astype(np.float64)
        self._tails = _expanded_tails(self.groups)

    def of(self, groups: Sequence[str]) -> ClusterBootstrap:
        """One with the same draws and seed for other samples, of `groups`: those that have a value."""
        return ClusterBootstrap(groups, **self._options)

    def mean(self, values: NDArray[np.floating] | Sequence[float]) -> Interval | None:
        """Interval of the mean over samples of `values` (n,); None with fewer than two groups."""
        return self._interval(self._weights @ np.asarray(values, dtype=np.float64) / self._weights.sum(axis=1))

    def statistic(self, function: Callable[[NDArray[np.float64]], float]) -> Interval | None:
        """Interval of a statistic of the set: `function` maps the samples' multiplicities (n,) to its value.

        Replicates for which it is NaN (the statistic needs more than was drawn) do not count.
        """
        return self._interval(np.array([function(weights) for weights in self._weights])) if self.groups > 1 else None

    def _interval(self, replicates: NDArray[np.float64]) -> Interval | None:
        replicates = replicates[np.isfinite(replicates)]
        if self.groups < 2 or not len(replicates):
            return None
        low, high = np.quantile(replicates, self._tails)
        return float(low), float(high)


def _expanded_tails(groups: int) -> tuple[float, float]:
    from scipy.special import ndtr, stdtrit

    if groups < 2:  # There is no interval.
        return 0.0, 1.0
    tail = float(ndtr(stdtrit(groups - 1, 0.5 - LEVEL / 2) * np.sqrt(groups / (groups - 1))))
    return tail, 1 - tail
