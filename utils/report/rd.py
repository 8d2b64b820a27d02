"""Rate-distortion curves: grouping points, figures at equal rate, Bjontegaard differences with guards and intervals.

Works on the points of summary.json, so that it serves any evaluation that was kept. An interval of a BD-rate comes from
the cluster bootstrap over recordings, with both curves of the same resampled images.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from utils.errors import DataError
from utils.evaluation.anchors import LABELS as ANCHOR_LABELS
from utils.metrics.bootstrap import ClusterBootstrap, Interval
from utils.metrics.info import METRICS, MetricInfo

MIN_POINTS = 4
"""Points that a Bjontegaard difference needs on each curve (Bjontegaard 2001, VCEG-M33, fits through four)."""
MIN_OVERLAP = 0.2
"""Share of the shorter of two curves that must lie in their common range."""
DRAWS = 500
"""Fewer than for means: a replicate takes a millisecond."""


@dataclass(frozen=True)
class Curve:
    """The points of one method under one decoding, by rate: bpp, values of one metric, their 95 % intervals or None."""

    codec: str
    side: str | None
    decoding: str
    """What of steps and gamma sets it apart from the codec's other curves, for example ", 4 steps"."""
    bpp: tuple[float, ...]
    values: tuple[float, ...]
    intervals: tuple[Interval | None, ...]
    places: tuple[int, ...] = ()
    """Of the points in the summary."""
    counts: tuple[str, ...] = ()
    """`count_of` each point's figure; `bpp` is the rate of the same images."""

    @property
    def is_anchor(self) -> bool:
        """Whether this is a conventional codec."""
        return self.codec in ANCHOR_LABELS

    @property
    def method(self) -> str:
        """Name of the codec with this decoding."""
        return ANCHOR_LABELS.get(self.codec, self.codec) + self.decoding

    @property
    def label(self) -> str:
        """Name in a legend."""
        return self.method + ("" if self.side in (None, "correct") else f", side {self.side}")


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
    count: str = ""
    """`count_of` the figures compared."""


def value_of(entry: Mapping[str, Any] | None) -> float | None:
    """The figure of a metric's entry: its mean, or the value of a set metric; None if unavailable."""
    if entry is None or "unavailable" in entry:
        return None
    return float(entry["mean"] if "mean" in entry else entry["value"])


def interval_of(entry: Mapping[str, Any] | None) -> Interval | None:
    """The 95 % interval of an entry, None if it has none."""
    if entry is None or entry.get("ci95") is None:
        return None
    low, high = entry["ci95"]
    return float(low), float(high)


def count_of(entry: Mapping[str, Any] | None) -> str:
    """ " (n of N)" behind a figure that is a mean over n of N images, the others having no value; "" for all."""
    return f" ({entry['n']} of {entry['of']})" if entry is not None and "of" in entry else ""


def counts_of(points: Sequence[Mapping[str, Any]], metric: str) -> str:
    """`count_of` all points that have `metric` together: "" if it is always over all images."""
    return ",".join(sorted({count_of(point["metrics"].get(metric)) for point in points} - {""}))


def images_of(points: Sequence[Mapping[str, Any]], metric: str) -> str:
    """The words n = 36 for a metric of sets, whose figures need them; "" for others, or where points differ in n."""
    counts = {point["metrics"].get(metric, {}).get("n") for point in points} - {None}
    return f"n = {counts.pop()}" if METRICS[metric].scope == "set" and len(counts) == 1 else ""


def notes_of(points: Sequence[Mapping[str, Any]], metrics: Sequence[str]) -> list[str]:
    """The footnotes of what is marked with a †: metrics that share a network with a model's training loss."""
    return sorted({e["note"] for p in points for name in metrics if "note" in (e := p["metrics"].get(name, {}))})


def heading(points: Sequence[Mapping[str, Any]], metric: str) -> str:
    """A metric's label, unit, better direction, † if a note belongs to it, and the number of images if it has one."""
    info = METRICS[metric]
    unit, arrow = f" ({info.unit})" if info.unit else "", "\u2191" if info.higher_is_better else "\u2193"
    n = images_of(points, metric)
    return f"{info.label}{unit} {arrow}{' †' * bool(notes_of(points, [metric]))}{n and f', {n}'}"


def metrics_of(points: Sequence[Mapping[str, Any]]) -> list[MetricInfo]:
    """The metrics that at least one point has a figure for."""
    return [
        info
        for name, info in METRICS.items()
        if any(value_of(point["metrics"].get(name)) is not None for point in points)
    ]


def curves(points: Sequence[Mapping[str, Any]], metric: str) -> list[Curve]:
    """The points of a summary that have `metric`, as curves: grouped by codec and decoding, in order, sorted by rate.

    Fixed-rate checkpoints that differ only in lambda share a codec's name, and so a curve.
    """
    grouped: dict[tuple[Any, ...], list[int]] = {}
    for place, point in enumerate(points):
        if value_of(point["metrics"].get(metric)) is not None:
            grouped.setdefault((point["codec"], point["side"], _decoding(points, point)), []).append(place)
    result = []
    for (codec, side, decoding), places in grouped.items():
        bpp = {place: float(points[place]["metrics"][metric].get("bpp", points[place]["bpp"])) for place in places}
        places = sorted(places, key=lambda place: bpp[place])
        entries = [points[place]["metrics"][metric] for place in places]
        result.append(
            Curve(
                codec,
                side,
                decoding,
                tuple(bpp[place] for place in places),
                tuple(float(value_of(entry) or 0.0) for entry in entries),
                tuple(interval_of(entry) for entry in entries),
                tuple(places),
                tuple(count_of(entry) for entry in entries),
            )
        )
    return result


def _decoding(points: Sequence[Mapping[str, Any]], point: Mapping[str, Any]) -> str:
    mine = [other for other in points if other["codec"] == point["codec"]]
    differ = {name for name in ("steps", "gamma") if len({other[name] for other in mine}) > 1}
    steps = f", {point['steps']} step{'s' * (point['steps'] != 1)}" if "steps" in differ else ""
    return steps + (f", gamma {point['gamma']:g}" if "gamma" in differ else "")


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


def differences(points: Sequence[Mapping[str, Any]], images: Images | None = None) -> list[Difference]:
    """For every metric, each of our curves against every anchor, and against our curves before it.

    A method's curves with further side images are compared with its first curve alone. Single points are no curves.
    With `images` each BD-rate of an image metric has its 95 % interval.
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
        if images is not None and found.rate is not None:
            found = replace(found, rate_interval=images.interval(metric, reference, test))
        result.append(found)
    return result


def value_at(curve: Curve, bpp: float) -> float | None:
    """The figure of a curve at a rate, linear in log rate between its points; None beyond its ends."""
    if not curve.bpp[0] <= bpp <= curve.bpp[-1]:
        return None
    return float(np.interp(np.log(bpp), np.log(curve.bpp), curve.values))


@dataclass(frozen=True)
class Images:
    """Figures of every image (n) at every point of a summary: bpp (points, n), each image metric (points, n).

    NaN where an anchor or image has no value. `groups`: the group of each image.
    """

    groups: Sequence[str]
    bpp: NDArray[np.float64]
    metrics: Mapping[str, NDArray[np.float64]]

    def interval(self, metric: str, reference: Curve, test: Curve) -> Interval | None:
        """The 95 % interval of the BD-rate, by drawing groups of images; None for metrics of sets of images."""
        values = self.metrics.get(metric)
        if values is None:
            return None
        # The images that have a value at every point, which are those that the curves' means are over.
        chosen = np.flatnonzero(np.isfinite(values[[*reference.places, *test.places]]).all(axis=0))
        if not len(chosen):
            return None

        def resampled(curve: Curve, weights: NDArray[np.float64]) -> Curve:
            share = weights / weights.sum()
            bpp, quality = (figures[list(curve.places)][:, chosen] @ share for figures in (self.bpp, values))
            return replace(curve, bpp=tuple(bpp), values=tuple(quality))

        def rate(weights: NDArray[np.float64]) -> float:
            found, _ = bd_rate(resampled(reference, weights), resampled(test, weights), metric)
            return float("nan") if found is None else found

        return _bootstrap(tuple(self.groups[i] for i in chosen)).statistic(rate)

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


@cache
def _bootstrap(groups: tuple[str, ...]) -> ClusterBootstrap:
    return ClusterBootstrap(groups, draws=DRAWS)


_OPTIONS = {"method": "pchip", "require_matching_points": False, "min_overlap": 0}


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
