"""Surfaces with a photograph on them, seen by two rectified cameras: depths, outlines, the move to x_side, visibility.

Disparity is in pixels and at least 0: a point at column c of x lies at column c - disparity of x_side, on the same row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data.made.seeded import Floats, Randomness

Disparity = NDArray[np.float64]

MAX_SLOPE = 0.25
"""Of the disparity along a row, in pixels a pixel: x_side then shows a surface at 0.8 to 1.33 times its size in x."""
MAX_SLANT = 0.1
"""The same of a shape's own plane."""
TOLERANCE = 0.5
"""Pixels by which a surface must be nearer to hide a point. One surface's disparity varies by less within a pixel."""


@dataclass(frozen=True)
class Surface:
    """What one camera would see of a surface alone, on a rectangle of its image.

    `rgba` (h, w, 4) holds colours of 0 to 255 and the opacity, 0 to 1; `disparity` is (h, w). The first pixel is at
    row `top` and column `left`.
    """

    top: int
    left: int
    rgba: Floats
    disparity: Disparity


@dataclass(frozen=True)
class Shape:
    """Outline and depth of an object in x: `opacity` and `disparity` (h, w) from row `top` and column `left`."""

    top: int
    left: int
    opacity: Floats
    disparity: Disparity
    nearness: float
    """Disparity at its centre."""

    @property
    def box(self) -> tuple[slice, slice]:
        """Its rows and columns."""
        height, width = self.opacity.shape
        return slice(self.top, self.top + height), slice(self.left, self.left + width)


def background(rng: Randomness, height: int, width: int, visible: int, nearest: float) -> Disparity:
    """(H, W) disparity of a ground or a slanted plane with smooth relief, `nearest` at its nearest visible point.

    x shows the first `visible` of the `width` columns. The slope along a row is at most MAX_SLOPE.
    """
    row = ((np.arange(height) + 0.5) / height)[:, None]
    column = ((np.arange(width) + 0.5) / visible)[None, :]
    if rng.chance(0.6):  # A ground that rises towards the camera, below a horizon that may lie above the image.
        horizon = rng.uniform(-0.5, 0.8)
        field = np.maximum(row - horizon, 0) / (1 - horizon) + rng.uniform(-0.3, 0.3) * column
    else:
        field = rng.uniform(-0.5, 1.0) * row + rng.uniform(-0.7, 0.7) * column
    for _ in range(3):
        across = 2 * np.pi * (rng.uniform(-1.5, 1.5) * column + rng.uniform())
        down = 2 * np.pi * rng.uniform(0.0, 1.5) * row
        strength = rng.uniform(0.0, 0.15)
        # cos(across + down)
        field = field + strength * (np.cos(across) * np.cos(down) - np.sin(across) * np.sin(down))
    shown = field[:, :visible]
    field = (field - shown.max()) / (shown.max() - shown.min())
    depth = min(nearest * rng.uniform(0.5, 1.0), MAX_SLOPE / np.abs(np.diff(field, axis=1)).max())
    return np.clip(nearest + depth * field, 0, nearest)


def shape(rng: Randomness, ground: Disparity, visible: int, largest: float, nearest: bool) -> Shape:
    """A random object in front of the `ground` (H, W), its centre within the first `visible` columns.

    It stands on the ground or hovers before it, its disparity at most `largest` and, if `nearest`, that at its centre.
    """
    height, width = ground.shape
    row, column = rng.integer(height), rng.integer(visible)
    tall, wide = (0.5 * height * 0.15 ** rng.uniform() for _ in range(2))  # Half its height and width, in pixels.
    kind = ("box", "pole", "blob", "blob")[rng.integer(4)]
    if kind == "pole":
        tall, wide = float(height), max(1.0, 0.15 * wide)
    reach_y, reach_x = (int(1.6 * a + 0.35 * b) + 3 for a, b in ((tall, wide), (wide, tall)))
    top, left = max(0, row - reach_y), max(0, column - reach_x)
    y = (np.arange(top, min(height, row + reach_y)) - row)[:, None]
    x = (np.arange(left, min(width, column + reach_x)) - column)[None, :]
    if kind == "blob":
        # An ellipse whose radius varies with the direction.
        direction = np.arctan2(y / tall, x / wide)
        radius = 1 + sum(rng.uniform(0, 0.4 / k) * np.cos(k * (direction + rng.uniform(0, 7))) for k in (2, 3, 5))
        inside = radius - np.hypot(y / tall, x / wide)
    else:
        slope = rng.uniform(-0.3, 0.3) * rng.uniform()
        inside = np.minimum(tall - np.abs(y - slope * x), wide - np.abs(x + slope * y))
    # Over its own gradient, a function that is 0 on the outline is the distance to it, to first order.
    gradient = np.hypot(*np.gradient(inside))
    opacity = np.clip(0.5 + inside / np.maximum(gradient, 1e-6), 0, 1).astype(np.float32)
    # Ground that is nearer than the object's plane shows through as part of the object.
    foot = ground[min(height - 1, row + int(tall)), column]
    nearness = largest if nearest else foot + (largest - foot) * rng.uniform() ** 2
    slant = rng.uniform(-MAX_SLANT, MAX_SLANT) if rng.chance(0.5) else 0.0
    behind = ground[top : top + y.size, left : left + x.size]
    disparity = np.clip(np.maximum(behind, nearness + slant * x), 0, largest)
    return Shape(top, left, opacity, disparity, nearness)


def textured(colours: Floats, opacity: Floats, disparity: Disparity, top: int = 0, left: int = 0) -> Surface:
    """The surface with `colours` (h, w, 3)."""
    return Surface(top, left, np.concatenate([colours, opacity[..., None]], axis=2), disparity)


def moved(surface: Surface, width: int) -> Surface:
    """A surface of x as x_side, `width` columns wide, sees it; transparent where the surface ends."""
    height, wide = surface.disparity.shape
    # Where each of its pixels goes. This rises along a row, since the slope of the disparity is below 1 ...
    goes = surface.left + np.arange(wide) - surface.disparity
    first, last = max(0, int(np.floor(goes.min()))), min(width - 1, int(np.ceil(goes.max())))
    columns = np.arange(first, max(first, last + 1))
    # ... so its inverse says where each pixel of x_side comes from; all rows at once, one behind the other.
    rows = np.arange(height)[:, None] * (goes.max() - goes.min() + 1)
    place = np.interp((rows + columns).ravel(), (rows + goes).ravel(), np.tile(np.arange(wide), height))
    place = place.reshape(height, columns.size)
    rgba = _cubic(surface.rgba, place)
    np.clip(rgba[..., 3], 0, 1, out=rgba[..., 3])
    rgba[..., 3] *= (columns >= goes[:, :1]) & (columns <= goes[:, -1:])
    return Surface(surface.top, first, rgba, surface.left + place - columns)


def _cubic(image: Floats, place: Disparity) -> Floats:
    """Values of `image` (H, W, C) at the columns `place` (H, N) by Catmull-Rom interpolation along rows: (H, N, C)."""
    height, width, channels = image.shape
    left = np.floor(place).astype(np.intp)
    t = (place - left).astype(np.float32)[..., None]
    # One column more on the left and two on the right, so that every pixel has its four neighbours.
    flat = np.pad(image, ((0, 0), (1, 2), (0, 0)), mode="edge").reshape(-1, channels)
    index = left + np.arange(height)[:, None] * (width + 3)
    weights = (
        ((2 - t) * t - 1) * t / 2,
        ((3 * t - 5) * t * t + 2) / 2,
        ((4 - 3 * t) * t + 1) * t / 2,
        (t - 1) * t * t / 2,
    )
    value = weights[0] * flat.take(index, axis=0)
    for shift in (1, 2, 3):
        value += weights[shift] * flat.take(index + shift, axis=0)
    return value


def seen(surfaces: Sequence[Surface], height: int, width: int) -> tuple[Floats, Disparity]:
    """A view of surfaces: colours (H, W, 3) and disparity (H, W) of the nearest one that covers most of each pixel.

    The first surface is opaque and covers the view. Of two that are equally near, the later one is seen.
    """
    colours = surfaces[0].rgba[:height, :width, :3].copy()
    nearest = surfaces[0].disparity[:height, :width].copy()
    for surface in surfaces[1:]:
        # What lies in the view: shapes may end beyond its right edge, or begin there.
        rgba = surface.rgba[:, : max(0, width - surface.left)]
        tall, wide = rgba.shape[:2]
        box = slice(surface.top, surface.top + tall), slice(surface.left, surface.left + wide)
        disparity = surface.disparity[:, :wide]
        # A soft depth test: surfaces that cross each other blend where they are within 0.4 pixels.
        share = rgba[..., 3] * np.clip(1.5 + 4 * (disparity - nearest[box]), 0, 1).astype(np.float32)
        colours[box] += share[..., None] * (rgba[..., :3] - colours[box])
        nearest[box] = np.where(share > 0.5, disparity, nearest[box])
    return colours, nearest


def hidden(disparity: Disparity, side: Disparity) -> NDArray[np.bool_]:
    """(H, W) bool: the points of x that x_side does not show, since they lie outside it or behind something nearer.

    `disparity` is that of x, `side` that of the surface that x_side shows at each of its pixels, both (H, W).
    """
    width = disparity.shape[1]
    place = np.arange(width) - disparity
    nearest = np.take_along_axis(side, np.clip(np.rint(place), 0, width - 1).astype(np.intp), axis=1)
    return (place < 0) | (nearest > disparity + TOLERANCE)
