"""A stereo ray caster: two pinhole cameras, their ray bundles, and the buffers that surfaces are painted into.

Street frame: X to the right, Y up, Z along the street, metres; the ground is Y = 0. A ray is origin + t * direction with
the direction's component along the optical axis equal to 1, so that t is the depth of the point and its disparity is
focal * baseline / t. Both views are computed together: arrays have a leading axis of two views (0 is left, 1 is right).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from data.textures import Floats

NEAR = np.float32(0.5)
FAR = np.float32(1e9)


@dataclass(frozen=True)
class Camera:
    """A rectified pair of pinhole cameras. Lengths in metres, `focal`, `centre_u`, `centre_v` in pixels, `yaw` in radians."""

    height: int
    width: int
    focal: float
    centre_u: float
    centre_v: float
    baseline: float = 0.54
    elevation: float = 1.65
    lateral: float = 0.0
    yaw: float = 0.0

    @property
    def axes(self) -> tuple[Floats, Floats]:
        """Optical axis and the direction of image columns, in the street frame."""
        cos, sin = np.cos(self.yaw), np.sin(self.yaw)
        return np.array([sin, 0, cos], np.float32), np.array([cos, 0, -sin], np.float32)

    @property
    def origins(self) -> Floats:
        """Centres of projection, (2, 3)."""
        left = np.array([self.lateral, self.elevation, 0], np.float32)
        return np.stack([left, left + np.float32(self.baseline) * self.axes[1]])


@dataclass(frozen=True)
class Box:
    """A rectangle of the image, in pixels: rows top ... bottom - 1, columns left ... right - 1."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def rows(self) -> slice:
        return slice(self.top, self.bottom)

    @property
    def columns(self) -> slice:
        return slice(self.left, self.right)


@dataclass(frozen=True)
class Rays:
    """Rays through the pixels of a box: direction (x, y, z) with x, z of shape (w,), y of shape (h, 1); `origin` (2, 3)."""

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
        self.pixel = np.float32(1.0 / camera.focal)
        forward, right = camera.axes
        u = (np.arange(camera.width, dtype=np.float32) + np.float32(0.5 - camera.centre_u)) * self.pixel
        v = (np.arange(camera.height, dtype=np.float32) + np.float32(0.5 - camera.centre_v)) * self.pixel
        self.forward, self.right = forward, right
        self.rays = Rays(camera.origins, forward[0] + u * right[0], -v[:, None], forward[2] + u * right[2])

    def box(self, points: Floats) -> Box | None:
        """The smallest box that holds the projection of `points` (N, 3) in both views, with a margin; None if unseen."""
        camera = self.camera
        relative = points[None] - camera.origins[:, None]
        depth = relative @ self.forward
        if depth.max() <= NEAR:
            return None
        scale = camera.focal / np.maximum(depth, NEAR)
        u = camera.centre_u + scale * (relative @ self.right)
        v = camera.centre_v - scale * relative[..., 1]
        left, right = max(int(np.floor(u.min())) - 1, 0), min(int(np.ceil(u.max())) + 1, camera.width)
        top, bottom = max(int(np.floor(v.min())) - 1, 0), min(int(np.ceil(v.max())) + 1, camera.height)
        return Box(top, bottom, left, right) if left < right and top < bottom else None

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
        coverage = np.where(depth < kept, coverage, np.float32(0.0))
        target = self.colour[:, :, box.rows, box.columns]
        target += coverage[:, None] * (colour - target)
        np.copyto(kept, depth, where=coverage >= np.float32(0.5))

    def paint_samples(self, box: Box, samples: int, colour: Floats, hit: Floats, depth: Floats) -> None:
        """As `paint` for supersampled surfaces: `hit` (2, h*s, w*s) is 0 or 1; colours are averaged over the hits."""
        height, width = box.bottom - box.top, box.right - box.left
        kept = np.repeat(np.repeat(self.depth[:, box.rows, box.columns], samples, 1), samples, 2)
        hit = np.where(depth < kept, hit, np.float32(0.0))
        blocks = (height, samples, width, samples)
        coverage = hit.reshape(2, *blocks).mean((2, 4))
        share = 1 / np.maximum(coverage, np.float32(1e-6))
        mean = (colour * hit[:, None]).reshape(2, 3, *blocks).mean((3, 5)) * share[:, None]
        nearest = np.where(hit > 0, depth, FAR).reshape(2, *blocks)
        # The harmonic mean over the hits is the mean disparity.
        inverse = (hit.reshape(2, *blocks) / nearest).mean((2, 4)) * share
        self.paint(box, mean, coverage, 1 / np.maximum(inverse, np.float32(1e-9)))


def coverage(position: Floats, low: Floats | float, high: Floats | float, footprint: Floats | float) -> Floats:
    """How much of an interval of length `footprint` around `position` lies in [low, high]: 0 to 1."""
    inverse = np.float32(1.0) / np.maximum(footprint, np.float32(1e-6))
    upper = np.minimum((np.float32(high) - position) * inverse, np.float32(0.5))
    lower = np.maximum((np.float32(low) - position) * inverse, np.float32(-0.5))
    return np.maximum(upper - lower, np.float32(0.0))


def colour(red: float, green: float, blue: float) -> Floats:
    """A linear-light colour that broadcasts over (2, 3, h, w)."""
    return np.array([red, green, blue], np.float32)[:, None, None]


@dataclass(frozen=True)
class Light:
    """The sun (unit vector towards it, colour) and the sky's ambient colour, in linear light; `haze` is 1 / metres."""

    direction: Floats
    sun: Floats
    ambient: Floats
    horizon: Floats
    zenith: Floats
    haze: float

    def lambert(self, normal: tuple[float, float, float]) -> Floats:
        """Light that falls on a surface with this unit normal, (3, 1, 1): sun, sky (more from above) and ground."""
        cosine = float(np.dot(np.asarray(normal, np.float32), self.direction))
        return self.ambient * np.float32(0.75 + 0.25 * normal[1]) + self.sun * np.float32(max(cosine, 0.0))
