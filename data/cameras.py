"""Defects that each of two cameras has for itself: noise, blur, JPEG, and an optical axis that is too high or low."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from config import AugmentConfig
from data.pair import Pair


def differ(pair: Pair, config: AugmentConfig, rng: np.random.Generator) -> Pair:
    """The pair with each defect in each view with probability `config.defects`.

    Both views may be blurred and noisy. Only x_side is shifted and compressed: x is what a codec is given.
    """
    if config.defects == 0:
        return pair
    x, x_side = pair.x, pair.x_side
    occurs, amounts = rng.random((4, 2)) < config.defects, rng.random((4, 2))
    if occurs[0, 1] and config.vertical:
        x_side = shift_rows(x_side, config.vertical * (2 * amounts[0, 1] - 1))
    views = [x, x_side]
    for number in (0, 1):
        if occurs[1, number] and config.blur:
            views[number] = blur(views[number], config.blur * amounts[1, number])
        if occurs[2, number] and config.noise:
            views[number] = noisy(views[number], config.noise * amounts[2, number], rng)
    x, x_side = views
    if occurs[3, 1] and config.jpeg:
        x_side = jpeg(x_side, config.jpeg + int(amounts[3, 1] * (96 - config.jpeg)))
    return replace(pair, x=x, x_side=x_side)


def shift_rows(view: NDArray[np.uint8], rows: float) -> NDArray[np.uint8]:
    """The view moved down by a number of rows, linear between them; the rows at the edges are repeated."""
    height = len(view)
    source = np.clip(np.arange(height) - rows, 0, height - 1)
    above = np.minimum(source.astype(np.intp), height - 2)
    weight = (source - above).astype(np.float32)[:, None, None]
    value = view[above] * (1 - weight) + view[above + 1] * weight
    return (value + np.float32(0.5)).astype(np.uint8)


def blur(view: NDArray[np.uint8], deviation: float) -> NDArray[np.uint8]:
    """Gaussian blur of this standard deviation in pixels."""
    return np.array(Image.fromarray(view).filter(ImageFilter.GaussianBlur(float(deviation))))


def noisy(view: NDArray[np.uint8], deviation: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Gaussian noise of this standard deviation in grey levels, independent in each value."""
    noise = rng.standard_normal(view.shape, dtype=np.float32) * np.float32(deviation)
    return (view + noise + np.float32(0.5)).clip(0, 255).astype(np.uint8)


def jpeg(view: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    """The view as a JPEG file of this quality holds it."""
    file = io.BytesIO()
    Image.fromarray(view).save(file, "JPEG", quality=quality)
    return np.array(Image.open(file))
