"""Rate-distortion curves as inline SVG: it takes the page's colours, light and dark, and shows values on hover."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from utils.evaluation.rd import ANCHOR_LABELS, Curve
from utils.metrics.info import METRICS
from utils.report.format import number

WIDTH, HEIGHT = 420, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 10, 12, 40


def css_class(curve: Curve, methods: Sequence[str]) -> str:
    """Class that colours a curve: an anchor's own, or the place of the method among our curves."""
    return f"k-{curve.codec}" if curve.codec in ANCHOR_LABELS else f"k{methods.index(curve.codec) % 4}"


def shape(curve: Curve) -> str:
    """Marker shape: anchors square; ours by side image, round for the correct one."""
    if curve.is_anchor:
        return "square"
    return {"correct": "circle", "none": "down", "shuffled": "diamond"}.get(curve.side or "", "up")


def chart(found: Sequence[Curve], metric: str, methods: Sequence[str]) -> str:
    """One metric's curves as an SVG element."""
    info = METRICS[metric]
    x_max = max(max(curve.bpp) for curve in found) * 1.04
    lows = [i[0] if i else v for curve in found for i, v in zip(curve.intervals, curve.values, strict=True)]
    highs = [i[1] if i else v for curve in found for i, v in zip(curve.intervals, curve.values, strict=True)]
    pad = 0.05 * (max(highs) - min(lows) or 1.0)
    y_min, y_max = min(lows) - pad, max(highs) + pad

    def place(x: float, y: float) -> tuple[float, float]:
        across, up = x / x_max, (y - y_min) / (y_max - y_min)
        return _LEFT + across * (WIDTH - _LEFT - _RIGHT), HEIGHT - _BOTTOM - up * (HEIGHT - _TOP - _BOTTOM)

    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(info.label)} against rate">']
    right, bottom = WIDTH - _RIGHT, HEIGHT - _BOTTOM
    for tick in ticks(0.0, x_max):
        x, _ = place(tick, y_min)
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{bottom}"/>')
        parts.append(f'<text class="tick" x="{x:.1f}" y="{bottom + 15}" text-anchor="middle">{tick:g}</text>')
    for tick in ticks(y_min, y_max):
        _, y = place(0.0, tick)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="tick" x="{_LEFT - 6}" y="{y + 3.5:.1f}" text-anchor="end">{tick:g}</text>')
    parts.append(
        f'<text class="axis" x="{(_LEFT + right) / 2}" y="{HEIGHT - 6}" text-anchor="middle">bits per pixel</text>'
    )
    # Anchors first, so that ours lie on top.
    for curve in sorted(found, key=lambda curve: not curve.is_anchor):
        parts.append(f'<g class="{css_class(curve, methods)}{" anchor" if curve.is_anchor else ""}">')
        spots = [place(x, y) for x, y in zip(curve.bpp, curve.values, strict=True)]
        if len(spots) > 1:
            parts.append(f'<polyline class="line" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in spots)}"/>')
        counts = curve.counts or [""] * len(spots)
        for (x, y), bpp, value, interval, n in zip(
            spots, curve.bpp, curve.values, curve.intervals, counts, strict=True
        ):
            text = f"{curve.label}: {number(metric, value)} {info.unit}".strip() + f"{n} at {bpp:.3f} bpp"
            if interval:
                low, high = place(bpp, interval[0])[1], place(bpp, interval[1])[1]
                parts.append(f'<line class="bar" x1="{x:.1f}" x2="{x:.1f}" y1="{low:.1f}" y2="{high:.1f}"/>')
                text += f" (95 %: {number(metric, interval[0])} to {number(metric, interval[1])})"
            parts.append(f"<g>{marker(shape(curve), x, y)}<title>{escape(text)}</title></g>")
        parts.append("</g>")
    return "".join([*parts, "</svg>"])


def marker(kind: str, x: float, y: float, r: float = 3.6) -> str:
    """A marker around (x, y)."""
    if kind == "circle":
        return f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="{r}"/>'
    if kind == "square":
        h = 0.8 * r
        return f'<rect class="dot" x="{x - h:.1f}" y="{y - h:.1f}" width="{2 * h:.1f}" height="{2 * h:.1f}"/>'
    s = 1.35 * r
    corners = {
        "diamond": [(0, -s), (s, 0), (0, s), (-s, 0)],
        "down": [(-s, -s * 0.8), (s, -s * 0.8), (0, s)],
        "up": [(-s, s * 0.8), (s, s * 0.8), (0, -s)],
    }[kind]
    return f'<polygon class="dot" points="{" ".join(f"{x + a:.1f},{y + b:.1f}" for a, b in corners)}"/>'


def legend(found: Sequence[Curve], methods: Sequence[str]) -> str:
    """The curves' names with their markers, for all charts together."""
    items = []
    for curve in found:
        line = '<line class="line" x1="1" x2="29" y1="8" y2="8"/>' if len(curve.bpp) > 1 else ""
        group = f'<g class="{css_class(curve, methods)}{" anchor" if curve.is_anchor else ""}">'
        items.append(
            f'<li><svg viewBox="0 0 30 16" width="30" height="16" aria-hidden="true">{group}{line}'
            f"{marker(shape(curve), 15, 8)}</g></svg>{escape(curve.label)}</li>"
        )
    return f'<ul class="legend">{"".join(items)}</ul>'


def ticks(low: float, high: float, about: int = 6) -> list[float]:
    """Round numbers in [low, high], about this many."""
    span = high - low
    step = 10.0 ** math.floor(math.log10(span / about))
    for factor in (1, 2, 5, 10):
        if span / (step * factor) <= about:
            step *= factor
            break
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, 12) for i in range(first, math.floor(high / step + 1e-9) + 1)]
