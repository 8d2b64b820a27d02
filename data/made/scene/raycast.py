"""A stereo ray caster: two pinhole cameras, their ray bundles, and the buffers that surfaces are painted into.

Street frame: X to the right, Y up, Z along the street, metres; the ground is Y = 0. A ray is origin + t * direction
with the direction's component along the optical axis equal to 1, so that t is the depth of the point and its disparity
is focal * baseline / t. Both views are computed together: arrays have a leading axis of two, left and right.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from data.made.textures import Floats

Point = tuple[float, float, float]

NEAR = np.float32(0.5)
FAR = np.float32(1e9)
BLUR = 1.8
"""Width of the box that stands for lens and sensor, in pixels: footprints are this much larger than a pixel."""


@dataclass(frozen=True)
class Camera:
    """A rectified pair of pinhole cameras. Lengths in metres, `focal` and `centre_*` in pixels, `yaw` in radians."""

    height: int
    width: int
    focal: float
    centre_u: float
    centre_v: float
    baseline: float = 0.54
    elevation: float = 1.65
    yaw: float = 0.0


@dataclass(frozen=True)
class Light:
    """The sun (unit vector towards it, colour) and the sky's colours, in linear light; `haze` is 1 / metres."""

    direction: Floats
    sun: Floats
    ambient: Floats
    horizon: Floats
    zenith: Floats
    haze: float

    def lambert(self, normal: Point) -> Floats:
        """Light that falls on a surface with this unit normal, (3, 1, 1): sun, sky (more from above) and ground."""
        cosine = sum(n * float(d) for n, d in zip(normal, self.direction, strict=True))
        return self.ambient * np.float32(0.75 + 0.25 * normal[1]) + self.sun * np.float32(max(cosine, 0.0))


@dataclass(frozen=True)
class Box:
    """A rectangle of the image, in pixels: rows top ... bottom - 1, columns left ... right - 1."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def rows(self) -> slice:
        """Its rows, to index an image."""
        return slice(self.top, self.bottom)

    @property
    def columns(self) -> slice:
        """Its columns, to index an image."""
        return slice(self.left, self.right)


@dataclass(frozen=True)
class Rays:
    """Rays through the pixels of a box: direction x and z (w,), y (h, 1); `origin` (2, 3) of both views."""

    origin: Floats
    x: Floats
    y: Floats
    z: Floats

    def start(self, axis: int) -> Floats:
        """One coordinate of both origins, shape (2, 1, 1)."""
        return self.origin[:, axis, None, None]


class Canvas:
    """Linear-light colour (2, 3, H, W) and depth (2, H, W) of both views, painted surface by surface, far to near.

    A surface gives colour, coverage of the pixel in [0, 1], and depth. A depth test decides where surfaces interleave;
    the depth kept is that of the surface that covers most of the pixel.
    """

    def __init__(self, camera: Camera) -> None:
        self.camera = camera
        self.colour = np.zeros((2, 3, camera.height, camera.width), np.float32)
        self.depth = np.full((2, camera.height, camera.width), FAR, np.float32)
        cos, sin = float(np.cos(camera.yaw)), float(np.sin(camera.yaw))
        self.forward = np.array([sin, 0, cos], np.float32)
        """Optical axis."""
        self.right = np.array([cos, 0, -sin], np.float32)
        """Direction of image columns and of the baseline."""
        left = np.array([0, camera.elevation, 0], np.float32)
        self.origins = np.stack([left, left + np.float32(camera.baseline) * self.right])
        """Centres of projection, (2, 3)."""
        step = np.float32(1.0 / camera.focal)
        self.step = step
        self.pixel = np.float32(BLUR / camera.focal)
        """Footprint of a pixel at depth 1."""
        u = (np.arange(camera.width, dtype=np.float32) + np.float32(0.5 - camera.centre_u)) * step
        v = (np.arange(camera.height, dtype=np.float32) + np.float32(0.5 - camera.centre_v)) * step
        self.rays = Rays(
            self.origins, self.forward[0] + u * self.right[0], -v[:, None], self.forward[2] + u * self.right[2]
        )

    def box(self, points: Sequence[Point], near: float = 0.0) -> Box | None:
        """The smallest box that holds the projection of `points` in both views, with a margin.

        None if it is out of sight or if a point is nearer than depth `near`. Points behind the cameras count as lying
        beside them, which keeps their side of the image.
        """
        camera = self.camera
        cos, sin, focal = float(self.right[0]), float(self.forward[0]), camera.focal
        smallest, left, right, top, bottom, deepest = 1e9, 1e9, -1e9, 1e9, -1e9, 0.0
        for x, y, z in points:
            depth = x * sin + z * cos
            smallest, deepest = min(smallest, depth), max(deepest, depth)
            scale = focal / max(depth, float(NEAR))
            across, row = (x * cos - z * sin) * scale, (camera.elevation - y) * scale
            right, left = max(right, across), min(left, across - camera.baseline * scale)
            top, bottom = min(top, row), max(bottom, row)
        if smallest < near or deepest <= NEAR:
            return None
        first, last = max(int(camera.centre_u + left - 2), 0), min(int(camera.centre_u + right + 3), camera.width)
        high, low = max(int(camera.centre_v + top - 2), 0), min(int(camera.centre_v + bottom + 3), camera.height)
        return Box(high, low, first, last) if first < last and high < low else None

    def bundle(self, box: Box, samples: int = 1) -> Rays:
        """Rays of the box, `samples` x `samples` a pixel."""
        rays = self.rays
        x, y, z = rays.x[box.columns], rays.y[box.rows], rays.z[box.columns]
        if samples > 1:
            offset = ((np.arange(samples) + 0.5) / samples - 0.5).astype(np.float32) * self.pixel
            x = (x[:, None] + offset * self.right[0]).ravel()
            z = (z[:, None] + offset * self.right[2]).ravel()
            y = (y - offset).reshape(-1, 1)
        return Rays(rays.origin, x, y, z)

    def paint(self, box: Box, colour: Floats, coverage: Floats, depth: Floats) -> None:
        """Lays a surface over the box: `colour` (2, 3, h, w), `coverage` and `depth` (2, h, w), all broadcastable."""
        kept = self.depth[:, box.rows, box.columns]
        coverage = coverage * (depth < kept)
        target = self.colour[:, :, box.rows, box.columns]
        change = colour - target
        change *= coverage[:, None]
        target += change
        np.copyto(kept, depth, where=coverage >= np.float32(0.5))


def coverage(position: Floats, low: float, high: float, footprint: Floats | np.float32) -> Floats:
    """How much of an interval of length `footprint` around `position` lies in [low, high]: 0 to 1."""
    inverse = np.float32(1.0) / np.maximum(footprint, np.float32(1e-6))
    upper = np.float32(high) - position
    upper *= inverse
    np.minimum(upper, np.float32(0.5), out=upper)
    lower = np.float32(low) - position
    lower *= inverse
    np.maximum(lower, np.float32(-0.5), out=lower)
    upper -= lower
    return np.maximum(upper, np.float32(0.0), out=upper)


def above(position: Floats, low: Floats | float, footprint: Floats) -> Floats:
    """How much of an interval of length `footprint` around `position` lies above `low`: 0 to 1."""
    inside = position - np.float32(low) if isinstance(low, float) else position - low
    inside /= footprint
    inside += np.float32(0.5)
    return np.clip(inside, np.float32(0.0), np.float32(1.0), out=inside)


def colour(red: float, green: float, blue: float) -> Floats:
    """A linear-light colour that broadcasts over (2, 3, h, w)."""
    return np.array([red, green, blue], np.float32)[:, None, None]


def corners(low: Point, high: Point) -> list[Point]:
    """The eight corners of an axis-aligned box."""
    return [(x, y, z) for x in (low[0], high[0]) for y in (low[1], high[1]) for z in (low[2], high[2])]
