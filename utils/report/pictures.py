"""The report's pictures: originals, side images, our reconstructions and each anchor's at the nearest rate."""

from __future__ import annotations

import base64
import io
from html import escape

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PilImage

from data.images import read_image
from data.pair import PairSource
from utils.evaluation.plan import Point
from utils.evaluation.store import Row, Store
from utils.evaluation.summary import Results
from utils.metrics.info import METRICS
from utils.report.rd import ANCHOR_LABELS
from utils.report.tables import number

Image = NDArray[np.uint8]
CROP = (256, 512)
"""Larger images are shown by a centre crop of this height and width, at their own pixels."""
_SMALL = 128 * 512
_CAPTION_METRICS = ("lpips_alex", "dists")


def pictures(results: Results, source: PairSource, store: Store) -> str:
    """A section for each of a few pairs, spread evenly over the split."""
    first = source[0].x
    count = 4 if first.shape[0] * first.shape[1] <= _SMALL else 2
    chosen = sorted({round(i) for i in np.linspace(0, len(source) - 1, min(count, len(source)))})
    return "".join(_scene(results, source, store, index) for index in chosen)


def _scene(results: Results, source: PairSource, store: Store, index: int) -> str:
    """A pair: the two views, what other side images make of the middle file, then a row for each rate."""
    pair = source[index]
    original = embed(pair.x)
    anchors = list(dict.fromkeys(p.codec for p in results.points if p.model is None))
    cells = [_figure(original, "Original", "what the sender encodes", "")]
    cells.append(_figure(embed(pair.x_side), "Side image", "what the receiver already has", ""))
    cells += [
        _reconstruction(results, store, point, results.rows[point.key][index])
        for point in results.points
        if point.side in ("none", "shuffled") and point.model is not None
        for main in [main_points(results, point.codec)]
        if point not in main and (point.steps, point.gamma) == (main[0].steps, main[0].gamma)
    ]
    columns = max(2, 1 + len(anchors), min(4, len(cells)))
    rows = [_row(cells, columns)]
    for point in _shown(results):
        ours = results.rows[point.key][index]
        cells = [_reconstruction(results, store, point, ours)]
        for name in anchors:
            nearest = min(
                (p for p in results.points if p.codec == name),
                key=lambda p: abs(results.rows[p.key][index].bpp - ours.bpp),
            )
            cells.append(_reconstruction(results, store, nearest, results.rows[nearest.key][index], ours.bpp))
        rows.append(_row(cells, columns))
    head = f"<h3>{escape(pair.id)} <small>{escape(pair.group)}</small></h3>"
    return f'<section class="scene" style="--o:url({original})">{head}{"".join(rows)}</section>'


def _row(cells: list[str], columns: int) -> str:
    return f'<div class="row n{columns}">{"".join(cells)}</div>'


def main_points(results: Results, codec: str) -> list[Point]:
    """The points of one of our codecs with the first decoding and side image, by rate."""
    mine = [p for p in results.points if p.codec == codec]
    main = [p for p in mine if (p.side, p.steps, p.gamma) == (mine[0].side, mine[0].steps, mine[0].gamma)]
    return sorted(main, key=lambda p: float(np.mean([row.bpp for row in results.rows[p.key]])))


def _shown(results: Results) -> list[Point]:
    """The smallest, middle and largest point of each of our curves."""
    shown = []
    for codec in dict.fromkeys(p.codec for p in results.points if p.model is not None):
        main = main_points(results, codec)
        shown += [main[i] for i in sorted({0, (len(main) - 1) // 2, len(main) - 1})]
    return shown


def _reconstruction(results: Results, store: Store, point: Point, row: Row, target: float | None = None) -> str:
    title = ANCHOR_LABELS.get(point.codec, point.codec)
    values = [f"{number('psnr', row.metrics['psnr'])} dB"] if "psnr" in row.metrics else []
    metric = next((m for m in _CAPTION_METRICS if m in row.metrics), None)
    if metric is not None:
        values.append(f"{METRICS[metric].label} {number(metric, row.metrics[metric])}")
    rate = f"{row.bpp:.3f} bpp"
    if target is not None and row.bpp > 1.25 * target:
        rate = f'<span class="bad" title="The smallest file measured is larger than ours">{rate}</span>'
    image = embed(read_image(store.reconstruction(point, row.index)))
    side = "" if point.side in (None, "correct") else f", side {escape(point.side)}"
    return _figure(image, f"{escape(title)}{side} · {rate} · {row.bytes:,} B", " · ".join(values), "flip")


def _figure(image: str, title: str, caption: str, kind: str) -> str:
    focus = ' tabindex="0"' if kind else ""
    return (
        f'<figure><div class="pic {kind}"{focus}><img src="{image}" alt="{escape(caption)}" loading="lazy"></div>'
        f"<figcaption><b>{title}</b><br>{caption}</figcaption></figure>"
    )


def embed(image: Image) -> str:
    """An image (H, W, 3) uint8, or its centre crop, as a lossless data address."""
    top, left = (max(0, (image.shape[axis] - CROP[axis]) // 2) for axis in (0, 1))
    if image.shape[0] * image.shape[1] > _SMALL:
        image = image[top : top + CROP[0], left : left + CROP[1]]
    buffer = io.BytesIO()
    PilImage.fromarray(np.ascontiguousarray(image)).save(buffer, "WEBP", lossless=True, quality=60, method=3)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()
