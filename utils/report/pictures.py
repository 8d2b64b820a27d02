"""The report's pictures: originals, side images, our reconstructions and each anchor's at the nearest rate."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass, replace

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


@dataclass(frozen=True)
class Picture:
    """An image in a data address, and what stands below it; `large`: its file is much larger than ours beside it."""

    image: str
    title: str
    caption: str
    rate: str = ""
    bytes: str = ""
    large: bool = False
    flips: bool = False
    """Whether the original takes its place under the pointer."""
    zoom: str = ""
    """A window of it, shown enlarged."""
    error: str = ""
    box: str = ""
    """CSS of a frame around the window."""


@dataclass(frozen=True)
class Scene:
    """A pair: the two views, what other side images make of the middle file, then a row for each rate."""

    id: str
    group: str
    original: str
    rows: list[list[Picture]]
    columns: int
    zoom: str = ""
    """The window of the original."""


def scenes(results: Results, source: PairSource, store: Store) -> list[Scene]:
    """A few pairs, spread evenly over the split."""
    chosen = spread(len(source), 2 if is_large(source[0].x) else 4)
    return [_scene(results, source, store, index) for index in chosen]


def spread(pairs: int, count: int) -> list[int]:
    """At most `count` of so many pairs, evenly over the split."""
    return sorted({round(i) for i in np.linspace(0, pairs - 1, min(count, pairs))})


def is_large(image: Image) -> bool:
    """Whether only a crop of it is shown."""
    return image.shape[0] * image.shape[1] > _SMALL


def _scene(results: Results, source: PairSource, store: Store, index: int) -> Scene:
    pair = source[index]
    original = embed(pair.x)
    anchors = list(dict.fromkeys(p.codec for p in results.points if p.model is None))
    first = [Picture(original, "Original", "what the sender encodes")]
    if pair.has_side:
        first.append(Picture(embed(pair.x_side), "Side image", "what the receiver already has"))
    rows = []
    for codec in dict.fromkeys(p.codec for p in results.points if p.model is not None):
        main = main_points(results, codec)
        first += [
            _reconstruction(store, point, results.rows[point.key][index])
            for point in results.points
            if point.side in ("none", "shuffled") and point not in main and replace(point, side=main[0].side) in main
        ]
        for place in sorted({0, (len(main) - 1) // 2, len(main) - 1}):
            ours = results.rows[main[place].key][index]
            row = [_reconstruction(store, main[place], ours)]
            for name in anchors:
                files = [(p, results.rows[p.key][index]) for p in results.points if p.codec == name]
                nearest, theirs = min(files, key=lambda file: abs(file[1].bpp - ours.bpp))
                row.append(_reconstruction(store, nearest, theirs, large=theirs.bpp > 1.25 * ours.bpp))
            rows.append(row)
    return Scene(pair.id, pair.group, original, [first, *rows], max(2, 1 + len(anchors), min(4, len(first))))


def main_points(results: Results, codec: str) -> list[Point]:
    """The points of one of our codecs with the first decoding and side image, by rate."""
    mine = [p for p in results.points if p.codec == codec]
    main = [p for p in mine if (p.side, p.steps, p.gamma) == (mine[0].side, mine[0].steps, mine[0].gamma)]
    return sorted(main, key=lambda p: float(np.mean([row.bpp for row in results.rows[p.key]])))


def _reconstruction(store: Store, point: Point, row: Row, large: bool = False) -> Picture:
    return decoded(read_image(store.reconstruction(point, row.index)), point, row, large)


def decoded(image: Image, point: Point, row: Row, large: bool = False) -> Picture:
    """A decoded image with its method, rate, bytes and figures."""
    values = [f"{number('psnr', row.metrics['psnr'])} dB"] if "psnr" in row.metrics else []
    metric = next((m for m in _CAPTION_METRICS if m in row.metrics), None)
    if metric is not None:
        values.append(f"{METRICS[metric].label} {number(metric, row.metrics[metric])}")
    title = ANCHOR_LABELS.get(point.codec, point.codec)
    title += "" if point.side in (None, "correct") else f", side {point.side}"
    return Picture(embed(image), title, " · ".join(values), f"{row.bpp:.3f} bpp", f"{row.bytes:,} B", large, flips=True)


def crop_of(source: PairSource) -> str:
    """The size of the crops that are shown of large images; "" where images are shown whole."""
    return "×".join(map(str, CROP)) if is_large(source[0].x) else ""


def shown(image: Image) -> Image:
    """An image (H, W, 3), or the centre crop of a large one."""
    top, left = (max(0, (image.shape[axis] - CROP[axis]) // 2) for axis in (0, 1))
    return image[top : top + CROP[0], left : left + CROP[1]] if is_large(image) else image


def embed(image: Image) -> str:
    """What is shown of an image (H, W, 3) uint8, as a lossless data address."""
    return address(shown(image))


def address(image: Image, lossless: bool = True, quality: int = 60) -> str:
    """An image as a WebP file in a data address; of a lossless one, `quality` is the effort."""
    buffer = io.BytesIO()
    picture = PilImage.fromarray(np.ascontiguousarray(image))
    picture.save(buffer, "WEBP", method=3, lossless=lossless, quality=quality)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()
