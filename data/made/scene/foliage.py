"""Leaves of the synthetic street: crowns and bushes are ellipsoids, hedges and wood edges are ragged walls."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from data.made.scene.raycast import NEAR, Canvas, Light, Point, corners, coverage
from data.made.scene.walls import section
from data.made.textures import Floats, street_textures

CRISP = np.float32(0.8)
"""Share of a pixel's footprint over which leaves are averaged: they glitter, as small bright things do."""


def leaf_colour(leaves: Floats, dark: Floats, bright: Floats) -> Floats:
    """Albedo (2, 3, h, w) of leaf texture (2, h, w): gaps are dark and dull, the leaves that stick out bright."""
    amount = np.clip(leaves * np.float32(0.4), 0, 1)
    depth = leaves * (np.float32(0.7) + np.float32(0.3) * leaves)
    albedo = (bright - dark) * amount[:, None]
    albedo += dark
    albedo *= depth[:, None]
    return albedo


@dataclass(frozen=True)
class Crown:
    """An ellipsoid of leaves with a ragged outline: part of a tree's crown, or a bush."""

    centre: Point
    radii: Point
    dark: Floats
    bright: Floats
    scale: float
    """Texels per metre."""
    offset: float
    ragged: float
    """How far the outline frays, 0.1 to 1."""

    def draw(self, canvas: Canvas, light: Light) -> None:
        """Paints the ellipsoid's near side, with leaf texture attached to the points of its surface."""
        low = tuple(c - r for c, r in zip(self.centre, self.radii, strict=True))
        high = tuple(c + r for c, r in zip(self.centre, self.radii, strict=True))
        box = canvas.box(corners(low, high), 2 * float(NEAR))  # type: ignore[arg-type]
        if box is None:
            return
        rays = canvas.bundle(box)
        centre, inverse = np.array(self.centre, np.float32), 1 / np.array(self.radii, np.float32)
        q = (canvas.origins - centre) * inverse
        ex, ey, ez = rays.x * inverse[0], rays.y * inverse[1], rays.z * inverse[2]
        a = (ex * ex + ez * ez) + ey * ey
        b = (q[:, 0, None, None] * ex + q[:, 2, None, None] * ez) + q[:, 1, None, None] * ey
        c = ((q * q).sum(1) - 1)[:, None, None]
        # inner / a is 1 in the middle and 0 on the outline: 1 - (distance of the ray from the centre)^2.
        inner = b * b
        inner -= c * a
        share = 1 / a
        depth = np.sqrt(np.maximum(inner, 0))
        depth += b
        depth *= -share
        # Unit normal, which is also the position on the unit sphere.
        nx, ny, nz = (
            q[:, 0, None, None] + depth * ex,
            q[:, 1, None, None] + depth * ey,
            q[:, 2, None, None] + depth * ez,
        )
        along, up = np.float32(self.scale * self.radii[0]), np.float32(self.scale * self.radii[1])
        middle = float((centre - canvas.origins[0]) @ canvas.forward)
        size = np.float32(middle * float(canvas.pixel) * self.scale * CRISP)
        leaves = street_textures()["foliage"].sample(nx * along + np.float32(self.offset), ny * up, size, size)
        inner *= share * np.float32(1.4 / max(self.ragged, 0.1))
        inside = np.minimum(leaves, 2)
        inside -= np.float32(1.0)
        inside *= np.float32(1.4)
        inside += inner
        inside *= inner > 0
        np.clip(inside, 0, 1, out=inside)
        sun = light.direction * np.float32(0.7)
        facing = nx * sun[0]
        facing += ny * sun[1]
        facing += nz * sun[2]
        facing += np.float32(0.3)
        np.clip(facing, 0, 1, out=facing)
        ny *= np.float32(0.5)
        ny += np.float32(0.75)
        received = light.sun * facing[:, None]
        received += light.ambient * ny[:, None]
        received *= leaf_colour(leaves, self.dark, self.bright)
        canvas.paint(box, received, inside, depth)


@dataclass(frozen=True)
class Thicket:
    """A wall of leaves with a ragged top: hedge, row of bushes, edge of a wood, distant trees."""

    start: tuple[float, float]
    end: tuple[float, float]
    height: float
    dark: Floats
    bright: Floats
    scale: float
    offset: float
    ragged: float
    """Relative change of height along the top."""
    aside: float = 0.0
    """For a thicket along the street: its distance to the side. Its texture then grows with Z, because a wood shows
    leaves from near and whole branches from afar, and is drawn out along Z, so that they look as wide as high."""

    def draw(self, canvas: Canvas, light: Light) -> None:
        """Paints the thicket from the ground to its outline."""
        cut = section(canvas, self.start, self.end, 0.0, self.height * (1 + 1.3 * self.ragged))
        if cut is None:
            return
        textures = street_textures()
        scale, offset = np.float32(self.scale), np.float32(self.offset)
        place, height, width, rise = cut.along, cut.height, cut.width, cut.rise
        if self.aside:
            ahead = np.maximum(cut.along + np.float32(self.start[1]), np.float32(0.5))
            stretch = np.float32(self.aside) / ahead
            place, width = np.log(ahead) * np.float32(self.aside), np.minimum(width * stretch, 2 * rise * stretch)
            height, rise = (cut.height - np.float32(canvas.camera.elevation)) * stretch, rise * stretch
        leaves = textures["foliage"].sample(
            place * scale + offset, height * scale + offset, width * scale * CRISP, rise * scale * CRISP
        )
        waves = np.float32(60.0 / self.height)
        outline = textures["clouds"].sample(cut.along * waves + offset, offset, cut.width * waves, np.float32(1.0))
        top = np.float32(self.height) * (1 + np.float32(self.ragged) * np.clip((outline - 1) * 2, -1, 1))
        soft = np.maximum(cut.rise, np.float32(0.25 * self.ragged * self.height))
        inside = (top - cut.height) / soft
        inside += np.minimum(leaves, 2) - np.float32(1.2)
        inside *= 2
        np.clip(inside, 0, 1, out=inside)
        inside *= coverage(cut.along, 0.0, cut.length, cut.width)
        level = np.clip(cut.height / top, 0, 1)
        facing = max(sum(n * float(d) for n, d in zip(cut.normal, light.direction, strict=True)), 0.0)
        strength = np.float32(0.3 * max(float(light.direction[1]), 0.0) + 0.7 * facing)
        received = light.sun * ((np.float32(0.25) + np.float32(0.75) * level) * strength)[:, None]
        received += light.ambient * (np.float32(0.4) + np.float32(0.8) * level)[:, None]
        received *= leaf_colour(leaves, self.dark, self.bright)
        canvas.paint(cut.box, received, inside, cut.depth)
