"""The report's tables, and how figures are written in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from utils.evaluation.summary import Results
from utils.metrics.bootstrap import ClusterBootstrap
from utils.metrics.info import METRICS, MetricInfo
from utils.report.rd import (
    ANCHOR_LABELS,
    Difference,
    count_of,
    images_of,
    interval_of,
    metrics_of,
    notes_of,
    value_of,
)

PointEntry = Mapping[str, Any]
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


def milliseconds(value: float) -> str:
    """A time in milliseconds."""
    return f"{value:.1f}" if value < 100 else f"{value:.0f}"


def heading(info: MetricInfo) -> str:
    """A metric's name, unit and better direction, for the head of a table column or chart."""
    unit = f"<small>{escape(info.unit)}</small> " if info.unit else ""
    arrow, title = ("\u2191", "higher is better") if info.higher_is_better else ("\u2193", "lower is better")
    return f'{escape(info.label)} <span class="unit" title="{title}">{unit}{arrow}</span>'


def setting(point: Mapping[str, Any]) -> str:
    """What sets a point apart on its curve: rate, lambda, or an anchor's quality."""
    if point["codec"] in ANCHOR_LABELS:
        return f"quality {round(100 * point['rate'])}"
    if point["rate"] is None:
        return f"λ {point['lambda']:g}"
    return f"rate {point['rate']:g}"


def name(point: Mapping[str, Any]) -> str:
    """A point's method."""
    return ANCHOR_LABELS.get(point["codec"], point["codec"])


def points_table(points: Sequence[PointEntry]) -> str:
    """Every point with its rate, times, and each metric with its interval."""
    infos = metrics_of(points)
    noted = {n for p in points for n, entry in p["metrics"].items() if "note" in entry}
    head = ["Method", "Setting", "Side image", "bpp <small>of files</small>", "bpp <small>estimated</small>"]
    head += ["Encode <small>ms</small>", "Decode <small>ms</small>"]
    counts = {info.name: f" <small>{n}</small>" if (n := images_of(points, info.name)) else "" for info in infos}
    head += [heading(info) + ("†" if info.name in noted else "") + counts[info.name] for info in infos]
    rows = []
    for i, point in enumerate(points):
        anchor = point["codec"] in ANCHOR_LABELS
        estimated = point["bpp_estimated"]
        cells = [
            f'<th scope="row">{escape(name(point))}</th>',
            f"<td>{escape(setting(point))}</td>",
            f"<td>{escape(point['side'] or '–')}</td>",
            f"<td>{point['bpp']:.4f}</td>",
            f"<td>{estimated:.4f}<small>{percent(100 * (point['bpp'] / estimated - 1))}</small></td>"
            if estimated
            else "<td>–</td>",
            f"<td>{milliseconds(point['encode_ms'])}</td>",
            f"<td>{milliseconds(point['decode_ms'])}</td>",
            *(_metric_cell(info.name, point["metrics"].get(info.name)) for info in infos),
        ]
        starts = i and points[i - 1]["codec"] != point["codec"]
        rows.append(f'<tr class="{"anchor " if anchor else ""}{"start" if starts else ""}">{"".join(cells)}</tr>')
    foot = "".join(f"<p class='foot'>† {escape(note)}</p>" for note in notes_of(points, list(METRICS)))
    return _table(head, rows) + foot


def _metric_cell(metric: str, entry: PointEntry | None) -> str:
    value, interval = value_of(entry), interval_of(entry)
    if value is None:
        return f'<td title="{escape((entry or {}).get("unavailable", "not measured"))}">–</td>'
    small = f"<small>{number(metric, interval[0])}–{number(metric, interval[1])}</small>" if interval else ""
    return f"<td>{number(metric, value)}{count_of(entry)}{small}</td>"


def differences_table(found: Sequence[Difference]) -> str:
    """BD-rates and BD-qualities: a row a metric, a column a reference; why where there is none."""
    if not found:
        return '<p class="foot">There are not two curves to compare.</p>'
    reasons = {reason for d in found for reason in (d.reason_rate, d.reason_quality)}
    if len(reasons) == 1 and "" not in reasons:
        return f'<p class="foot">There are none: {escape(reasons.pop())}.</p>'
    parts = []
    for test in dict.fromkeys(d.test for d in found):
        mine = [d for d in found if d.test == test]
        references = list(dict.fromkeys(d.reference for d in mine))
        head = [f"{escape(test)} against", *(escape(reference) for reference in references)]
        rows = []
        for metric in dict.fromkeys(d.metric for d in mine):
            by_reference = {d.reference: d for d in mine if d.metric == metric}
            count = next(iter(by_reference.values())).count
            cells = "".join(_difference_cell(by_reference.get(reference)) for reference in references)
            rows.append(f'<tr><th scope="row">{heading(METRICS[metric])}{count}</th>{cells}</tr>')
        parts.append(_table(head, rows))
    return "".join(parts)


def _difference_cell(difference: Difference | None) -> str:
    if difference is None:
        return "<td>–</td>"
    better = METRICS[difference.metric].higher_is_better
    if difference.rate is None:
        rate = f'<span class="none">no BD-rate: {escape(difference.reason_rate)}</span>'
    else:
        word = "good" if difference.rate < 0 else "bad"
        sure = difference.rate_interval
        between = f"{percent(sure[0])} to {percent(sure[1])}, " if sure else ""
        over = f'<span class="over">{between}over {difference.quality_overlap:.0%}</span>'
        rate = f'<b class="{word}">{percent(difference.rate)}</b> {over}'
    if difference.quality is None:
        quality = f'<small class="none">no BD-quality: {escape(difference.reason_quality)}</small>'
    else:
        word = "good" if (difference.quality > 0) == better else "bad"
        unit = METRICS[difference.metric].unit
        text = f"{signed(difference.metric, difference.quality)} {escape(unit)}".strip()
        quality = f'<small><span class="{word}">{text}</span> over {difference.rate_overlap:.0%}</small>'
    return f"<td>{rate}{quality}</td>"


def side_table(results: Results) -> str:
    """Decodings of the same files with different side images, and paired differences from the correct one."""
    points = results.summary["points"]
    infos = metrics_of(points)
    rows: list[str] = []
    for i, base in enumerate(points):
        if base["side"] != "correct":
            continue
        variants = [
            j for j, p in enumerate(points)
            if j != i and all(p[k] == base[k] for k in ("codec", "checkpoint", "lambda", "rate", "steps", "gamma"))
        ]  # fmt: skip
        for j in [i, *variants] if variants else []:
            cells = [
                f'<th scope="row">{escape(points[j]["side"])}</th>',
                f"<td>{escape(name(base))}, {setting(base)}</td>",
            ]
            cells.append(f"<td>{points[j]['bpp']:.4f}</td>")
            cells += [_paired_cell(results, info.name, i, j) for info in infos]
            rows.append(f"<tr{' class=start' if j == i and rows else ''}>{''.join(cells)}</tr>")
    if not rows:
        return ""
    return _table(["Side image", "Files", "bpp", *(heading(info) for info in infos)], rows)


def paired_difference(
    results: Results, metric: str, base: int, other: int
) -> tuple[float, tuple[float, float] | None] | None:
    """Mean of (base - other) in an image metric over the images that have both, and its 95 % interval by groups.

    None if no image has both.
    """
    columns = [results.rows[results.points[place].key] for place in (base, other)]
    pairs = [
        (a.metrics[metric], b.metrics[metric], group)
        for a, b, group in zip(*columns, results.groups, strict=True)
        if metric in a.metrics and metric in b.metrics
    ]
    if not pairs:
        return None
    difference = np.array([a - b for a, b, _ in pairs])
    return float(difference.mean()), ClusterBootstrap([group for *_, group in pairs]).mean(difference)


def _paired_cell(results: Results, metric: str, base: int, other: int) -> str:
    points = results.summary["points"]
    entry = points[other]["metrics"].get(metric)
    value, correct = (value_of(e) for e in (entry, points[base]["metrics"].get(metric)))
    if value is None or correct is None:
        return "<td>–</td>"
    if base == other:
        return f"<td>{number(metric, value)}{count_of(entry)}</td>"
    change, interval = paired_difference(results, metric, other, base) or (value - correct, None)
    worse = (change < 0) == METRICS[metric].higher_is_better
    small = f'<span class="{"bad" if worse else "good"}">{signed(metric, change)}</span>'
    if interval:
        small += f"<br>{signed(metric, interval[0])} to {signed(metric, interval[1])}"
    return f"<td>{number(metric, value)}{count_of(entry)}<small>{small}</small></td>"


def missing_list(points: Sequence[PointEntry]) -> str:
    """Metrics and points that could not be had, or not of every image, each with the reason and the remedy."""
    reasons: dict[str, list[str]] = {}
    for point in points:
        for metric, entry in point["metrics"].items():
            if reason := entry.get("unavailable") or entry.get("left_out"):
                labels = reasons.setdefault(reason, [])
                label = METRICS[metric].label
                labels += [] if label in labels else [label]
    return "".join(
        f"<li><b>{escape(', '.join(labels))}</b>: {escape(reason)}</li>" for reason, labels in reasons.items()
    )


_MEANINGS = (
    ("bpp", "Bits per pixel: 8 × the bytes of the file, header and checksum included, / (height × width), averaged."),
    (
        "bpp estimated",
        "The entropy model's estimate for the same symbols, and by how much the files exceed it. Codecs without an "
        "entropy model have none.",
    ),
    (
        "Setting",
        "Rate 0 is the smallest file of a variable-rate model and 1 the largest; anchors have a quality of their own.",
    ),
    (
        "Side image",
        "What the decoder holds beside the file: the correct view; none (the learned null input, or a model without "
        "side information); shuffled (another group's, the same in every run); jpeg:Q (the correct view after JPEG).",
    ),
    (
        "Encode, decode",
        "Milliseconds for one image, median over the images, on the device below, after one warm-up, without file "
        "access. Other load on the machine is in them.",
    ),
    (
        "95 % intervals",
        "Cluster bootstrap over groups (recordings, cities): images of one group are not independent samples. A "
        "BD-rate's is of both curves with the same images drawn.",
    ),
    (
        "BD-rate, BD-quality",
        "Bjøntegaard differences: the mean change of rate at equal quality (negative: fewer bits), and of quality at "
        "equal rate, over the part of the shorter curve that both cover, whose share is given.",
    ),
)


def meanings(points: Sequence[PointEntry]) -> str:
    """A line on what each number means."""
    lines = list(_MEANINGS)
    lines += [(METRICS[m].label, METRICS[m].meaning) for m in METRICS if any(m in point["metrics"] for point in points)]
    return "".join(f"<dt>{escape(term)}</dt><dd>{escape(text)}</dd>" for term, text in lines)


def _table(head: Sequence[str], rows: Sequence[str]) -> str:
    titles = "".join(f'<th scope="col">{title}</th>' for title in head)
    return f'<div class="scroll"><table><thead><tr>{titles}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'
