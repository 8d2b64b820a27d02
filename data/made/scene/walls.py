"""Upright surfaces of the synthetic street: facades with windows, hoardings, fences, roofs and round posts.

Each intersects the rays of its bounding box in closed form and paints itself with analytic antialiasing. Lengths are
metres in the street frame of `data/made/scene/raycast.py`; colours are linear-light albedos of shape (3, 1, 1).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from data.made.scene.raycast import FAR, NEAR, Box, Canvas, Light, Point, Rays, above, corners, coverage
from data.made.textures import Floats, RipMap, street_textures


class Section(NamedTuple):
    """Where the rays of a box meet a vertical plane: depth and place along its base (2, 1, w), height (2, h, w)."""

    box: Box
    rays: Rays
    length: float
    depth: Floats
    along: Floats
    height: Floats
    width: Floats
    """Footprint of a pixel along the base line."""
    rise: Floats
    """Footprint of a pixel upwards."""
    normal: Point


def section(
    canvas: Canvas, start: tuple[float, float], end: tuple[float, float], low: float, high: float
) -> Section | None:
    """Intersects a vertical plane that stands on the line from start to end (x, z), seen between two heights."""
    length = float(np.hypot(end[0] - start[0], end[1] - start[1]))
    ex, ez = (end[0] - start[0]) / length, (end[1] - start[1]) / length
    forward_x, forward_z = float(canvas.forward[0]), float(canvas.forward[2])
    near, far = (x * forward_x + z * forward_z for x, z in (start, end))
    first, last = start, end
    if max(near, far) <= NEAR:
        return None
    if min(near, far) < NEAR:
        share = (float(NEAR) - near) / (far - near)
        cut = (start[0] + (end[0] - start[0]) * share, start[1] + (end[1] - start[1]) * share)
        first, last = (cut, end) if near < far else (start, cut)
    box = canvas.box([(p[0], y, p[1]) for p in (first, last) for y in (low, high)])
    if box is None:
        return None
    rays = canvas.bundle(box)
    nx, nz = ez, -ex
    if nx * start[0] + nz * start[1] > 0:
        nx, nz = -nx, -nz
    right_x, right_z = float(canvas.right[0]), float(canvas.right[2])
    to_x, to_z = np.float32(start[0]) - rays.start(0), np.float32(start[1]) - rays.start(2)
    facing = rays.x * np.float32(nx) + rays.z * np.float32(nz)
    facing = np.where(np.abs(facing) < np.float32(1e-5), np.float32(-1e-5), facing)
    depth = (to_x * np.float32(nx) + to_z * np.float32(nz)) / facing
    depth = np.where(depth <= NEAR * np.float32(0.5), FAR, depth)
    ahead = rays.x * np.float32(ex) + rays.z * np.float32(ez)
    along = ahead * depth - (to_x * np.float32(ex) + to_z * np.float32(ez))
    slope = np.float32(ex * right_x + ez * right_z) - ahead * np.float32(nx * right_x + nz * right_z) / facing
    rise = depth * canvas.pixel
    return Section(
        box, rays, length, depth, along, rays.start(1) + depth * rays.y, np.abs(slope) * rise, rise, (nx, 0.0, nz)
    )


@dataclass(frozen=True)
class Windows:
    """A grid of windows: periods and sizes along the wall and up, height of the first sill, looks."""

    period: tuple[float, float]
    size: tuple[float, float]
    sill: float
    frame: float
    interior: Floats
    """(8, 8) brightness of what is behind each pane, repeating."""
    frame_albedo: float
    reflection: float


@dataclass(frozen=True)
class Wall:
    """A vertical wall between two points of the plan, from `bottom` to `top`; `peak` adds a gable of that height."""

    start: tuple[float, float]
    end: tuple[float, float]
    bottom: float
    top: float
    albedo: Floats
    texture: str | None = None
    scale: float = 1.0
    """Texels per metre."""
    windows: Windows | None = None
    peak: float = 0.0
    plinth: tuple[float, float] = (0.0, 1.0)
    """Height of the plinth and its brightness relative to the wall's."""
    picture: tuple[RipMap, RipMap, RipMap] | None = None
    """A colour picture that fills the wall."""
    bars: tuple[float, float] | None = None
    """Period and width of upright bars with gaps between them: a fence or a railing."""

    def draw(self, canvas: Canvas, light: Light) -> None:
        """Paints the wall."""
        cut = section(canvas, self.start, self.end, self.bottom, self.top + self.peak)
        if cut is None:
            return
        inside = above(-cut.height, self._outline(cut), cut.rise)
        inside *= coverage(cut.along, 0.0, cut.length, cut.width)
        if self.bottom > 0:
            inside *= above(cut.height, self.bottom, cut.rise)
        if self.bars is not None:
            period, width = self.bars
            phase = np.mod(cut.along, np.float32(period))
            bars = coverage(phase, 0.0, width, np.minimum(cut.width, np.float32(period)))
            rails = coverage(cut.height, self.top - width, self.top, cut.rise)
            inside *= np.maximum(rails, bars)
        received = light.lambert(cut.normal)
        if self.picture is not None:
            across, up = np.float32(256 / cut.length), np.float32(256 / (self.top - self.bottom))
            place = cut.along * across, (np.float32(self.top) - cut.height) * up, cut.width * across, cut.rise * up
            shown = np.stack([channel.sample(*place) for channel in self.picture], axis=1) * received
        elif self.texture is None:
            shown = (self.albedo * received)[None]
        else:
            shown = self._surface(cut, received)
        if self.windows is not None:
            self._glaze(self.windows, shown, cut, light, received)
        canvas.paint(cut.box, shown, inside, cut.depth)

    def _outline(self, cut: Section) -> Floats | float:
        """Minus the height of the wall's top along its base."""
        if not self.peak:
            return -self.top
        middle = np.abs(cut.along * np.float32(2 / cut.length) - 1)
        return (middle - 1) * np.float32(self.peak) - np.float32(self.top)

    def _surface(self, cut: Section, received: Floats) -> Floats:
        scale = np.float32(self.scale)
        texture = street_textures()[str(self.texture)]
        detail = texture.sample(cut.along * scale, cut.height * scale, cut.width * scale, cut.rise * scale)
        # Less of the sky is seen from near the ground and from under the eaves.
        detail *= np.float32(0.7) + np.float32(0.3) * np.clip(cut.height * np.float32(0.6), 0, 1)
        if self.plinth[0]:
            low = above(-cut.height, -self.plinth[0], cut.rise)
            low *= np.float32(self.plinth[1] - 1)
            low += 1
            detail *= low
        return detail[:, None] * (self.albedo * received)

    def _glaze(self, grid: Windows, shown: Floats, cut: Section, light: Light, received: Floats) -> None:
        """Paints the window frames and panes over the wall's colours, in place."""
        along_period, up_period = (np.float32(period) for period in grid.period)
        columns = max(int(cut.length / grid.period[0]), 1)
        margin = np.float32((cut.length - columns * grid.period[0]) / 2)
        floors = int((self.top - grid.sill - grid.size[1] - 0.3) / grid.period[1]) + 1
        if floors < 1:
            return
        column = np.floor((cut.along - margin) / along_period)
        storey = cut.height - np.float32(grid.sill)
        row = np.floor(storey / up_period + np.float32(0.15))
        across = cut.along - margin - column * along_period
        up = storey - row * up_period
        width, rise = np.minimum(cut.width, along_period), np.minimum(cut.rise, up_period)
        left = (grid.period[0] - grid.size[0]) / 2
        right, frame = left + grid.size[0], grid.frame
        in_column = ((column >= 0) & (column < columns)) * np.float32(1.0)
        in_row = ((row >= 0) & (row < floors)) * np.float32(1.0)
        outer = (coverage(up, 0.0, grid.size[1], rise) * in_row) * (coverage(across, left, right, width) * in_column)
        middle = (left + right) / 2
        panes = coverage(across, left + frame, middle - frame / 2, width)
        panes += coverage(across, middle + frame / 2, right - frame, width)
        pane = (coverage(up, frame, grid.size[1] - frame, rise) * in_row) * (panes * in_column)
        np.minimum(pane, outer, out=pane)
        interior = grid.interior.take((row.astype(np.intp) & 7) * 8 + (column.astype(np.intp) & 7))
        # A plane mirror shows what lies far off in the mirrored direction: the same in both views, unlike the wall.
        nx, nz = np.float32(cut.normal[0]), np.float32(cut.normal[2])
        ahead = np.maximum(np.abs(nx * cut.rays.x + nz * cut.rays.z), np.float32(0.05))
        azimuth, climb = (nz * cut.rays.x - nx * cut.rays.z) / ahead, cut.rays.y / ahead
        world = street_textures()["clouds"].sample(azimuth * 40, climb * 40, np.float32(2.0), np.float32(2.0))
        sky = np.clip((climb - np.float32(0.25)) * 3 + (world - 1) * 2, 0, 1)
        mirrored = (light.horizon * sky + light.ambient * np.float32(0.12)) * np.float32(grid.reflection)
        glass = interior[:, None] * light.ambient
        glass += mirrored
        outer -= pane
        shown += outer[:, None] * (received * np.float32(grid.frame_albedo) - shown)
        shown += pane[:, None] * (glass - shown)


@dataclass(frozen=True)
class Roof:
    """A slanted parallelogram: a corner, the edge along the eaves and the edge up to the ridge."""

    corner: Point
    eaves: Point
    slope: Point
    albedo: Floats
    texture: str = "brick"
    scale: float = 160.0

    def draw(self, canvas: Canvas, light: Light) -> None:
        """Paints the side of the roof that faces the camera, if that is its upper side."""
        corner, eaves, slope = (np.array(v, np.float32) for v in (self.corner, self.eaves, self.slope))
        points = np.stack([corner, corner + eaves, corner + slope, corner + eaves + slope])
        box = canvas.box(points.tolist(), float(NEAR))
        if box is None:
            return
        normal = np.cross(eaves, slope)
        normal = (normal / np.sqrt((normal * normal).sum())).astype(np.float32)
        normal = normal if normal[1] > 0 else -normal
        if float(normal @ (canvas.origins[0] - corner)) < 0:
            return
        rays = canvas.bundle(box)
        facing = (normal[0] * rays.x + normal[2] * rays.z) + normal[1] * rays.y
        facing = np.where(np.abs(facing) < np.float32(1e-4), np.float32(-1e-4), facing)
        depth = ((corner - canvas.origins) @ normal)[:, None, None] / facing
        inside = (depth > NEAR) * np.float32(1.0)
        depth = np.where(depth > NEAR, depth, FAR)
        size = depth * canvas.pixel
        # How fast the depth changes from column to column and from row to row, relative to depth and pixel.
        turn, tilt = float(normal @ canvas.right) / facing, normal[1] / facing
        place = []
        for edge in (eaves, slope):
            length = float(np.sqrt((edge * edge).sum()))
            unit = edge / np.float32(length)
            ahead = (unit[0] * rays.x + unit[2] * rays.z) + unit[1] * rays.y
            footprint = np.abs(float(unit @ canvas.right) - ahead * turn)
            footprint += np.abs(unit[1] - ahead * tilt)
            footprint = footprint * size
            along = ahead * depth
            along += ((canvas.origins - corner) @ unit)[:, None, None]
            inside *= coverage(along, 0.0, length, footprint)
            place += [along * np.float32(self.scale), footprint * np.float32(self.scale)]
        detail = street_textures()[self.texture].sample(place[0], place[2], place[1], place[3])
        received = light.lambert((float(normal[0]), float(normal[1]), float(normal[2])))
        canvas.paint(box, detail[:, None] * (self.albedo * received), inside, depth)


@dataclass(frozen=True)
class Post:
    """A vertical cylinder: trunk, lamp post, part of a pedestrian. `shine` is the strength of its highlight."""

    x: float
    z: float
    radius: float
    bottom: float
    top: float
    albedo: Floats
    texture: str | None = None
    shine: float = 0.0

    def draw(self, canvas: Canvas, light: Light) -> None:
        """Paints the cylinder's mantle."""
        x, z, radius = self.x, self.z, self.radius
        points = corners((x - radius, self.bottom, z - radius), (x + radius, self.top, z + radius))
        box = canvas.box(points, float(NEAR))
        if box is None:
            return
        rays = canvas.bundle(box)
        qx, qz = rays.start(0) - np.float32(x), rays.start(2) - np.float32(z)
        a = rays.x * rays.x + rays.z * rays.z
        b = qx * rays.x + qz * rays.z
        closest = np.abs(qx * rays.z - qz * rays.x) / np.sqrt(a)
        side = coverage(closest, -radius, radius, np.sqrt(qx * qx + qz * qz) * canvas.pixel)
        root = np.sqrt(np.maximum(np.float32(radius**2) - closest * closest, 0) * a)
        depth = (-b - root) / a
        nx, nz = (qx + depth * rays.x) * np.float32(1 / radius), (qz + depth * rays.z) * np.float32(1 / radius)
        sun = light.direction
        lit = np.maximum(nx * sun[0] + nz * sun[2], 0)
        height = rays.start(1) + depth * rays.y
        rise = depth * canvas.pixel
        inside = coverage(height, self.bottom, self.top, rise) * side
        received = light.ambient * np.float32(0.8) + light.sun * lit[:, None]
        if self.shine:
            # The highlight depends on the direction to the eye, so the two views differ.
            half = np.clip(((sun[0] - rays.x) * nx + (sun[2] - rays.z) * nz) * np.float32(0.7), 0, 1)
            received = received + light.sun * (np.float32(self.shine) * half[:, None] ** 8)
        shown = self.albedo * received
        if self.texture is not None:
            texture, scale = street_textures()[self.texture], np.float32(120.0)
            around = nx * np.float32(240.0 * radius)
            detail = texture.sample(around, height * np.float32(36.0), rise * scale, rise * np.float32(36.0))
            shown = shown * detail[:, None]
        canvas.paint(box, shown, inside, depth)
