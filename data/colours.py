"""Random changes of colour: the same of both views, but for gains that differ a little between two cameras."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from config import AugmentConfig
from data.pair import Pair

_LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601


def recolour(
    pair: Pair,
    config: AugmentConfig,
    common: NDArray[np.float64],
    exposure: NDArray[np.float64],
    rng: np.random.Generator,
) -> Pair:
    """Brightness, contrast and saturation, hue and channels, exposure and white balance, by `config`.

    `common` (3) and `exposure` (2) are uniform in [-1, 1]: for brightness, contrast and saturation; for each view.
    """
    chances = rng.random(4)
    turn, strength = rng.random(2)
    order = rng.permutation(3)
    balance = rng.uniform(-1, 1, (2, 3))
    # 1. What both views have in common, as one matrix: all of it is linear in the colour.
    brightness, contrast, saturation = 1 + np.array([config.brightness, config.contrast, config.saturation]) * common
    if chances[0] < config.neon:
        saturation *= 1.5 + 2.5 * strength
    if chances[1] < config.gray:
        saturation = 0.0
    matrix = saturate(saturation)
    if chances[2] < config.hue:
        matrix = matrix @ turn_hue(2 * np.pi * turn)
    if chances[3] < config.permute:
        matrix = matrix @ np.eye(3)[order]
    # 2. What each view has for itself.
    gains = (1 + config.exposure * exposure)[:, None] * (1 + config.white_balance * balance)
    if contrast == brightness == 1 and np.array_equal(matrix, np.eye(3)) and (gains == 1).all():
        return pair
    # One pivot for both views: contrast about each view's own mean would be a different change in each.
    pivot = float(pair.x.reshape(-1, 3).mean(axis=0) @ _LUMA * brightness)
    x, x_side = (
        _linear(view, contrast * brightness * matrix * gain, (1 - contrast) * pivot * gain)
        for view, gain in zip((pair.x, pair.x_side), gains, strict=True)
    )
    return replace(pair, x=x, x_side=x_side)


def saturate(factor: float) -> NDArray[np.float64]:
    """(3, 3): RGB rows times this have their distance from gray of the same luma multiplied by `factor`."""
    return factor * np.eye(3) + (1 - factor) * _LUMA[:, None]


def turn_hue(angle: float) -> NDArray[np.float64]:
    """(3, 3): RGB rows times this are turned about the axis of grays, in radians; a third of a turn permutes RGB."""
    # Rodrigues' formula with the axis (1, 1, 1) / sqrt(3).
    cross = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / np.sqrt(3)
    return np.cos(angle) * np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) / 3


def _linear(view: NDArray[np.uint8], matrix: NDArray[np.float64], offset: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Each colour (a row) times the matrix plus the offset, rounded."""
    value = view.reshape(-1, 3).astype(np.float32) @ matrix.astype(np.float32)
    value += (offset + 0.5).astype(np.float32)
    return value.clip(0, 255).astype(np.uint8).reshape(view.shape)
