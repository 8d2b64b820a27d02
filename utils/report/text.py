"""An evaluation's points and BD-rates as Markdown tables, for a terminal and for documents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from utils.report.rd import Difference, count_of, curves, images_of, interval_of, notes_of, value_of


def points_lines(points: Sequence[Mapping[str, Any]], metrics: Sequence[str], *, intervals: bool = True) -> list[str]:
    """A row a point. Steps and gamma have columns if the models' points differ in them."""
    settings = [name for name in ("steps", "gamma") if len({p[name] for p in points if p.get(name) is not None}) > 1]
    heads = [f"{name} ({n})" if (n := images_of(points, name)) else name for name in metrics]
    rows = [["method", "rate", *settings, "side image", "bpp", *heads]]
    for point in points:
        rate = point["rate"] if point["rate"] is not None else point.get("lambda")
        figures = [rate, *(point[name] for name in settings)]
        rows.append(
            [
                point["codec"],
                *("" if figure is None else f"{figure:.3g}" for figure in figures),
                point["side"] or "",
                f"{point['bpp']:.4f}",
                *(_entry(point["metrics"].get(name), intervals=intervals) for name in metrics),
            ]
        )
    return _table(rows)


def differences_lines(found: Sequence[Difference]) -> list[str]:
    """BD-rates in percent, negative for fewer bits at equal quality, with 95 % intervals over groups of images."""
    references = list(dict.fromkeys(d.reference for d in found))
    rows = [["BD-rate of", "in", *(f"against {name}" for name in references)]]
    for test, metric in dict.fromkeys((d.test, d.metric) for d in found):
        row = {d.reference: d for d in found if (d.test, d.metric) == (test, metric)}
        count = next(iter(row.values())).count
        rows.append([test, metric + count, *(_rate(row.get(name)) for name in references)])
    return _table(rows) if found else []


def footnotes(points: Sequence[Mapping[str, Any]], metrics: Sequence[str]) -> list[str]:
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


def _rate(difference: Difference | None) -> str:
    if difference is None or difference.rate is None:
        return "-"
    interval = difference.rate_interval
    return f"{difference.rate:+.1f} %" + (f" [{interval[0]:+.1f}, {interval[1]:+.1f}]" if interval else "")


def _entry(entry: Mapping[str, Any] | None, *, intervals: bool) -> str:
    """A value with the number of images it is over, if not all, and its 95 % interval, where it has one."""
    value, interval = value_of(entry), interval_of(entry) if intervals else None
    if value is None:
        return "-"
    mark = " †" if entry is not None and "note" in entry else ""
    return f"{value:.4g}{mark}{count_of(entry)}" + (f" [{interval[0]:.4g}, {interval[1]:.4g}]" if interval else "")


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    head, *body = (f"| {' | '.join(cells)} |" for cells in rows)
    return [head, "|" + "---|" * len(rows[0]), *body]
