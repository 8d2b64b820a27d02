"""Rate-distortion curves by matplotlib: the six panels of the field's papers, and a plot of each metric."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from utils.files import replacing
from utils.metrics.info import METRICS, SIX
from utils.report.rd import ANCHOR_LABELS, BARE, Curve, counts_of, curves, heading, metrics_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Points = Sequence[Mapping[str, Any]]
Published = Mapping[str, Sequence[Curve]]
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")
"""Our methods' colours, which colour-blind readers can tell apart (Okabe and Ito 2008). Anchors are grey."""
MARKERS = ("o", "s", "^", "X")
"""Of the first six methods, the next six, ..."""
PUBLISHED_PALETTE = ("#8c6d31", "#6b6ecf", "#b5446e", "#4f8a8b", "#7a7a3a")
ANCHOR_STYLES = {
    "vvc": ("#000000", "P", ":"),
    "avif": ("#333333", "s", "--"),
    "heic": ("#555555", "v", "-."),
    "jxl": ("#666666", "D", "--"),
    "webp": ("#777777", "^", "-."),
    "jpeg2000": ("#999999", "+", "--"),
    "jpeg": ("#aaaaaa", "x", ":"),
}
"""Colour, marker and dashes of each anchor, about the strongest first."""
SIDE_MARKERS = {"correct": "o", "none": "v", "shuffled": "D"}
SIX_PANEL = "rd_six_panel"
FORMATS = ("png", "pdf", "svg")


def write_figures(points: Points, out: Path, caption: str) -> None:
    """Write OUT/rd_six_panel.{png,pdf,svg}, and rd_<metric>.png for every metric that was measured."""
    write_figure(panels(points, SIX, caption), out / SIX_PANEL)
    for name in METRICS:
        if curves(points, name):
            _save(panels(points, [name], caption), out / f"rd_{name}.png")


def write_figure(figure: Figure, path: Path) -> None:
    """Write PATH.{png,pdf,svg}."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # laid out once for the three files
    for form in FORMATS:
        _save(figure, path.with_name(f"{path.name}.{form}"))


def embedded(points: Points, metrics: Sequence[str], published: Published | None = None) -> str:
    """The panels of some metrics as an SVG image in a data address."""
    buffer = io.BytesIO()
    _draw_to(panels(points, metrics, published=published), buffer, "svg")
    return "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode()


def panels(points: Points, metrics: Sequence[str], caption: str = "", published: Published | None = None) -> Figure:
    """A panel a metric against bpp, at most three a row, with one legend for all.

    Our methods come first and in colour, anchors in grey, decodings with another side image as markers of their own,
    published curves dashed. Bars are 95 % intervals. The panel of a metric that was not measured says so.
    """
    from matplotlib.figure import Figure

    columns = min(3, len(metrics))
    rows = math.ceil(len(metrics) / columns)
    size = (3.5 * columns, 2.6 * rows + 0.7) if columns > 1 else (6.0, 4.8)
    figure = Figure(figsize=size, layout="constrained")
    cells = figure.subplots(rows, columns, squeeze=False).flat
    handles: dict[str, Any] = {}
    # A method has one colour, whichever panels it is in.
    ours = [c.method for info in metrics_of(points) for c in curves(points, info.name) if not c.is_anchor]
    theirs = list(dict.fromkeys(curve.method for found in (published or {}).values() for curve in found))
    for cell, name in zip(cells, metrics, strict=False):
        _panel(cell, points, name, list(dict.fromkeys(ours)))
        for curve in (published or {}).get(name, ()):
            colour = PUBLISHED_PALETTE[theirs.index(curve.method) % len(PUBLISHED_PALETTE)]
            cell.plot(
                curve.bpp, curve.values, ".--", label=curve.label, linewidth=1, markersize=3, zorder=1, color=colour
            )
        artists, labels = cell.get_legend_handles_labels()
        handles |= dict(zip(labels, artists, strict=True))
    for cell in list(figure.axes)[len(metrics) :]:
        cell.set_axis_off()
    # Methods, anchors, published curves, in as many columns as fit.
    labels = sorted(handles, key=lambda label: (label in theirs, label in ANCHOR_LABELS.values()))
    for count in range(min(len(labels), 6), 0, -1):
        legend = figure.legend(
            [handles[label] for label in labels], labels, loc="outside upper center", ncols=count, frameon=False,
            fontsize=9, handlelength=2.8, columnspacing=1.5,
        )  # fmt: skip
        box = legend.get_tightbbox()
        if count == 1 or box is None or box.width < figure.bbox.width:
            break
        legend.remove()
    if caption:
        figure.supxlabel(caption, fontsize=8, color="#555555")
    return figure


def _panel(axes: Axes, points: Points, name: str, methods: Sequence[str]) -> None:
    found = curves(points, name)
    if any(curve.side in SIDE_MARKERS for curve in found):  # distorted side images stand in the tables
        found = [curve for curve in found if curve.side in (None, *SIDE_MARKERS)]
    axes.set_title(heading(points, name) + counts_of(points, name), fontsize=10)
    if not found:
        axes.text(0.5, 0.5, "not measured", ha="center", va="center", transform=axes.transAxes, color="#777777")
        axes.set(xticks=[], yticks=[])
        return
    order = [None, *ANCHOR_STYLES]
    for curve in sorted(found, key=lambda c: order.index(c.codec.removesuffix(BARE) if c.is_anchor else None)):
        _line(axes, curve, methods)
    axes.set_xlabel("bpp", fontsize=9)
    axes.set_xlim(left=0)
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.3, linewidth=0.6)


def _line(axes: Axes, curve: Curve, methods: Sequence[str]) -> None:
    """A curve with its intervals. Hollow: a single point with another side image; an anchor without its container."""
    bare = curve.codec.endswith(BARE)
    if curve.is_anchor:
        colour, marker, dashes = ANCHOR_STYLES[curve.codec.removesuffix(BARE)]
        marker = {"x": "o", "+": "D"}.get(marker, marker) if bare else marker  # one that can be hollow
    else:
        place = methods.index(curve.method)
        colour, marker, dashes = PALETTE[place % len(PALETTE)], MARKERS[place // len(PALETTE) % len(MARKERS)], "-"
        marker = SIDE_MARKERS.get(curve.side or "", "P") if len(curve.bpp) == 1 and curve.side != "correct" else marker
    hollow = bare or (len(curve.bpp) == 1 and curve.side not in (None, "correct"))
    errors = None
    if any(curve.intervals):
        bounds = [interval or (v, v) for interval, v in zip(curve.intervals, curve.values, strict=True)]
        # An interval by bootstrap need not hold the figure itself.
        sizes = [(v - low, high - v) for v, (low, high) in zip(curve.values, bounds, strict=True)]
        errors = np.maximum(np.array(sizes).T, 0)
    _, _, bars = axes.errorbar(
        curve.bpp, curve.values, errors, label=curve.label, color=colour, marker=marker,
        linestyle=dashes if len(curve.bpp) > 1 else "none", linewidth=1.2 if curve.is_anchor else 2.0, elinewidth=0.8,
        markersize=4 if curve.is_anchor else 5, markerfacecolor="white" if hollow else colour,
        zorder=2 if curve.is_anchor else 3,
    )  # fmt: skip
    for bar in bars:
        bar.set_alpha(0.45)


def _save(figure: Figure, path: Path) -> None:
    with replacing(path) as temporary, temporary.open("wb") as file:
        _draw_to(figure, file, path.suffix[1:])


def _draw_to(figure: Figure, file: IO[bytes], form: str) -> None:
    """Without the date, so that equal figures are equal files."""
    import matplotlib

    with matplotlib.rc_context({"svg.hashsalt": "rd", "pdf.fonttype": 42}):
        stamp = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(form)
        figure.savefig(file, format=form, dpi=150, metadata=stamp)
