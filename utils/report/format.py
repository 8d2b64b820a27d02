"""How figures are written in the report."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from utils.evaluation.rd import ANCHOR_LABELS
from utils.metrics.info import METRICS, MetricInfo

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
