"""Flat areas and text, which photographs of streets hardly have, pasted into both views of a pair."""

from __future__ import annotations

import string
from dataclasses import replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from config import AugmentConfig
from data.pair import Pair

LARGEST_SHIFT = 0.2
"""Largest disparity of a patch, as a part of the width."""
_CHARACTERS = string.ascii_letters + string.digits + string.punctuation + "      "


def patch(pair: Pair, config: AugmentConfig, rng: np.random.Generator) -> Pair:
    """The pair with a flat area (probability `config.flat`) and a patch of text (probability `config.text`)."""
    flat, text = rng.random(2)
    if flat < config.flat:
        pair = flatten(pair, rng)
    if text < config.text:
        pair = write(pair, rng)
    return pair


def flatten(pair: Pair, rng: np.random.Generator) -> Pair:
    """Nearly one colour in the whole crop or in a large part of it: a slight gradient, and noise of up to a level.

    The colour is any: black, white, gray or anything in RGB.
    """
    height, width = pair.x.shape[:2]
    colour = rng.integers(256, size=3).astype(np.float32)
    kind = rng.random()
    if kind < 0.4:
        colour[:] = colour[0]
    if kind < 0.2:
        colour[:] = 255 * (colour[0] > 127)
    if rng.random() < 0.5:
        rows, columns, top, left, disparity = height, width, 0, 0, None
    else:
        rows, columns = (max(8, int(size * rng.uniform(0.3, 1))) for size in (height, width))
        top, left = int(rng.integers(height - rows + 1)), int(rng.integers(width - columns + 1))
        disparity = _disparity(rng, width)
    layer = np.broadcast_to(colour, (rows, columns, 3))
    if rng.random() < 0.5:  # A gradient of up to 24 levels from end to end.
        slope = rng.uniform(-12, 12, (2, 3)).astype(np.float32)
        layer = layer + np.linspace(-1, 1, rows, dtype=np.float32)[:, None, None] * slope[0]
        layer = layer + np.linspace(-1, 1, columns, dtype=np.float32)[None, :, None] * slope[1]
    deviation = rng.uniform(0, 1) if rng.random() < 0.5 else 0.0
    return _paste(pair, layer, np.ones((rows, columns), dtype=bool), top, left, disparity, rng, deviation)


def write(pair: Pair, rng: np.random.Generator) -> Pair:
    """Lines of random characters in one colour, on a plain ground of another or on what is there."""
    height, width = pair.x.shape[:2]
    rows, columns = (max(16, int(size * rng.uniform(0.3, 1))) for size in (height, width))
    top, left = int(rng.integers(height - rows + 1)), int(rng.integers(width - columns + 1))
    size = int(rng.integers(7, max(8, min(33, rows))))
    letters = Image.new("L", (columns, rows))
    draw = ImageDraw.Draw(letters)
    for line in range(0, rows, int(size * 1.2)):
        count = int(rng.integers(1, 2 + 2 * columns // size))
        words = "".join(_CHARACTERS[k] for k in rng.integers(len(_CHARACTERS), size=count))
        draw.text((int(rng.integers(size)), line), words, 255, font=_font(size))
    opacity = np.asarray(letters, dtype=np.float32)[..., None] / 255
    ink, ground = rng.integers(256, size=(2, 3)).astype(np.float32)
    if rng.random() < 0.5:  # Dark on light or light on dark, as most text is.
        ink, ground = np.full(3, 20, np.float32), np.full(3, 235, np.float32)
        if rng.random() < 0.5:
            ink, ground = ground, ink
    if rng.random() < 0.7:
        layer, mask = opacity * ink + (1 - opacity) * ground, np.ones((rows, columns), dtype=bool)
    else:
        layer, mask = np.broadcast_to(ink, (rows, columns, 3)), opacity[..., 0] > 0.5
    return _paste(pair, layer, mask, top, left, _disparity(rng, width), rng)


def _disparity(rng: np.random.Generator, width: int) -> int:
    """Of a patch, in pixels; 0 for one in three, as what is written over both pictures has."""
    return int(rng.integers(int(LARGEST_SHIFT * width))) if rng.random() < 2 / 3 else 0


def _paste(
    pair: Pair,
    layer: NDArray[np.float32],
    mask: NDArray[np.bool_],
    top: int,
    left: int,
    disparity: int | None,
    rng: np.random.Generator,
    deviation: float = 0.0,
) -> Pair:
    """`layer` (h, w, 3) where `mask` (h, w), from (top, left) of x on, and `disparity` columns farther left in x_side.

    `deviation`: of noise, for each view anew. `disparity` None: the same place of both views, and none is known.
    """
    shift, width = disparity or 0, pair.x.shape[1]
    rows, views = slice(top, top + len(mask)), []
    for view, start in ((pair.x, left), (pair.x_side, left - shift)):
        noise = np.float32(deviation) * rng.standard_normal(layer.shape, dtype=np.float32) if deviation else 0
        value = (layer + noise + np.float32(0.5)).clip(0, 255).astype(np.uint8)
        hidden = max(0, -start)  # Columns of the layer that lie beyond the left edge.
        area = (rows, slice(start + hidden, start + mask.shape[1]))
        view = view.copy()
        view[area] = np.where(mask[:, hidden:, None], value[:, hidden:], view[area])
        views.append(view)
    known = pair.disparity
    if known is not None:
        # Where x_side shows the layer now, it no longer shows the point of x that it showed before.
        covered = np.zeros(known.shape, dtype=bool)
        covered[area] = mask[:, hidden:]
        columns = np.arange(width) - known
        inside = (columns >= 0) & (columns <= width - 1)
        target = np.rint(np.where(inside, columns, 0)).astype(np.intp)
        lost = inside & np.take_along_axis(covered, target, axis=1)
        known = np.where(lost, np.float32(np.nan), known)
        part = known[rows, left : left + mask.shape[1]]
        part[mask] = np.nan if disparity is None else disparity
    return replace(pair, x=views[0], x_side=views[1], disparity=known)


@lru_cache(maxsize=64)
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own font, of this height in pixels."""
    return ImageFont.load_default(size)
