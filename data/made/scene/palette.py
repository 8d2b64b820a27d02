"""Random colours of the synthetic street, as linear-light albedos of shape (3, 1, 1)."""

from __future__ import annotations

from data.made.scene.raycast import colour
from data.made.textures import Floats, Randomness


def lacquer(rng: Randomness) -> Floats:
    """Car paint: black, grey, silver, white, and some blue, red and green."""
    kind = rng.integer(10)
    if kind < 4:
        v = rng.uniform(0.004, 0.03)
        return colour(v, v, v * rng.uniform(1.0, 1.4))
    if kind < 7:
        v = rng.uniform(0.06, 0.5)
        return colour(v, v, v * rng.uniform(0.95, 1.1))
    if kind < 8:
        return colour(0.65, 0.65, 0.63)
    strong, weak = rng.uniform(0.06, 0.35), rng.uniform(0.008, 0.04)
    first = 2 * rng.integer(2) if rng.chance(0.8) else 1
    channels = [weak * rng.uniform(0.7, 2.5) for _ in range(3)]
    channels[first] = strong
    return colour(*channels)


def leaves(rng: Randomness, autumn: float) -> tuple[Floats, Floats]:
    """Colours of shaded and of bright leaves; `autumn` from 0 to 1 turns them yellow and brown."""
    green = rng.uniform(0.09, 0.24)
    red = green * (rng.uniform(0.5, 0.9) + autumn * rng.uniform(0.0, 0.8))
    blue = green * rng.uniform(0.05, 0.3)
    dark = rng.uniform(0.02, 0.15)
    return colour(red * dark, green * dark, green * dark * 0.75), colour(red, green, blue)


def masonry(rng: Randomness) -> tuple[str, float, Floats]:
    """Texture of a facade, its texels per metre, and its colour."""
    kind = rng.integer(5)
    v = rng.uniform(0.08, 0.6)
    if kind == 0:
        v = rng.uniform(0.10, 0.3)
        return "brick", 180.0, colour(v, v * rng.uniform(0.3, 0.6), v * rng.uniform(0.2, 0.45))
    if kind == 1:
        return "stains", 40.0, colour(v, v * rng.uniform(0.85, 1.0), v * rng.uniform(0.7, 0.95))
    if rng.chance(0.4):
        v = rng.uniform(0.4, 0.7)
        return "plaster", 40.0, colour(v, v * rng.uniform(0.93, 1.0), v * rng.uniform(0.8, 1.0))
    return "plaster", 40.0, colour(v, v * rng.uniform(0.7, 0.97), v * rng.uniform(0.4, 0.9))


def clothes(rng: Randomness) -> Floats:
    """Anything, mostly dark."""
    v = rng.uniform(0.1, 0.8) ** 3 + 0.005
    return colour(*(v * rng.uniform(0.5, 1.5) for _ in range(3)))


def grey(rng: Randomness, low: float, high: float) -> Floats:
    """A neutral grey."""
    v = rng.uniform(low, high)
    return colour(v, v, v)
