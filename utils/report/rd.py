"""Rate-distortion curves: grouping points, what stands beside a figure, figures at equal rate.

Works on the points of summary.json, so that it serves any evaluation that was kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from utils.evaluation.anchors import LABELS
from utils.metrics.bootstrap import Interval
from utils.metrics.info import METRICS, MetricInfo

BARE = "_bare"
"""What ends the codec's name of an anchor's points without the container's constant bytes."""
ANCHOR_LABELS = LABELS | {name + BARE: f"{label} without container" for name, label in LABELS.items()}


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


def value_at(curve: Curve, bpp: float) -> float | None:
    """The figure of a curve at a rate, linear in log rate between its points; None beyond its ends."""
    if not curve.bpp[0] <= bpp <= curve.bpp[-1]:
        return None
    return float(np.interp(np.log(bpp), np.log(curve.bpp), curve.values))
