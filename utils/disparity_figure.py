"""The figure of scripts/figure_disparity.py: rows of images and disparity maps on one colour scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

WIDTH = 1500
"""Of the figure, in pixels."""
DPI = 100
TEXT = 0.42
"""Height of two lines of text, in inches."""
BEYOND, BELOW, UNKNOWN = "#ff5fa2", "#9fb4c7", "#ffffff"
"""Colours for disparities above the scale, for negative ones, and for where the ground truth is unknown."""


@dataclass(frozen=True)
class Panel:
    """An image, uint8 (H, W, 3), or a disparity map, float (H, W) in pixels; `text` stands below it."""

    content: NDArray[Any]
    text: str = ""


@dataclass(frozen=True)
class Row:
    """The panels of one pair, as many as the figure has titles."""

    label: str
    panels: Sequence[Panel]


def draw(path: Path, titles: Sequence[str], rows: Sequence[Row], limit: float, note: str, rights: str) -> None:
    """Write a PNG, WIDTH pixels wide: `titles` over the columns, colours from 0 to `limit` pixels, `note` below.

    `rights` goes into the file's metadata.
    """
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    colours = matplotlib.colormaps["viridis"].with_extremes(under=BELOW, over=BEYOND, bad=UNKNOWN)
    columns = len(titles)
    aspects = [row.panels[0].content.shape[0] / row.panels[0].content.shape[1] for row in rows]
    width = (WIDTH / DPI - 1.4) / columns
    height = sum(width * aspect + TEXT for aspect in aspects) + 2.6 * TEXT
    layout = ConstrainedLayoutEngine(w_pad=0.03, h_pad=0.05, wspace=0, hspace=0)
    figure = Figure(figsize=(WIDTH / DPI, height), dpi=DPI, layout=layout)
    grid = figure.subplots(len(rows), columns, squeeze=False, gridspec_kw={"height_ratios": aspects})
    drawn = None
    for line, row in zip(grid, rows, strict=True):
        line[0].set_ylabel(row.label, fontsize=12)
        for axes, panel in zip(line, row.panels, strict=True):
            if panel.content.ndim == 2:
                drawn = axes.imshow(panel.content, cmap=colours, vmin=0, vmax=limit)
            else:
                axes.imshow(panel.content)
            axes.set_xticks([])
            axes.set_yticks([])
            axes.spines[:].set_visible(False)
            axes.set_xlabel(panel.text, fontsize=11, linespacing=1.15)
    for axes, title in zip(grid[0], titles, strict=True):
        axes.set_title(title, fontsize=12)
    if drawn is not None:
        bar = figure.colorbar(drawn, ax=grid, extend="both", aspect=35, pad=0.01, fraction=0.02)
        bar.set_label("disparity (pixels)", fontsize=12)
        bar.ax.tick_params(labelsize=11)
    figure.supxlabel(note, fontsize=11, x=0.01, ha="left", linespacing=1.3)
    path.parent.mkdir(parents=True, exist_ok=True)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    information = PngInfo()
    information.add_text("Copyright", rights)
    temporary = path.with_name(path.name + ".tmp")
    # Photographs: without the alpha channel that savefig writes, and packed as well as PNG can, the file is smaller.
    image = Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3])
    image.save(temporary, format="png", optimize=True, pnginfo=information)
    temporary.replace(path)


def colour_limit(truths: Sequence[NDArray[Any]]) -> float:
    """The end of a colour scale for these ground truths (NaN where unknown): a multiple of 5 pixels."""
    return float(max(5, 5 * np.ceil(max(np.nanmax(truth) for truth in truths) / 5)))
