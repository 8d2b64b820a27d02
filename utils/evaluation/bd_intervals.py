"""How sure a BD-rate is: the cluster bootstrap over recordings, with both curves of the same resampled images."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from utils.errors import DataError
from utils.evaluation.rd import Curve, Difference, bd_rate, differences
from utils.evaluation.summary import Results
from utils.metrics.bootstrap import ClusterBootstrap, Interval

DRAWS = 500
"""Fewer than for means: a replicate takes a millisecond."""


@dataclass(frozen=True)
class Images:
    """Figures of every image (n) at every point of a summary: bpp (points, n), each image metric (points, n).

    NaN where an anchor or image has no value. `groups`: the group of each image.
    """

    groups: Sequence[str]
    bpp: NDArray[np.float64]
    metrics: Mapping[str, NDArray[np.float64]]

    @classmethod
    def of_results(cls, results: Results) -> Images:
        """Of a sweep that has just ended."""
        rows = [results.rows[point.key] for point in results.points]
        names = {name for of_point in rows for row in of_point for name in row.metrics}
        return cls(
            results.groups,
            np.array([[row.bpp for row in of_point] for of_point in rows]),
            {
                name: np.array([[row.metrics.get(name, np.nan) for row in of_point] for of_point in rows])
                for name in names
            },
        )

    @classmethod
    def of_csv(cls, path: Path, summary: Mapping[str, Any]) -> Images:
        """Of images.csv beside a summary. Raises DataError if it is not there or does not belong to it."""
        points, pairs = summary["points"], summary["dataset"]["pairs"]
        try:
            with path.open(newline="") as file:
                rows = list(csv.DictReader(file))
            codecs = [point["codec"] for point in points for _ in range(pairs)]
            if [row["codec"] for row in rows] != codecs:
                raise ValueError("its rows are not those of the summary")
            names = [name for name in rows[0] if name in points[0]["metrics"]]

            def table(name: str) -> NDArray[np.float64]:
                return np.array([float(row[name] or "nan") for row in rows]).reshape(len(points), pairs)

            bpp = table("bpp")
            if not np.allclose(bpp.mean(axis=1), [point["bpp"] for point in points], rtol=1e-6):
                raise ValueError("its rates are not those of the summary")
            return cls([row["group"] for row in rows[:pairs]], bpp, {name: table(name) for name in names})
        except (OSError, ValueError, KeyError, IndexError) as error:
            raise DataError(f"{path} cannot be used with its summary ({error}); run evaluate.py again.") from None


def with_intervals(points: Sequence[Mapping[str, Any]], images: Images) -> list[Difference]:
    """`differences` of a summary's points, each BD-rate of an image metric with its 95 % interval.

    Metrics of sets of images have none, nor has a difference of which some replicates cannot be had.
    """

    @cache
    def bootstrap(chosen: tuple[int, ...]) -> ClusterBootstrap:
        return ClusterBootstrap([images.groups[i] for i in chosen], draws=DRAWS)

    def interval(metric: str, reference: Curve, test: Curve) -> Interval | None:
        values = images.metrics.get(metric)
        if values is None:
            return None
        # The images that have a value at every point, which are those that the curves' means are over.
        chosen = np.flatnonzero(np.isfinite(values[[*reference.places, *test.places]]).all(axis=0))
        if not len(chosen):
            return None

        def resampled(curve: Curve, weights: NDArray[np.float64]) -> Curve:
            share = weights / weights.sum()
            bpp, quality = (figures[list(curve.places)][:, chosen] @ share for figures in (images.bpp, values))
            return replace(curve, bpp=tuple(bpp), values=tuple(quality))

        def rate(weights: NDArray[np.float64]) -> float:
            found, _ = bd_rate(resampled(reference, weights), resampled(test, weights), metric)
            return float("nan") if found is None else found

        return bootstrap(tuple(chosen)).statistic(rate)

    return differences(points, interval)
