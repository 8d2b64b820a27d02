"""Bjontegaard differences between curves, with guards, intervals by a bootstrap over recordings, and a paired test."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from utils.evaluation.summary import Results
from utils.metrics.bootstrap import ClusterBootstrap, Interval, sign_flip
from utils.metrics.info import METRICS
from utils.report.rd import Curve, curves, metrics_of

MIN_POINTS = 4
"""Points that a Bjontegaard difference needs on each curve (Bjontegaard 2001, VCEG-M33, fits through four)."""
MIN_OVERLAP = 0.2
"""Share of the shorter of two curves that must lie in their common range."""
DRAWS = 500
"""Fewer than for means: each draw interpolates every curve anew."""
_OPTIONS = {"method": "pchip", "require_matching_points": False, "min_overlap": 0}


@dataclass(frozen=True)
class Difference:
    """A Bjontegaard difference of `test` against `reference` in one metric.

    `rate` in percent (negative: fewer bits at equal quality) over the common range of quality; `quality` in the
    metric's unit (its own sign: for a distance negative is better) over the common range of rate. None where it cannot
    be had, with the reason. The overlaps are the common range as a share of the shorter curve.
    """

    metric: str
    test: str
    reference: str
    rate: float | None
    quality: float | None
    rate_overlap: float
    quality_overlap: float
    reason_rate: str = ""
    reason_quality: str = ""
    rate_interval: Interval | None = None
    """95 %, over groups of images."""
    quality_interval: Interval | None = None
    p: float | None = None
    """Two-sided, of the sign-flip test over the groups' BD-qualities (`sign_flip`)."""
    recordings: int = 0
    """Groups that the test is over: those whose own curves share enough rates."""
    count: str = ""
    """`count_of` the figures compared."""

    def swapped(self) -> Difference:
        """The same difference of `reference` against `test`: the inverse factor of rate, and the negative quality."""

        def inverse(rate: float) -> float:
            return -100 * rate / (100 + rate)

        rates, gains = self.rate_interval, self.quality_interval
        return replace(
            self,
            test=self.reference,
            reference=self.test,
            rate=None if self.rate is None else inverse(self.rate),
            quality=None if self.quality is None else -self.quality,
            rate_interval=rates and (inverse(rates[1]), inverse(rates[0])),
            quality_interval=gains and (-gains[1], -gains[0]),
        )


def bjontegaard(reference: Curve, test: Curve, metric: str) -> Difference:
    """BD-rate and BD-quality of `test` against `reference`, by piecewise cubic (pchip) interpolation over log rate."""
    rates, values = _arrays(reference, test, metric)
    quality_overlap = _overlap(*values)
    rate_overlap = _overlap(*(np.log(r) for r in rates))
    rate, reason_rate = bd_rate(reference, test, metric)
    reason_quality = _guard(reference, test, values) or _too_little(rate_overlap, "rate")
    quality = None
    if not reason_quality:
        quality, reason_quality = _finite(_package("bd_psnr")(rates[0], values[0], rates[1], values[1], **_OPTIONS))
        quality = quality if quality is None or METRICS[metric].higher_is_better else -quality
    return Difference(
        metric, test.label, reference.label, rate, quality, rate_overlap, quality_overlap, reason_rate, reason_quality,
        count=next(iter(test.counts), ""),
    )  # fmt: skip


def bd_rate(reference: Curve, test: Curve, metric: str) -> tuple[float | None, str]:
    """The BD-rate alone, or None and the reason."""
    rates, values = _arrays(reference, test, metric)
    reason = _guard(reference, test, values) or _too_little(_overlap(*values), "quality") or _not_rising(values)
    if reason:
        return None, reason
    return _finite(_package("bd_rate")(rates[0], values[0], rates[1], values[1], **_OPTIONS))


def differences(
    points: Sequence[Mapping[str, Any]], images: Images | None = None, *, square: bool = False
) -> list[Difference]:
    """For every metric, each of our curves against every anchor, and against our curves before it.

    `square`: against our curves after it as well. A method's curves with further side images are compared with its
    first curve alone. Single points are no curves. With `images` the differences in an image metric have 95 % intervals
    and a test.
    """
    wanted: list[tuple[str, Curve, Curve]] = []
    for info in metrics_of(points):
        lines = [curve for curve in curves(points, info.name) if len(curve.bpp) > 1]
        ours = [curve for curve in lines if not curve.is_anchor]
        firsts: dict[str, Curve] = {}
        for test in ours:
            first = firsts.get(test.method)
            against = [first] if first else [*firsts.values(), *(c for c in lines if c.is_anchor)]
            firsts.setdefault(test.method, test)
            wanted += [(info.name, reference, test) for reference in against]
    result = []
    for metric, reference, test in tqdm(wanted, "BD-rates", unit="pair of curves", leave=False, disable=None):
        found = bjontegaard(reference, test, metric)
        if images is not None and (found.rate is not None or found.quality is not None):
            sure = images.certainty(metric, reference, test)
            # No interval and no test of what is not stated.
            hidden = ["rate_interval"] * (found.rate is None)
            hidden += ["quality_interval", "p", "recordings"] * (found.quality is None)
            found = replace(found, **{name: value for name, value in sure.items() if name not in hidden})
        result += [found, found.swapped()] if square and not reference.is_anchor else [found]
    return result


@dataclass(frozen=True)
class Images:
    """Figures of every image (n) at every point: bpp (points, n), each image metric (points, n).

    NaN where an anchor or image has no value. `groups`: the group of each image.
    """

    groups: Sequence[str]
    bpp: NDArray[np.float64]
    metrics: Mapping[str, NDArray[np.float64]]
    _cubics: dict[Any, list[_Cubics]] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def of(cls, results: Results) -> Images:
        """Of the rows of an evaluation, or of several that were merged."""
        rows = [results.rows[point.key] for point in results.points]
        names = dict.fromkeys(name for of_point in rows for row in of_point for name in row.metrics)
        bpp = np.array([[row.bpp for row in of_point] for of_point in rows])
        nan = float("nan")
        values = {n: np.array([[row.metrics.get(n, nan) for row in of_point] for of_point in rows]) for n in names}
        return cls(results.groups, bpp, values)

    def certainty(self, metric: str, reference: Curve, test: Curve) -> dict[str, Any]:
        """Fields of a Difference: 95 % intervals by drawing groups of images, and the paired test over groups.

        {} for metrics of sets of images. The test's statistic is the BD-quality of each group's mean curves.
        """
        values = self.metrics.get(metric)
        if values is None:
            return {}
        # The images that have a value at every point, which are those that the curves' means are over.
        chosen = np.flatnonzero(np.isfinite(values[[*reference.places, *test.places]]).all(axis=0))
        if not len(chosen):
            return {}
        groups = tuple(self.groups[i] for i in chosen)
        rates, gains = map(_mean_gap, *(self._curve(metric, curve, chosen, groups) for curve in (reference, test)))
        gains = gains if METRICS[metric].higher_is_better else -gains
        interval, (_, counts) = _bootstrap(groups).interval, np.unique(groups, return_counts=True)
        alone = gains[DRAWS:]
        compared = np.isfinite(alone)
        return {
            "rate_interval": interval(100 * np.expm1(np.log(10) * rates[:DRAWS])),
            "quality_interval": interval(gains[:DRAWS]),
            "p": sign_flip((alone * counts)[compared]),
            "recordings": int(compared.sum()),
        }

    def _curve(self, metric: str, curve: Curve, chosen: NDArray[np.intp], groups: tuple[str, ...]) -> list[_Cubics]:
        """Log rate over quality, and quality over log rate: of each draw, then of each group alone."""
        key = (metric, curve.places, chosen.tobytes())
        if key not in self._cubics:
            names, index = np.unique(groups, return_inverse=True)
            weights = np.concatenate([_bootstrap(groups).weights, np.eye(len(names))[:, index]])
            weights /= weights.sum(axis=1, keepdims=True)
            sign = 1.0 if METRICS[metric].higher_is_better else -1.0
            bpp, quality = (
                weights @ figures[list(curve.places)][:, chosen].T
                for figures in (self.bpp, sign * self.metrics[metric])
            )
            self._cubics[key] = [_Cubics(quality, np.log10(bpp)), _Cubics(np.log10(bpp), quality)]
        return self._cubics[key]


class _Cubics:
    """The monotone cubic through each row of x and y (draws, points), which SciPy's PchipInterpolator is, at once.

    Derivatives d at the points: Fritsch and Butland 1984 (SIAM J. Sci. Stat. Comput. 5, eq. 5) inside, and at the ends
    the three-point formula, limited so that the ends are monotone too. Rows where x does not rise are NaN.
    """

    def __init__(self, x: NDArray[np.float64], y: NDArray[np.float64]) -> None:
        rises = (np.diff(x) > 0).all(axis=1, keepdims=True)
        self.x, self.y = np.where(rises, x, np.nan), y
        self.h = h = np.diff(self.x)
        with np.errstate(divide="ignore", invalid="ignore"):
            slope = np.diff(self.y) / h
            left, right = slope[:, :-1], slope[:, 1:]
            w_left, w_right = h[:, :-1] + 2 * h[:, 1:], 2 * h[:, :-1] + h[:, 1:]
            inside = (w_left + w_right) / (w_left / left + w_right / right)
        inside = np.where(left * right > 0, inside, 0.0)
        first, last = (self._end(h[:, :2], slope[:, :2]), self._end(h[:, :-3:-1], slope[:, :-3:-1]))
        self.d = np.column_stack([first, inside, last])

    @staticmethod
    def _end(h: NDArray[np.float64], slope: NDArray[np.float64]) -> NDArray[np.float64]:
        """The derivative at an end, from the two intervals next to it, the nearer first."""
        (near, far), (h_near, h_far) = slope.T, h.T
        d = ((2 * h_near + h_far) * near - h_near * far) / (h_near + h_far)
        d = np.where((near * far < 0) & (np.abs(d) > 3 * np.abs(near)), 3 * near, d)
        return np.where(d * near > 0, d, 0.0)

    def integral(self, to: NDArray[np.float64]) -> NDArray[np.float64]:
        """From the first point to `to` (draws,), which lies between the ends."""
        h, (y0, y1), (d0, d1) = self.h, *((v[:, :-1], v[:, 1:]) for v in (self.y, self.d))
        s = np.clip((to[:, None] - self.x[:, :-1]) / h, 0, 1)  # how much of each interval lies below `to`
        # The four cubics of Hermite's basis on [0, 1], integrated from 0 to s.
        of_y = y0 * (s - s**3 + s**4 / 2) + y1 * (s**3 - s**4 / 2)
        of_d = d0 * (s**2 / 2 - 2 * s**3 / 3 + s**4 / 4) + d1 * (s**4 / 4 - s**3 / 3)
        return (h * (of_y + h * of_d)).sum(axis=1)


def _mean_gap(reference: _Cubics, test: _Cubics) -> NDArray[np.float64]:
    """Mean of test - reference over the common range, for each draw; NaN where that range is too short."""
    low, high = (f(reference.x[:, i], test.x[:, i]) for f, i in ((np.maximum, 0), (np.minimum, -1)))
    shorter = np.minimum(np.ptp(reference.x, axis=1), np.ptp(test.x, axis=1))
    areas = [curve.integral(high) - curve.integral(low) for curve in (reference, test)]
    with np.errstate(divide="ignore", invalid="ignore"):
        gap = (areas[1] - areas[0]) / (high - low)
    return np.where(high - low >= MIN_OVERLAP * shorter, gap, np.nan)


@cache
def _bootstrap(groups: tuple[str, ...]) -> ClusterBootstrap:
    return ClusterBootstrap(groups, draws=DRAWS)


def _arrays(reference: Curve, test: Curve, metric: str) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The rates of both curves, and their values turned so that higher is better."""
    better = 1.0 if METRICS[metric].higher_is_better else -1.0
    both = (reference, test)
    return [np.array(curve.bpp) for curve in both], [better * np.array(curve.values) for curve in both]


@cache
def _package(name: str) -> Any:
    import matplotlib

    matplotlib.use("Agg")  # the package imports pyplot
    import bjontegaard as package

    return getattr(package, name)


def _guard(reference: Curve, test: Curve, values: Sequence[np.ndarray]) -> str:
    few = min(len(reference.bpp), len(test.bpp))
    if few < MIN_POINTS:
        return f"a curve has {few} points; {MIN_POINTS} are needed"
    if len({*reference.counts, *test.counts}) > 1:
        return "the points are means over different numbers of images"
    if any((np.diff(curve.bpp) <= 0).any() for curve in (reference, test)):
        return "two points of a curve have the same rate"
    return "" if all(np.isfinite(v).all() for v in values) else "a value is not finite"


def _overlap(a: np.ndarray, b: np.ndarray) -> float:
    common = min(a.max(), b.max()) - max(a.min(), b.min())
    shorter = min(np.ptp(a), np.ptp(b))
    return max(0.0, float(common / shorter)) if shorter > 0 else 0.0


def _too_little(overlap: float, what: str) -> str:
    if overlap <= 0:
        return f"the curves share no {what}"
    return f"the curves share only {overlap:.0%} of their {what} range" if overlap < MIN_OVERLAP else ""


def _not_rising(values: Sequence[np.ndarray]) -> str:
    return "quality does not rise with rate" if any((np.diff(v) <= 0).any() for v in values) else ""


def _finite(value: float) -> tuple[float | None, str]:
    return (float(value), "") if math.isfinite(value) else (None, "the interpolation gave no finite value")
