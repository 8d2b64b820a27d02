"""Random training transforms of a pair. Whatever moves pixels does the same to both views, so rows stay rows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from config import AugmentConfig
from data.cameras import differ
from data.colours import recolour
from data.pair import Pair
from data.patches import patch


class Augment:
    """Random rescale and crop, flip with swap, patches, colours, what cameras do: (Pair, Generator) -> Pair.

    A source smaller than the crop is enlarged to cover it. Every call draws the same count of random numbers, and
    patches, colours and cameras have generators of their own, so that switching one transform on leaves the draws of
    the others as they were.
    """

    def __init__(self, config: AugmentConfig) -> None:
        self.config = config

    def __call__(
        self,
        pair: Pair,
        rng: np.random.Generator,
        shape: tuple[int, int] | None = None,
        scales: tuple[float, float] = (1.0, 1.0),
    ) -> Pair:
        """`shape` (height, width) of the crop: the configuration's first unless given. `scales`: see `Part`."""
        draws = rng.random(9)
        seeds = rng.integers(2**63, size=3)
        # 1. Geometry: rescale, crop, flip.
        pair = random_crop(pair, draws[:3], shape or self.config.crops()[0], scales)
        if draws[3] < self.config.flip:
            pair = flip_and_swap(pair)
        # 2. What is seen: flat areas and text, then colours, alike in both views but for exposure.
        pair = patch(pair, self.config, np.random.default_rng(seeds[0]))
        pair = recolour(pair, self.config, draws[4:7] * 2 - 1, draws[7:9] * 2 - 1, np.random.default_rng(seeds[1]))
        # 3. What each camera makes of it.
        return differ(pair, self.config, np.random.default_rng(seeds[2]))


def random_crop(pair: Pair, draws: NDArray[np.float64], shape: tuple[int, int], scales: tuple[float, float]) -> Pair:
    """A window of (height, width) of the pair resized by a log-uniform factor; `draws`: of factor, top and left."""
    height, width = pair.x.shape[:2]
    covering = max(shape[0] / height, shape[1] / width)  # The least factor at which the pair covers the crop.
    low, high = max(scales[0], covering), max(scales[1], covering)
    scale = low * (high / low) ** draws[0]
    if scale == 1:
        # Whole pixels: nothing is resampled.
        top, left = (float(int(draws[1 + k] * (pair.x.shape[k] - shape[k] + 1))) for k in (0, 1))
    else:
        top, left = (draws[1 + k] * max(0.0, pair.x.shape[k] - shape[k] / scale) for k in (0, 1))
    return crop(pair, top, left, scale, *shape)


def crop(pair: Pair, top: float, left: float, scale: float, height: int, width: int) -> Pair:
    """The (height, width) window of the pair resized by `scale`, at (top, left) in stored pixels, of both views.

    The filter is a triangle as wide as the larger pixel, so that nothing aliases. Disparity is cut alike (nearest
    sample) and multiplied by `scale`.
    """
    box = (left, top, min(left + width / scale, pair.x.shape[1]), min(top + height / scale, pair.x.shape[0]))
    disparity = pair.disparity
    if scale == 1 and top == int(top) and left == int(left):
        rows, columns = slice(int(top), int(top) + height), slice(int(left), int(left) + width)
        x, x_side = (np.ascontiguousarray(view[rows, columns]) for view in (pair.x, pair.x_side))
        if disparity is not None:
            disparity = np.ascontiguousarray(disparity[rows, columns])
        return replace(pair, x=x, x_side=x_side, disparity=disparity)
    x, x_side = (
        np.array(Image.fromarray(view).resize((width, height), Image.Resampling.BILINEAR, box=box))
        for view in (pair.x, pair.x_side)
    )
    if disparity is not None:
        v = np.clip(((np.arange(height) + 0.5) / scale + top).astype(int), 0, disparity.shape[0] - 1)
        u = np.clip(((np.arange(width) + 0.5) / scale + left).astype(int), 0, disparity.shape[1] - 1)
        disparity = disparity[np.ix_(v, u)] * np.float32(scale)
    return replace(pair, x=x, x_side=x_side, disparity=disparity)


def flip_and_swap(pair: Pair) -> Pair:
    """The scene in a mirror: both views flipped left to right, and exchanged, so that x is again the left view.

    A flip alone would turn every disparity d into -d. The new disparity belongs to the pixels of the new x: the old
    one carried to the other view's nearest column, nearer points first, NaN where no point lands.
    """
    disparity = pair.disparity
    if disparity is not None:
        nearest = _nearest(disparity)
        disparity = np.where(np.isneginf(nearest), np.float32(np.nan), nearest)[:, ::-1].copy()
    x, x_side = (np.ascontiguousarray(view[:, ::-1]) for view in (pair.x_side, pair.x))
    return replace(pair, x=x, x_side=x_side, disparity=disparity)


def visible(disparity: NDArray[np.float32]) -> NDArray[np.float32]:
    """The disparity (H, W), NaN for points beside the other view and for those that a nearer point hides there.

    A point is hidden if one that is nearer by more than a pixel of disparity lands on its column: less is the slope of
    one surface.
    """
    width = disparity.shape[1]
    columns = np.arange(width, dtype=np.float32) - disparity
    inside = (columns >= 0) & (columns <= width - 1)
    target = np.rint(np.where(inside, columns, 0)).astype(np.intp)
    hidden = np.take_along_axis(_nearest(disparity), target, axis=1) > disparity + 1
    return np.where(inside & ~hidden, disparity, np.float32(np.nan))


def _nearest(disparity: NDArray[np.float32]) -> NDArray[np.float32]:
    """(H, W): the disparity of the nearest point that lands on each pixel of the other view; -inf where none does."""
    height, width = disparity.shape
    v, u = np.nonzero(np.isfinite(disparity))
    d = disparity[v, u]
    target = np.rint(u - d).astype(np.int64)
    inside = (target >= 0) & (target < width)
    v, target, d = v[inside], target[inside], d[inside]
    other = np.full((height, width), -np.inf, dtype=np.float32)
    np.maximum.at(other, (v, target), d)
    return other
