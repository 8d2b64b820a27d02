"""Random training transforms of a pair. Whatever moves pixels does the same to both views, so rows stay rows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from config import AugmentConfig
from data.pair import Pair

_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R BT.601


class Augment:
    """Random rescale and crop, flip with swap, photometric jitter: (Pair, Generator) -> Pair of the configured size.

    A source smaller than the crop is enlarged to cover it. Every call draws the same count of random numbers, so
    switching one transform on leaves the draws of the others as they were.
    """

    def __init__(self, config: AugmentConfig) -> None:
        self.config = config

    def __call__(self, pair: Pair, rng: np.random.Generator) -> Pair:
        draws = rng.random(9)
        pair = self._crop(pair, *draws[:3])
        if draws[3] < self.config.flip:
            pair = flip_and_swap(pair)
        return self._jitter(pair, draws[4:7] * 2 - 1, draws[7:9] * 2 - 1)

    def _crop(self, pair: Pair, scale_draw: float, top_draw: float, left_draw: float) -> Pair:
        config = self.config
        height, width = pair.x.shape[:2]
        scale = 1.0
        if scale_draw < config.scaled:
            scale = config.scale_min + (config.scale_max - config.scale_min) * scale_draw / config.scaled
        scale = max(scale, config.height / height, config.width / width)
        if scale == 1:
            # Whole pixels: nothing is resampled.
            top = float(int(top_draw * (height - config.height + 1)))
            left = float(int(left_draw * (width - config.width + 1)))
            return crop(pair, top, left, 1.0, config.height, config.width)
        top = top_draw * max(0.0, height - config.height / scale)
        left = left_draw * max(0.0, width - config.width / scale)
        return crop(pair, top, left, scale, config.height, config.width)

    def _jitter(self, pair: Pair, common: NDArray[np.float64], exposure: NDArray[np.float64]) -> Pair:
        config = self.config
        amounts = np.array([config.brightness, config.contrast, config.saturation])
        if not amounts.any() and not config.exposure:
            return pair
        brightness, contrast, saturation = 1 + amounts * common
        # One pivot for both views: contrast about each view's own mean would be a different change in each.
        pivot = float((pair.x.reshape(-1, 3).mean(axis=0) @ _LUMA) * brightness)
        gains = 1 + config.exposure * exposure
        x, x_side = (
            _adjust(view, brightness * gain, contrast, saturation, pivot * gain)
            for view, gain in zip((pair.x, pair.x_side), gains, strict=True)
        )
        return replace(pair, x=x, x_side=x_side)


def crop(pair: Pair, top: float, left: float, scale: float, height: int, width: int) -> Pair:
    """The (height, width) window of the pair enlarged by `scale`, at (top, left) in stored pixels, of both views.

    Disparity is cut alike (nearest sample) and multiplied by `scale`.
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
        disparity = np.ascontiguousarray(_to_other_view(disparity)[:, ::-1])
    x, x_side = (np.ascontiguousarray(view[:, ::-1]) for view in (pair.x_side, pair.x))
    return replace(pair, x=x, x_side=x_side, disparity=disparity)


def _to_other_view(disparity: NDArray[np.float32]) -> NDArray[np.float32]:
    height, width = disparity.shape
    v, u = np.nonzero(np.isfinite(disparity))
    d = disparity[v, u]
    target = np.rint(u - d).astype(np.int64)
    inside = (target >= 0) & (target < width)
    v, target, d = v[inside], target[inside], d[inside]
    other = np.full((height, width), -np.inf, dtype=np.float32)
    np.maximum.at(other, (v, target), d)  # the nearest point hides those behind it
    other[np.isneginf(other)] = np.nan
    return other


def _adjust(
    view: NDArray[np.uint8], gain: float, contrast: float, saturation: float, pivot: float
) -> NDArray[np.uint8]:
    """The view after gain, then saturation about each pixel's luma, then contrast about `pivot` (0 to 255)."""
    # All three are linear in the colour, so they are one 3x3 matrix and an offset.
    colour = saturation * np.eye(3) + (1 - saturation) * _LUMA[:, None]
    value = view.reshape(-1, 3).astype(np.float32) @ (contrast * gain * colour).astype(np.float32)
    value += np.float32((1 - contrast) * pivot + 0.5)
    return value.clip(0, 255).astype(np.uint8).reshape(view.shape)
