"""Sky and ground of the synthetic street."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from data.made.scene.raycast import Box, Canvas, Light, coverage
from data.made.textures import GROUND_LAYERS, Floats, street_textures

TILE = 4.0
"""Metres that a tile of ground texture spans."""
ROAD_END = 150.0


class Surface(Protocol):
    """Something that can paint itself."""

    def draw(self, canvas: Canvas, light: Light) -> None:
        """Paints both views of the surface where nothing nearer is painted yet."""


@dataclass(frozen=True)
class Sky:
    """Gradient from horizon to zenith with clouds, infinitely far: its disparity is 0. `cloudiness` is 0 to 1."""

    cloudiness: float
    offset: float

    def draw(self, canvas: Canvas, light: Light) -> None:
        """Fills the rows above the horizon, the same in both views."""
        rows = int(np.clip(np.ceil(canvas.camera.centre_v) + 1, 1, canvas.camera.height))
        rays = canvas.bundle(Box(0, rows, 0, canvas.camera.width))
        rise = np.maximum(rays.y, np.float32(0.004))
        # Clouds lie in a plane overhead; the added term keeps them from shrinking to nothing at the horizon.
        reach = np.float32(40.0) / (rise + np.float32(0.06))
        width = reach * canvas.pixel
        clouds = street_textures()["clouds"].sample(
            rays.x * reach + np.float32(self.offset), rays.z * reach, width, width * reach * np.float32(0.025)
        )
        amount = np.clip((clouds - np.float32(1.6 - 1.3 * self.cloudiness)) * 2, 0, 1) * np.clip(rise * 12, 0, 1)
        height = np.sqrt(np.clip(rise * np.float32(2.0), 0, 1))
        sky = light.horizon + (light.zenith - light.horizon) * height
        white = (light.sun + light.ambient) * np.float32(0.9)
        canvas.colour[:, :, :rows] = sky + (white - sky) * amount


@dataclass(frozen=True)
class Patch:
    """A dark rectangle on the ground with soft edges, such as the shadow under a car."""

    x: tuple[float, float]
    z: tuple[float, float]
    strength: float = 0.92
    softness: float = 0.35


@dataclass(frozen=True)
class Dashes:
    """Painted bars: `width` across the street around x; along it, `length` of every `period` from z = start to end."""

    x: float
    width: float
    length: float
    period: float
    phase: float
    albedo: float
    start: float = 0.0
    end: float = ROAD_END


@dataclass(frozen=True)
class Ground:
    """The plane Y = 0. Its look across the street is a table over X: road, kerbs, pavement, verge, solid lines.

    `profile` (5, N) holds the red, green and blue albedo, an index into GROUND_LAYERS, and the level of noise below
    which the ground lies in the shade (-3: always sunny); column k spans X from (k - N / 2) * `step`.
    """

    profile: Floats
    step: float
    dashes: tuple[Dashes, ...]
    patches: tuple[Patch, ...]
    shade: tuple[float, float, float]
    """Shear of the shadows along Z, their texels per metre, and an offset."""
    stains: float

    def draw(self, canvas: Canvas, light: Light) -> None:
        """Fills the rows below the horizon."""
        camera, textures = canvas.camera, street_textures()
        top = int(np.clip(np.floor(camera.centre_v + 0.5) + 1, 0, camera.height))
        if top >= camera.height:
            return
        box = Box(top, camera.height, 0, camera.width)
        rays = canvas.bundle(box)
        t = np.float32(camera.elevation) / -rays.y
        x, z = rays.start(0) + t * rays.x, rays.start(2) + t * rays.z
        dx = t * canvas.pixel
        dz = t * dx * np.float32(1 / camera.elevation)
        tint, layer, bias = self._across(x, dx)

        texels = np.float32(textures["ground"].size / TILE)
        detail = textures["ground"].sample(x * texels, z * texels, dx * texels, dz * texels, layer)
        stains = textures["stains"].sample(
            x * np.float32(12.0), z * np.float32(6.0), dx * np.float32(12.0), dz * np.float32(6.0)
        )
        stains -= 1
        stains *= np.float32(self.stains)
        stains += 1
        detail *= stains

        shear, scale, offset = (np.float32(value) for value in self.shade)
        along = scale * np.float32(0.6)
        # Twice the footprint: the sun is not a point, so shadows of leaves have soft edges.
        noise = textures["shadow"].sample(
            (x + z * shear) * scale + offset, z * along, 2 * dx * scale, 2 * np.maximum(dz, dx) * along
        )
        noise -= 1 + bias
        noise *= np.float32(3.5)
        noise += np.float32(0.5)
        lit = np.clip(noise, 0, 1, out=noise)
        for patch in self.patches:
            self._darken(patch, canvas, box, x, z, dx, dz, lit, detail)
        brightness = lit[:, None] * (light.sun * np.float32(max(float(light.direction[1]), 0.0)))
        brightness += light.ambient
        brightness *= detail[:, None]
        for bars in self.dashes:
            self._mark(bars, canvas, box, x, z, dx, dz, tint)
        brightness *= tint
        canvas.colour[:, :, box.rows] = brightness
        canvas.depth[:, box.rows] = t

    def _across(self, x: Floats, dx: Floats) -> tuple[Floats, NDArray[np.intp], Floats]:
        """Albedo (2, 3, h, w), layer and shade (2, h, w) at positions x, averaged over footprints dx (h, 1)."""
        count = self.profile.shape[1]
        sums = np.zeros((5, count + 1), np.float32)
        sums[:, 1:] = np.cumsum(self.profile, axis=1, dtype=np.float64)
        half = np.maximum(dx * np.float32(0.5 / self.step), np.float32(0.5))
        centre = x * np.float32(1 / self.step) + np.float32(count / 2)
        tint = np.empty((x.shape[0], 3, *x.shape[1:]), np.float32)
        ends = []
        for end in (centre + half, centre - half):
            np.clip(end, 0, np.float32(count - 1e-2), out=end)
            index = end.astype(np.intp)
            ends.append((index, end - index, end))
        (high, high_part, last), (low, low_part, first) = ends
        width = 1 / np.maximum(last - first, np.float32(1e-2))
        bias = np.empty_like(x)
        targets = {0: tint[:, 0], 1: tint[:, 1], 2: tint[:, 2], 4: bias}
        for channel, target in targets.items():
            values, total = self.profile[channel], sums[channel]
            mean = total.take(high)
            mean -= total.take(low)
            mean += values.take(high) * high_part
            mean -= values.take(low) * low_part
            np.multiply(mean, width, out=target)
        middle = np.clip(centre, 0, count - 1).astype(np.intp)
        return tint, self.profile[3].astype(np.intp).take(middle), bias

    @staticmethod
    def _part(canvas: Canvas, box: Box, x: tuple[float, float], z: tuple[float, float]) -> tuple[slice, slice] | None:
        """Rows (from the box's top) and columns that hold a rectangle of the ground."""
        near = max(z[0], 1.0)
        inner = canvas.box([(a, 0.0, b) for a in x for b in (near, max(z[1], near))])
        if inner is None or inner.bottom <= box.top:
            return None
        return slice(max(inner.top - box.top, 0), inner.bottom - box.top), inner.columns

    def _darken(
        self,
        patch: Patch,
        canvas: Canvas,
        box: Box,
        x: Floats,
        z: Floats,
        dx: Floats,
        dz: Floats,
        lit: Floats,
        detail: Floats,
    ) -> None:
        soft = patch.softness
        part = self._part(canvas, box, (patch.x[0] - soft, patch.x[1] + soft), (patch.z[0] - soft, patch.z[1] + soft))
        if part is None:
            return
        rows, columns = part
        under = coverage(x[:, rows, columns], *patch.x, dx[rows] + np.float32(soft))
        under *= coverage(z[:, rows, columns], *patch.z, dz[rows] + np.float32(soft))
        under *= np.float32(patch.strength)
        lit[:, rows, columns] *= 1 - under
        detail[:, rows, columns] *= 1 - under * np.float32(0.8)

    def _mark(
        self, bars: Dashes, canvas: Canvas, box: Box, x: Floats, z: Floats, dx: Floats, dz: Floats, tint: Floats
    ) -> None:
        low, high = bars.x - bars.width / 2, bars.x + bars.width / 2
        part = self._part(canvas, box, (low - 0.2, high + 0.2), (bars.start, bars.end))
        if part is None:
            return
        rows, columns = part
        period = np.float32(bars.period)
        paint = coverage(x[:, rows, columns], low, high, dx[rows])
        here = z[:, rows, columns]
        phase = np.mod(here + np.float32(bars.phase), period)
        paint *= coverage(phase, 0.0, bars.length, np.minimum(dz[rows], period))
        if bars.end < ROAD_END:
            paint *= coverage(here, bars.start, bars.end, dz[rows])
        part_of = tint[:, :, rows, columns]
        part_of += (np.float32(bars.albedo) - part_of) * paint[:, None]


def ground_layer(name: str) -> int:
    """Index of a ground texture."""
    return GROUND_LAYERS.index(name)
