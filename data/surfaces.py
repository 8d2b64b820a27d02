"""What the synthetic street is made of: sky, ground, walls, roofs, hedges, crowns of trees and round posts.

Each surface intersects the rays of its bounding box in closed form and paints itself with analytic antialiasing. Lengths
are metres in the street frame of `data/raycast.py`; colours are linear-light albedos of shape (3, 1, 1).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np

from data.raycast import FAR, NEAR, Box, Canvas, Light, Rays, colour, coverage
from data.textures import Floats, RipMap, street_textures


class Surface(Protocol):
    """Something that can paint itself."""

    def draw(self, canvas: Canvas, light: Light) -> None: ...


@dataclass(frozen=True)
class Sky:
    """Gradient from horizon to zenith with clouds, infinitely far: its disparity is 0."""

    cloudiness: float
    offset: float

    def draw(self, canvas: Canvas, light: Light) -> None:
        rows = int(np.clip(np.ceil(canvas.camera.centre_v) + 1, 1, canvas.camera.height))
        rays = canvas.bundle(Box(0, rows, 0, canvas.camera.width))
        rise = np.maximum(rays.y, np.float32(0.004))
        texels = np.float32(40.0) / (rise + np.float32(0.06))
        footprint = texels * canvas.pixel
        clouds = street_textures()["clouds"].sample(
            rays.x * texels + np.float32(self.offset), rays.z * texels, footprint, footprint * texels / 40
        )
        amount = np.clip((clouds - np.float32(1.6 - 1.3 * self.cloudiness)) * 2, 0, 1) * np.clip(rise * 12, 0, 1)
        height = np.sqrt(np.clip(rise / np.float32(0.5), 0, 1))
        sky = light.horizon + (light.zenith - light.horizon) * height
        white = (light.sun + light.ambient) * np.float32(0.9)
        canvas.colour[:, :, :rows] = sky + (white - sky) * amount


@dataclass(frozen=True)
class Patch:
    """A soft dark rectangle on the ground, such as the shadow under a car."""

    x: tuple[float, float]
    z: tuple[float, float]
    strength: float = 0.8
    softness: float = 0.25


@dataclass(frozen=True)
class Dashes:
    """Painted bars: `width` across the street around x; along it, `length` of every `period` from z = start to end."""

    x: float
    width: float
    length: float
    period: float
    phase: float
    albedo: float = 0.65
    start: float = 0.0
    end: float = 150.0


@dataclass(frozen=True)
class Ground:
    """The plane Y = 0. Its look across the street is a table over X (road, kerbs, pavement, verge, solid lines).

    `profile` (5, N) holds the red, green, blue albedo, the index into `materials` and how shaded each X is (-1 to 1).
    """

    profile: Floats
    step: float
    materials: tuple[str, ...]
    dashes: tuple[Dashes, ...]
    patches: tuple[Patch, ...]
    shade: tuple[float, float, float]
    """Shear of the tree shadows along Z, their texels per metre, and an offset."""
    relief: float = 0.35
    levels: list[Floats] = field(default_factory=list)

    def draw(self, canvas: Canvas, light: Light) -> None:
        camera, textures = canvas.camera, street_textures()
        top = int(np.clip(np.floor(camera.centre_v + 0.5) + 1, 0, camera.height))
        if top >= camera.height:
            return
        box = Box(top, camera.height, 0, camera.width)
        rays = canvas.bundle(box)
        t = np.float32(camera.elevation) / -rays.y
        x, z = rays.start(0) + t * rays.x, rays.start(2) + t * rays.z
        dx = t * canvas.pixel
        dz = t * dx / np.float32(camera.elevation)
        tint, material, bias = self._across(x, dx)

        texels = np.float32(textures["asphalt"].size / 4.0)
        detail = np.zeros_like(x)
        for index, name in enumerate(self.materials):
            # Each material fills only some columns of the table, so most are needed for few pixels.
            chosen = np.nonzero(material == index)
            if len(chosen[0]):
                du = np.broadcast_to(dx * texels, x.shape)[chosen]
                dv = np.broadcast_to(dz * texels, x.shape)[chosen]
                detail[chosen] = textures[name].sample(x[chosen] * texels, z[chosen] * texels, du, dv)
        detail *= textures["stains"].sample(x * 24, z * np.float32(5.0), dx * 24, dz * 5)

        paint = np.zeros_like(x)
        for bar in self.dashes:
            across = coverage(x, bar.x - bar.width / 2, bar.x + bar.width / 2, dx)
            phase = np.mod(z + np.float32(bar.phase), np.float32(bar.period))
            along = coverage(phase, 0.0, bar.length, np.minimum(dz, np.float32(bar.period)))
            if bar.end < 150.0:
                along *= coverage(z, bar.start, bar.end, dz)
            paint = np.maximum(paint, across * along * np.float32(bar.albedo))
        shear, scale, offset = (np.float32(value) for value in self.shade)
        noise = textures["shadow"].sample(
            (x + z * shear) * scale + offset,
            z * scale * np.float32(0.6),
            dx * scale,
            (dz + dx) * scale * np.float32(0.6),
        )
        lit = np.clip((noise - 1 - bias) * 3 + np.float32(0.5), 0, 1)
        for patch in self.patches:
            soft = np.float32(patch.softness)
            under = coverage(x, *patch.x, dx + soft) * coverage(z, *patch.z, dz + soft)
            lit *= 1 - under * np.float32(patch.strength)
            detail *= 1 - under * np.float32(0.6 * patch.strength)
        brightness = light.ambient[None] + light.sun[None] * np.float32(max(light.direction[1], 0.0)) * lit[:, None]
        albedo = tint + (np.float32(1.0) - tint) * paint[:, None] * np.float32(0.9)
        canvas.paint(box, albedo * detail[:, None] * brightness, np.ones((1, 1, 1), np.float32), t[None])

    def _across(self, x: Floats, dx: Floats) -> tuple[Floats, Floats, Floats]:
        """Albedo (2, 3, h, w), material index and shade (2, h, w) at positions x, averaged over footprints dx (h, 1)."""
        total = np.concatenate([np.zeros((5, 1)), np.cumsum(self.profile, axis=1, dtype=np.float64)], axis=1).astype(
            np.float32
        )
        count = self.profile.shape[1]
        half = np.maximum(dx * np.float32(0.5 / self.step), np.float32(0.5))
        centre = x * np.float32(1 / self.step) + np.float32(count / 2)
        mean = np.empty((5, *x.shape), np.float32)
        ends = []
        for sign in (1, -1):
            position = np.clip(centre + sign * half, 0, np.float32(count) - np.float32(1e-3))
            index = position.astype(np.intp)
            fraction = position - index
            ends.append((index, fraction))
        width = np.maximum(ends[0][0] - ends[1][0] + ends[0][1] - ends[1][1], np.float32(1e-3))
        for channel in (0, 1, 2, 4):
            (high, high_part), (low, low_part) = ends
            values, sums = self.profile[channel], total[channel]
            mean[channel] = (
                sums.take(high) + values.take(high) * high_part - sums.take(low) - values.take(low) * low_part
            )
            mean[channel] /= width
        middle = np.clip(centre, 0, count - 1).astype(np.intp)
        return np.moveaxis(mean[:3], 0, 1), self.profile[3].take(middle), mean[4]


class Section(NamedTuple):
    """Where the rays of a box meet a vertical plane: depth and position along the base line (2, 1, w), height (2, h, w)."""

    box: Box
    rays: Rays
    depth: Floats
    along: Floats
    footprint: Floats
    height: Floats
    normal: tuple[float, float, float]


def section(
    canvas: Canvas, start: tuple[float, float], end: tuple[float, float], low: float, high: float
) -> Section | None:
    """Intersects a vertical plane that stands on the line from start to end (x, z), seen between two heights."""
    first, last = np.array(start, np.float64), np.array(end, np.float64)
    length = float(np.hypot(*(last - first)))
    direction = (last - first) / length
    forward = canvas.forward[[0, 2]].astype(np.float64)
    origin = canvas.camera.origins[0, [0, 2]].astype(np.float64)
    depths = [float((point - origin) @ forward) for point in (first, last)]
    if max(depths) <= NEAR:
        return None
    near_end, far_end = first, last
    if min(depths) < NEAR:
        cut = first + (last - first) * (float(NEAR) - depths[0]) / (depths[1] - depths[0])
        near_end, far_end = (cut, last) if depths[0] < depths[1] else (first, cut)
    corners = [(p[0], y, p[1]) for p in (near_end, far_end) for y in (low, high)]
    box = canvas.box(np.array(corners, np.float32))
    if box is None:
        return None
    rays = canvas.bundle(box)
    ex, ez = np.float32(direction[0]), np.float32(direction[1])
    nx, nz = ez, -ex
    if (nx * (origin[0] - first[0]) + nz * (origin[1] - first[1])) < 0:
        nx, nz = -nx, -nz
    to_x, to_z = np.float32(first[0]) - rays.start(0), np.float32(first[1]) - rays.start(2)
    facing = nx * rays.x + nz * rays.z
    facing = np.where(np.abs(facing) < np.float32(1e-5), np.float32(-1e-5), facing)
    depth = (nx * to_x + nz * to_z) / facing
    hidden = depth <= NEAR * np.float32(0.5)
    depth = np.where(hidden, FAR, depth)
    ahead = ex * rays.x + ez * rays.z
    along = ahead * depth - (ex * to_x + ez * to_z)
    slope = (ex * canvas.right[0] + ez * canvas.right[2]) - ahead * (
        nx * canvas.right[0] + nz * canvas.right[2]
    ) / facing
    footprint = np.abs(slope * depth) * canvas.pixel
    height = rays.start(1) + depth * rays.y
    return Section(box, rays, depth, along, footprint, height, (float(nx), 0.0, float(nz)))


@dataclass(frozen=True)
class Windows:
    """A grid of windows: sizes and periods along the wall and up, height of the first sill, looks."""

    period: tuple[float, float]
    size: tuple[float, float]
    sill: float
    frame: float
    interior: Floats
    """(8, 8) brightness of what is behind each pane, repeating."""
    frame_albedo: float = 0.6
    reflection: float = 0.45


@dataclass(frozen=True)
class Wall:
    """A vertical wall between two points of the plan, from `bottom` to `top`; `peak` adds a gable."""

    start: tuple[float, float]
    end: tuple[float, float]
    bottom: float
    top: float
    albedo: Floats
    texture: str
    scale: float
    """Texels per metre."""
    windows: Windows | None = None
    peak: float = 0.0
    base: tuple[float, float] = (0.0, 1.0)
    """Height of the plinth and its brightness relative to the wall."""
    picture: tuple[RipMap, RipMap, RipMap] | None = None

    def draw(self, canvas: Canvas, light: Light) -> None:
        cut = section(canvas, self.start, self.end, self.bottom, self.top + self.peak)
        if cut is None:
            return
        length = float(np.hypot(self.end[0] - self.start[0], self.end[1] - self.start[1]))
        dy = cut.depth * canvas.pixel
        top = np.float32(self.top)
        if self.peak:
            top = top + np.float32(self.peak) * (1 - np.abs(cut.along * np.float32(2 / length) - 1))
        inside = coverage(cut.along, 0.0, length, cut.footprint) * np.clip(
            (top - cut.height) / dy + np.float32(0.5), 0, 1
        )
        if self.bottom > 0:
            inside = inside * np.clip((cut.height - np.float32(self.bottom)) / dy + np.float32(0.5), 0, 1)
        light_here = light.lambert(cut.normal)
        if self.picture is not None:
            u, v = cut.along * np.float32(256 / length), (top - cut.height) * np.float32(256 / (self.top - self.bottom))
            du, dv = cut.footprint * np.float32(256 / length), dy * np.float32(256 / (self.top - self.bottom))
            shown = np.stack([channel.sample(u, v, du, dv) for channel in self.picture], axis=1) * light_here
            canvas.paint(cut.box, shown, inside, cut.depth)
            return
        scale = np.float32(self.scale)
        texture = street_textures()[self.texture]
        detail = texture.sample(cut.along * scale, cut.height * scale, cut.footprint * scale, dy * scale)
        detail *= np.float32(0.72) + np.float32(0.28) * np.clip(cut.height * np.float32(0.6), 0, 1)
        if self.base[0]:
            plinth = np.clip((np.float32(self.base[0]) - cut.height) / dy + np.float32(0.5), 0, 1)
            detail *= 1 + plinth * np.float32(self.base[1] - 1)
        shown = detail[:, None] * (self.albedo * light_here)
        if self.windows is not None:
            shown = self._glaze(shown, cut, canvas, light, light_here, length, dy)
        canvas.paint(cut.box, shown, inside, cut.depth)

    def _glaze(
        self, shown: Floats, cut: Section, canvas: Canvas, light: Light, light_here: Floats, length: float, dy: Floats
    ) -> Floats:
        grid = self.windows
        assert grid is not None
        along_period, up_period = np.float32(grid.period[0]), np.float32(grid.period[1])
        columns = max(int(length / grid.period[0]), 1)
        margin = np.float32((length - columns * grid.period[0]) / 2)
        floors = max(int((self.top - grid.sill - grid.size[1] - 0.3) / grid.period[1]) + 1, 1)
        column = np.floor((cut.along - margin) / along_period)
        row = np.floor((cut.height - np.float32(grid.sill)) / up_period + np.float32(0.15))
        across = cut.along - margin - column * along_period
        up = cut.height - np.float32(grid.sill) - row * up_period
        ds, dh = np.minimum(cut.footprint, along_period), np.minimum(dy, up_period)
        left = np.float32((grid.period[0] - grid.size[0]) / 2)
        right = left + np.float32(grid.size[0])
        frame = np.float32(grid.frame)
        exists = ((column >= 0) & (column < columns)) * np.float32(1.0)
        some = ((row >= 0) & (row < floors)) * np.float32(1.0)
        outer = coverage(across, left, right, ds) * exists * (coverage(up, 0.0, grid.size[1], dh) * some)
        middle = np.float32(0.5) * (left + right)
        panes = coverage(across, left + frame, middle - frame / 2, ds) + coverage(
            across, middle + frame / 2, right - frame, ds
        )
        pane = panes * exists * (coverage(up, frame, np.float32(grid.size[1]) - frame, dh) * some)
        pane = np.minimum(pane, outer)
        interior = grid.interior[row.astype(np.intp) & 7, column.astype(np.intp) & 7]
        # A plane mirror shows what lies in the mirrored direction, however far: the same in both views.
        nx, _, nz = cut.normal
        depth_of = np.maximum(np.abs(np.float32(nx) * cut.rays.x + np.float32(nz) * cut.rays.z), np.float32(0.05))
        azimuth = (np.float32(nz) * cut.rays.x - np.float32(nx) * cut.rays.z) / depth_of
        climb = cut.rays.y / depth_of
        world = street_textures()["clouds"].sample(azimuth * 40, climb * 40, np.float32(2.0), np.float32(2.0))
        open_sky = np.clip((climb - np.float32(0.25)) * 3 + (world - 1) * 2, 0, 1)
        mirrored = (light.horizon * open_sky + light.ambient * np.float32(0.12)) * np.float32(grid.reflection)
        glass = mirrored[None] + interior[:, None] * light.ambient
        frames = np.float32(grid.frame_albedo) * light_here
        shown = shown + (outer - pane)[:, None] * (frames - shown)
        return shown + pane[:, None] * (glass - shown)


@dataclass(frozen=True)
class Roof:
    """A slanted parallelogram: a corner, the edge along the eaves and the edge up to the ridge, each (3,)."""

    corner: tuple[float, float, float]
    eaves: tuple[float, float, float]
    slope: tuple[float, float, float]
    albedo: Floats
    texture: str = "brick"
    scale: float = 160.0

    def draw(self, canvas: Canvas, light: Light) -> None:
        corner, eaves, slope = (np.array(v, np.float32) for v in (self.corner, self.eaves, self.slope))
        points = np.stack([corner, corner + eaves, corner + slope, corner + eaves + slope])
        box = canvas.box(points)
        if box is None or float(((points - canvas.camera.origins[0]) @ canvas.forward).min()) < NEAR:
            return
        normal = np.cross(eaves, slope)
        normal = (normal / np.linalg.norm(normal)).astype(np.float32)
        if float(normal @ (canvas.camera.origins[0] - corner)) < 0:
            if normal[1] > 0:
                return
            normal = -normal
        rays = canvas.bundle(box)
        facing = normal[0] * rays.x + normal[2] * rays.z + normal[1] * rays.y
        facing = np.where(np.abs(facing) < np.float32(1e-4), np.float32(-1e-4), facing)
        offset = (corner - canvas.camera.origins) @ normal
        depth = offset[:, None, None] / facing
        lengths = np.linalg.norm(eaves), np.linalg.norm(slope)
        inside = np.ones((1, 1, 1), np.float32)
        position, footprints = [], []
        for edge, length in zip((eaves, slope), lengths, strict=True):
            unit = edge / np.float32(length)
            along = (unit[0] * rays.x + unit[2] * rays.z + unit[1] * rays.y) * depth
            along += ((canvas.camera.origins - corner) @ unit)[:, None, None]
            footprint = depth * canvas.pixel / np.maximum(np.abs(facing), np.float32(0.15))
            inside = inside * coverage(along, 0.0, float(length), footprint)
            position.append(along * np.float32(self.scale))
            footprints.append(footprint * np.float32(self.scale))
        inside = np.where(depth > NEAR, inside, np.float32(0.0))
        detail = street_textures()[self.texture].sample(position[0], position[1], *footprints)
        up = (float(normal[0]), float(normal[1]), float(normal[2]))
        canvas.paint(box, detail[:, None] * (self.albedo * light.lambert(up)), inside, depth)


@dataclass(frozen=True)
class Post:
    """A vertical cylinder: trunk, lamp post, bollard, leg."""

    x: float
    z: float
    radius: float
    bottom: float
    top: float
    albedo: Floats
    texture: str = "flat"
    shine: float = 0.0

    def draw(self, canvas: Canvas, light: Light) -> None:
        radius = self.radius
        corners = [
            (self.x + a * radius, y, self.z + b * radius)
            for a in (-1, 1)
            for b in (-1, 1)
            for y in (self.bottom, self.top)
        ]
        points = np.array(corners, np.float32)
        box = canvas.box(points)
        if box is None or float(((points - canvas.camera.origins[0]) @ canvas.forward).min()) < NEAR:
            return
        rays = canvas.bundle(box)
        qx, qz = rays.start(0) - np.float32(self.x), rays.start(2) - np.float32(self.z)
        a = rays.x * rays.x + rays.z * rays.z
        b = qx * rays.x + qz * rays.z
        closest = np.abs(qx * rays.z - qz * rays.x) / np.sqrt(a)
        footprint = np.sqrt(qx * qx + qz * qz) * canvas.pixel
        side = coverage(closest, -radius, radius, footprint)
        root = np.sqrt(np.maximum(np.float32(radius**2) - closest * closest, 0) * a)
        depth = (-b - root) / a
        nx, nz = (qx + depth * rays.x) / np.float32(radius), (qz + depth * rays.z) / np.float32(radius)
        sun = np.maximum(nx * light.direction[0] + nz * light.direction[2], 0)
        height = rays.start(1) + depth * rays.y
        dy = depth * canvas.pixel
        inside = side * coverage(height, self.bottom, self.top, dy)
        lit = light.ambient * np.float32(0.8) + light.sun * sun[:, None]
        if self.shine:
            # The highlight depends on the direction to the eye, so the two views differ.
            half = (light.direction[0] - rays.x) * nx + (light.direction[2] - rays.z) * nz
            lit = lit + light.sun * (np.float32(self.shine) * np.clip(half * np.float32(0.7), 0, 1)[:, None] ** 8)
        shown = self.albedo * lit
        if self.texture != "flat":
            scale = np.float32(120.0)
            detail = street_textures()[self.texture].sample(
                nx * radius * scale * 2, height * scale * 0.3, dy * scale, dy * scale * 0.3
            )
            shown = shown * detail[:, None]
        canvas.paint(
            box, np.broadcast_to(shown, (2, 3, 1, box.right - box.left)) if shown.ndim < 4 else shown, inside, depth
        )


@dataclass(frozen=True)
class Crown:
    """An ellipsoid of leaves with a ragged outline: part of a tree's crown, or a bush."""

    centre: tuple[float, float, float]
    radii: tuple[float, float, float]
    dark: Floats
    bright: Floats
    scale: float = 70.0
    offset: float = 0.0
    thin: float = 0.5
    """How ragged the outline is: 0 is solid."""

    def draw(self, canvas: Canvas, light: Light) -> None:
        centre, radii = np.array(self.centre, np.float32), np.array(self.radii, np.float32)
        signs = np.array([(a, b, c) for a in (-1, 1) for b in (-1, 1) for c in (-1, 1)], np.float32)
        points = centre + signs * radii
        if float(((points - canvas.camera.origins[0]) @ canvas.forward).min()) < 2 * NEAR:
            return
        box = canvas.box(points)
        if box is None:
            return
        rays = canvas.bundle(box)
        q = (canvas.camera.origins - centre) / radii
        ex, ey, ez = rays.x / radii[0], rays.y / radii[1], rays.z / radii[2]
        a = (ex * ex + ez * ez) + ey * ey
        b = (q[:, 0, None, None] * ex + q[:, 2, None, None] * ez) + q[:, 1, None, None] * ey
        c = ((q * q).sum(1) - 1)[:, None, None]
        inverse = 1 / a
        # 1 - (distance of the ray from the centre)^2 in units of the radius: 1 in the middle, 0 on the outline.
        inner = b * b
        inner -= a * c
        inner *= inverse
        depth = (-b - np.sqrt(np.maximum(inner * a, 0))) * inverse
        x, y = rays.start(0) + depth * rays.x, rays.start(1) + depth * rays.y
        scale = np.float32(self.scale)
        middle = float((centre - canvas.camera.origins[0]) @ canvas.forward)
        footprint = np.float32(middle * canvas.pixel * scale)
        leaves = street_textures()["foliage"].sample(
            x * scale + np.float32(self.offset), y * scale, footprint, footprint
        )
        solid = np.float32(1 / max(self.thin, 0.05))
        inside = np.clip((inner * solid + np.minimum(leaves, 2) - np.float32(1.1)) * 3, 0, 1)
        inside[inner <= 0] = 0
        nx, ny = (x - centre[0]) / radii[0], (y - centre[1]) / radii[1]
        z = rays.start(2) + depth * rays.z
        nz = (z - centre[2]) / radii[2]
        sun = light.direction
        facing = np.clip((nx * sun[0] + ny * sun[1] + nz * sun[2]) * np.float32(0.7) + np.float32(0.3), 0, 1)
        level = np.float32(0.55) + np.float32(0.45) * ny
        shade = leaves * leaves * np.float32(0.5) + leaves * np.float32(0.5)
        mixed = np.clip(leaves * np.float32(0.4), 0, 1)
        albedo = self.dark + (self.bright - self.dark) * mixed[:, None]
        received = light.ambient * level[:, None] + light.sun * facing[:, None]
        canvas.paint(box, albedo * shade[:, None] * received, inside, depth)


@dataclass(frozen=True)
class Thicket:
    """A wall of leaves with a ragged top: hedge, row of bushes, edge of a wood, distant trees."""

    start: tuple[float, float]
    end: tuple[float, float]
    height: float
    dark: Floats
    bright: Floats
    scale: float = 70.0
    offset: float = 0.0
    ragged: float = 0.3

    def draw(self, canvas: Canvas, light: Light) -> None:
        cut = section(canvas, self.start, self.end, 0.0, self.height * (1 + 2 * self.ragged))
        if cut is None:
            return
        textures = street_textures()
        length = float(np.hypot(self.end[0] - self.start[0], self.end[1] - self.start[1]))
        scale, dy = np.float32(self.scale), cut.depth * canvas.pixel
        leaves = textures["foliage"].sample(
            cut.along * scale + np.float32(self.offset), cut.height * scale, cut.footprint * scale, dy * scale
        )
        waves = np.float32(60.0 / self.height)
        outline = textures["clouds"].sample(
            cut.along * waves + np.float32(self.offset), np.float32(self.offset), cut.footprint * waves, np.float32(1.0)
        )
        top = np.float32(self.height) * (1 + np.float32(self.ragged) * np.clip((outline - 1) * 2, -1, 1))
        soft = np.maximum(dy, np.float32(0.25 * self.ragged * self.height))
        inside = np.clip((top - cut.height) / soft + (np.minimum(leaves, 2) - 1), 0, 1)
        inside = np.clip((inside - np.float32(0.5)) * 3 + np.float32(0.5), 0, 1) * coverage(
            cut.along, 0.0, length, cut.footprint
        )
        level = np.clip(cut.height / top, 0, 1)
        facing = max(float(np.dot(cut.normal, light.direction)), 0.0)
        sunny = (np.float32(0.25) + np.float32(0.75) * level) * np.float32(
            0.3 * max(light.direction[1], 0) + 0.7 * facing
        )
        shade = leaves * (np.float32(0.5) + np.float32(0.5) * leaves)
        albedo = self.dark + (self.bright - self.dark) * np.clip(leaves * np.float32(0.4), 0, 1)[:, None]
        received = light.ambient * (np.float32(0.35) + np.float32(0.65) * level)[:, None] + light.sun * sunny[:, None]
        canvas.paint(cut.box, albedo * shade[:, None] * received, inside, cut.depth)


__all__ = [
    "Crown",
    "Dashes",
    "Ground",
    "Patch",
    "Post",
    "Roof",
    "Section",
    "Sky",
    "Surface",
    "Thicket",
    "Wall",
    "Windows",
    "colour",
]
