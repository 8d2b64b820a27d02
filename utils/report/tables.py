"""An evaluation's tables: rows of cells, which the report and, by `markdown`, terminals and documents show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from utils.evaluation.summary import Results
from utils.metrics.bootstrap import ClusterBootstrap, Interval
from utils.metrics.info import METRICS
from utils.report.bd import Difference
from utils.report.rd import (
    ANCHOR_LABELS,
    count_of,
    curves,
    heading,
    images_of,
    interval_of,
    metrics_of,
    notes_of,
    value_of,
)

Cell = str | tuple[str, str]
"""A text, or a figure and the small print beside it."""
Rows = list[list[Cell]]
"""The head first."""
Points = Sequence[Mapping[str, Any]]
MINUS = "\u2212"


def number(metric: str, value: float) -> str:
    """A metric's figure with as many decimals as mean something."""
    return f"{value:.{METRICS[metric].decimals}f}".replace("-", MINUS)


def signed(metric: str, value: float) -> str:
    """The same with its sign."""
    return f"{value:+.{METRICS[metric].decimals}f}".replace("-", MINUS)


def percent(value: float) -> str:
    """A signed percentage with one decimal."""
    return f"{value:+.1f} %".replace("-", MINUS)


def markdown(rows: Rows) -> list[str]:
    """The lines of a Markdown table."""
    if len(rows) < 2:
        return []
    texts = [[cell if isinstance(cell, str) else " ".join(filter(None, cell)) for cell in row] for row in rows]
    head, *body = (f"| {' | '.join(row)} |" for row in texts)
    return [head, "|" + "---|" * len(rows[0]), *body]


def points_rows(points: Points, metrics: Sequence[str], *, intervals: bool = True, full: bool = False) -> Rows:
    """A row a point. Steps and gamma have columns if the models' points differ in them.

    `full`: with times, the entropy model's estimate, and by how much the files exceed it.
    """
    settings = [name for name in ("steps", "gamma") if len({p[name] for p in points if p.get(name) is not None}) > 1]
    heads = [f"{name} ({n})" if (n := images_of(points, name)) else name for name in metrics]
    heads = [heading(points, name) for name in metrics] if full else heads
    more = ["bpp estimated", "ms to encode", "ms to decode"] if full else []
    rows: Rows = [["method", "rate", *settings, "side image", "bpp", *more, *heads]]
    for point in points:
        rate = f"λ {point['lambda']:.3g}" if point["rate"] is None else f"{point['rate']:.3g}"
        cells: list[Cell] = [point["codec"], setting(point) if full else rate]
        cells += ["" if point[name] is None else f"{point[name]:.3g}" for name in settings]
        cells += [point["side"] or "", f"{point['bpp']:.4f}"]
        if full:
            bits = point["bpp_estimated"]
            cells.append((f"{bits:.4f}", percent(100 * (point["bpp"] / bits - 1))) if bits else "-")
            cells += [f"{point['encode_ms']:.1f}", f"{point['decode_ms']:.1f}"]
        rows.append([*cells, *(_entry(point["metrics"].get(name), intervals) for name in metrics)])
    return rows


def setting(point: Mapping[str, Any]) -> str:
    """What sets a point apart on its curve: rate, lambda, or an anchor's quality."""
    if point["codec"] in ANCHOR_LABELS:
        return f"quality {round(100 * point['rate'])}"
    return f"λ {point['lambda']:g}" if point["rate"] is None else f"rate {point['rate']:g}"


def differences_rows(found: Sequence[Difference], *, full: bool = False) -> Rows:
    """BD-rates in percent, negative for fewer bits at equal quality, with 95 % intervals over groups of images.

    `full`: with BD-qualities, the common ranges, and why there is none where there is none.
    """
    references = list(dict.fromkeys(d.reference for d in found))
    rows: Rows = [["BD-rate of", "in", *(f"against {name}" for name in references)]]
    for test, metric in dict.fromkeys((d.test, d.metric) for d in found):
        row = {d.reference: d for d in found if (d.test, d.metric) == (test, metric)}
        cells = [_difference(row.get(name), full) for name in references]
        rows.append([test, metric + next(iter(row.values())).count, *cells])
    return rows


def side_rows(results: Results) -> Rows:
    """The same files with different side images: figures, and the paired change from the correct side image."""
    points = results.summary["points"]
    metrics = [info.name for info in metrics_of(points)]
    rows: Rows = [["files", "side image", "bpp", *(heading(points, name) for name in metrics)]]
    for base, others in side_variants(points):
        for place in [base, *others]:
            point = points[place]
            files = f"{point['codec']}, {setting(point)}, steps {point['steps']}, gamma {point['gamma']:g}"
            cells = [_change(results, name, base, place) for name in metrics]
            rows.append([files, point["side"], f"{point['bpp']:.4f}", *cells])
    return rows


def side_variants(points: Points) -> list[tuple[int, list[int]]]:
    """Places of the points with the correct side image, each with those of the same files decoded with another."""
    same = ("codec", "checkpoint", "lambda", "rate", "steps", "gamma")
    found = []
    for base, correct in enumerate(points):
        others = [j for j, p in enumerate(points) if j != base and all(p[key] == correct[key] for key in same)]
        found += [(base, others)] if correct["side"] == "correct" and others else []
    return found


def side_changes(results: Results) -> list[dict[str, Any]]:
    """The change of every metric from the correct side image to another: a record for each, with its 95 % interval."""
    points = results.summary["points"]
    records = []
    for info in metrics_of(points):
        for base, others in side_variants(points):
            for place in others:
                correct, value = (value_of(points[i]["metrics"].get(info.name)) for i in (base, place))
                if correct is None or value is None:
                    continue
                change, interval = paired_difference(results, info.name, place, base) or (value - correct, None)
                low, high = interval or (None, None)
                point = points[place]
                files = {"method": point["codec"], "files": setting(point), "bpp": point["bpp"], "metric": info.name}
                settings = {"steps": point["steps"], "gamma": point["gamma"], "side": point["side"]}
                figures = {"correct": correct, "change": change, "low": low, "high": high}
                records.append(files | settings | figures)
    return records


def side_matrix(changes: Sequence[Mapping[str, Any]], metric: str) -> Rows:
    """A row for the files of a method, a column for each side image: changes of one metric from the correct one."""
    mine = [change for change in changes if change["metric"] == metric]
    sides = list(dict.fromkeys(change["side"] for change in changes))
    rows: Rows = [["method", "files", "bpp", "correct", *sides]]
    names = ("method", "files", "steps", "gamma", "bpp", "correct")
    for files in dict.fromkeys(tuple(change[name] for name in names) for change in mine):
        of_files = {c["side"]: c for c in mine if tuple(c[name] for name in names) == files}
        cells: list[Cell] = []
        for side in sides:
            change = of_files.get(side)
            sure = (change["low"], change["high"]) if change and change["low"] is not None else None
            between = f"{signed(metric, sure[0])} to {signed(metric, sure[1])}" if sure else ""
            cells.append((signed(metric, change["change"]), between) if change else "-")
        method, setting_, steps, gamma, bpp, correct = files
        text = f"{setting_}, steps {steps}, gamma {gamma:g}"
        rows.append([method, text, f"{bpp:.4f}", number(metric, correct), *cells])
    return rows


def paired_difference(results: Results, metric: str, base: int, other: int) -> tuple[float, Interval | None] | None:
    """Mean of (base - other) in an image metric over the images that have both, and its 95 % interval by groups.

    None if no image has both.
    """
    columns = [results.rows[results.points[place].key] for place in (base, other)]
    pairs = [
        (a.metrics[metric] - b.metrics[metric], group)
        for a, b, group in zip(*columns, results.groups, strict=True)
        if metric in a.metrics and metric in b.metrics
    ]
    if not pairs:
        return None
    difference = np.array([value for value, _ in pairs])
    return float(difference.mean()), ClusterBootstrap([group for _, group in pairs]).mean(difference)


def footnotes(points: Points, metrics: Sequence[str]) -> list[str]:
    """What a reader of a table or figure of `metrics` must know: what FIDs compare with, their floor, what † means."""
    marks = [f"† {note}" for note in notes_of(points, metrics)]
    ours = [curve for curve in curves(points, "fid") if not curve.is_anchor]
    if "fid" not in metrics or not ours:
        return marks
    middle = points[ours[0].places[(len(ours[0].places) - 1) // 2]]
    entry = middle["metrics"]["fid"]
    halves = entry["halves"]
    fid = (
        f"FID is of n = {entry['n']} images and can be compared with nothing but FIDs of the same images. "
        f"Its floor: two disjoint halves of the originals, {halves['n']} images each, are {halves['originals']:.1f} "
        f"apart (mean over 10 random halvings). At those {halves['n']} images, {middle['codec']} at "
        f"{middle['bpp']:.3f} bpp is {halves['value']:.1f} from its originals."
    )
    return [fid, *marks]


def reasons(points: Points) -> dict[str, list[str]]:
    """Why metrics could not be had, or not of every image: reason and remedy -> the labels of the metrics."""
    found: dict[str, dict[str, None]] = {}
    for point in points:
        for metric, entry in point["metrics"].items():
            if reason := entry.get("unavailable") or entry.get("left_out"):
                found.setdefault(reason, {})[METRICS[metric].label] = None
    return {reason: list(labels) for reason, labels in found.items()}


def _entry(entry: Mapping[str, Any] | None, intervals: bool = True) -> Cell:
    """A value with the number of images it is over, if not all, and its 95 % interval, where it has one."""
    value, interval = value_of(entry), interval_of(entry) if intervals else None
    if value is None:
        return "-"
    mark = " †" if entry is not None and "note" in entry else ""
    return f"{value:.4g}{mark}{count_of(entry)}", _between(interval, ".4g")


def _between(interval: Interval | None, form: str) -> str:
    return f"[{interval[0]:{form}}, {interval[1]:{form}}]" if interval else ""


def _difference(found: Difference | None, full: bool) -> Cell:
    if found is None or (found.rate is None and not full):
        return "-"
    rate = f"no BD-rate: {found.reason_rate}" if found.rate is None else f"{found.rate:+.1f} %"
    small = _between(found.rate_interval, "+.1f")
    if not full:
        return rate, small
    over = [f"{small} over {found.quality_overlap:.0%}".strip()] if found.rate is not None else []
    if found.quality is None:
        over.append(f"no BD-quality: {found.reason_quality}")
    else:
        info = METRICS[found.metric]
        gain = (signed(found.metric, found.quality), info.unit, f"over {found.rate_overlap:.0%}")
        over.append(" ".join(filter(None, gain)))
        over.append(_between(found.quality_interval, f"+.{info.decimals}f"))
    if found.p is not None:
        over.append(f"p = {found.p:.2g} ({found.recordings} groups)")
    return rate, "\n".join(filter(None, over))


def _change(results: Results, metric: str, base: int, place: int) -> Cell:
    points = results.summary["points"]
    cell = _entry(points[place]["metrics"].get(metric), intervals=False)
    correct, value = (value_of(points[i]["metrics"].get(metric)) for i in (base, place))
    if base == place or correct is None or value is None:
        return cell
    change, interval = paired_difference(results, metric, place, base) or (value - correct, None)
    between = f" ({signed(metric, interval[0])} to {signed(metric, interval[1])})" if interval else ""
    return cell[0], signed(metric, change) + between
