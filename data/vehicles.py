"""Vehicles of the synthetic street: convex polyhedra with glass, lights and wheels, cast at several rays a pixel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from data.raycast import FAR, NEAR, Canvas, Light
from data.textures import Floats, street_textures

PAINT, GLASS, DARK = 0, 1, 2


@dataclass(frozen=True)
class Solid:
    """A convex polyhedron of a vehicle: outward normals (N, 3), offsets (N,) with normal . p <= offset, and a look a face.

    Coordinates: x across, y up, z along the vehicle with the rear at z = 0, metres.
    """

    normals: Floats
    offsets: Floats
    looks: tuple[int, ...]
    low: tuple[float, float, float]
    high: tuple[float, float, float]


def prism(profile: list[tuple[float, float]], looks: list[int], half: float, lean: float, side: int) -> Solid:
    """Extrudes a convex side profile of (z, y) points, clockwise seen from the right, between two sides that lean inwards.

    `half` is half the width at the lowest point; `lean` how much of it each metre of height takes; `looks` names the
    look of the face that starts at each point of the profile, `side` that of both sides.
    """
    normals, offsets = [], []
    points = np.array(profile, np.float64)
    for first, second in zip(points, np.roll(points, -1, axis=0), strict=True):
        dz, dy = second - first
        normal = np.array([0.0, dz, -dy]) / np.hypot(dz, dy)
        normals.append(normal)
        offsets.append(normal[1] * first[1] + normal[2] * first[0])
    bottom = points[:, 1].min()
    for sign in (-1.0, 1.0):
        normal = np.array([sign, lean, 0.0]) / np.hypot(1.0, lean)
        normals.append(normal)
        offsets.append((half + lean * bottom) / np.hypot(1.0, lean))
    low = (-half, float(bottom), float(points[:, 0].min()))
    high = (half, float(points[:, 1].max()), float(points[:, 0].max()))
    return Solid(np.array(normals, np.float32), np.array(offsets, np.float32), (*looks, side, side), low, high)


def car_solids(length: float, height: float, half: float, estate: float) -> tuple[Solid, ...]:
    """Body and cabin of a passenger car; `estate` from 0 (saloon) to 1 (estate car) moves the rear window back."""
    belt = 0.60 * height
    rear, front = 0.04 * length, 0.97 * length
    body = [(0.0, 0.34), (0.02 * length, 0.92 * belt), (0.08 * length, belt), (0.70 * length, belt)]
    body += [(0.95 * length, 0.78 * belt), (length, 0.52 * belt), (front, 0.24), (rear, 0.24)]
    tail = (0.20 - 0.16 * estate) * length
    cabin = [(tail, belt - 0.02), (tail + (0.13 - 0.08 * estate) * length, height), (0.52 * length, height)]
    cabin += [(0.72 * length, belt - 0.02)]
    return (
        prism(body, [PAINT] * 6 + [DARK, DARK], half, 0.06, PAINT),
        prism(cabin, [GLASS, PAINT, GLASS, PAINT], half * 0.95, 0.32, GLASS),
    )


def van_solids(length: float, height: float, half: float) -> tuple[Solid, ...]:
    """One tall body: van, lorry or bus."""
    body = [(0.0, 0.4), (0.02 * length, height), (0.86 * length, height), (0.97 * length, 0.55 * height)]
    body += [(length, 0.4 * height), (length, 0.35), (0.02 * length, 0.35)]
    return (prism(body, [PAINT, PAINT, GLASS, PAINT, PAINT, DARK, PAINT], half, 0.04, PAINT),)


@dataclass(frozen=True)
class Vehicle:
    """A vehicle with its rear's middle on the ground at (x, z). `oncoming` turns it to face the camera."""

    x: float
    z: float
    solids: tuple[Solid, ...]
    paint: Floats
    oncoming: bool = False
    gloss: float = 0.35
    plate: float = 0.6

    @property
    def length(self) -> float:
        return self.solids[0].high[2]

    def draw(self, canvas: Canvas, light: Light) -> None:
        """Paints the solids; both are at most as deep as one vehicle, so the depth test keeps them apart."""
        for number, solid in enumerate(self.solids):
            self._draw(canvas, light, solid, body=number == 0)

    def _draw(self, canvas: Canvas, light: Light, solid: Solid, body: bool) -> None:
        turn = np.float32(-1.0 if self.oncoming else 1.0)
        low, high = np.array(solid.low), np.array(solid.high)
        corners = np.array([[(low, high)[i >> k & 1][k] for k in range(3)] for i in range(8)], np.float32)
        if body:
            corners[:, 1] = np.where(corners[:, 1] == np.float32(low[1]), 0, corners[:, 1])
        world = corners * np.array([turn, 1, turn], np.float32) + np.array([self.x, 0, self.z], np.float32)
        camera = canvas.camera
        if float(((world - camera.origins[0]) @ canvas.forward).min()) < 2 * NEAR:
            return
        box = canvas.box(world)
        if box is None:
            return
        samples = 2 if (box.right - box.left) * (box.bottom - box.top) > 60 else 3
        rays = canvas.bundle(box, samples)
        ox = (rays.start(0) - np.float32(self.x)) * turn
        oy = rays.start(1)
        oz = (rays.start(2) - np.float32(self.z)) * turn
        dx, dy, dz = rays.x * turn, rays.y, rays.z * turn
        enter = np.full((2, dy.shape[0], dx.shape[0]), NEAR, np.float32)
        leave = np.full_like(enter, FAR)
        face = np.zeros(enter.shape, np.int8)
        for number, ((nx, ny, nz), offset) in enumerate(zip(solid.normals, solid.offsets, strict=True)):
            across = (nx * dx + nz * dz) + ny * dy
            across = np.where(np.abs(across) < np.float32(1e-7), np.float32(1e-7), across)
            reach = (offset - (nx * ox + ny * oy + nz * oz)) / across
            entering = across < 0
            later = entering & (reach > enter)
            np.copyto(enter, reach, where=later)
            np.copyto(face, np.int8(number), where=later)
            np.minimum(leave, np.where(entering, FAR, reach), out=leave)
        hit = (enter < leave) & (enter > NEAR)
        px, py, pz = ox + enter * dx, oy + enter * dy, oz + enter * dz
        shown = self._shade(solid, body, face, (px, py, pz), (dx, dy, dz), light, turn)
        depth = enter
        if body:
            shown, hit, depth = self._wheels(solid, shown, hit, depth, (ox, oy, oz), (dx, dy, dz), light)
        canvas.paint_samples(box, samples, shown, hit.astype(np.float32), depth)

    def _shade(
        self,
        solid: Solid,
        body: bool,
        face: Floats,
        point: tuple[Floats, Floats, Floats],
        ray: tuple[Floats, Floats, Floats],
        light: Light,
        turn: np.float32,
    ) -> Floats:
        px, py, pz = point
        count = len(solid.looks)
        sun = light.direction * np.array([turn, 1, turn], np.float32)
        lit = np.stack(
            [
                (light.ambient * np.float32(0.75 + 0.25 * n[1]) + light.sun * np.float32(max(float(n @ sun), 0)))[
                    :, 0, 0
                ]
                for n in solid.normals
            ]
        )
        looks = np.array(solid.looks)
        albedo = np.where((looks == PAINT)[:, None], self.paint[:, 0, 0], np.float32(0.02))
        base = (albedo * lit).astype(np.float32)
        colour = base.T[:, face].swapaxes(0, 1).copy()
        look = looks.astype(np.int8)[face]
        low, high = solid.low, solid.high
        half, length = np.float32(high[0]), np.float32(high[2])
        rear, front = 0, count - 5 if body else 2
        on_rear, on_side = face == rear, face >= count - 2
        # Reflections of sky and surroundings depend on the direction of view: they slide over the paint between views.
        normals = solid.normals[face]
        nx, ny, nz = normals[..., 0], normals[..., 1], normals[..., 2]
        into = 2 * (nx * ray[0] + ny * ray[1] + nz * ray[2])
        # Faces bulge a little, so that a reflection is not one flat colour.
        up = ray[1] - into * (ny + (py - np.float32(0.5 * (low[1] + high[1]))) * np.float32(0.5))
        azimuth = ray[0] - into * (nx + px * np.float32(0.25))
        world = street_textures()["clouds"].sample(azimuth * 30, up * 30, np.float32(2.0), np.float32(2.0))
        sky = np.clip((up - np.float32(0.10)) * 4 + (world - 1), 0, 1)
        gleam = light.horizon * sky[:, None] + light.ambient * np.float32(0.10)
        share = np.where(
            look == GLASS, np.float32(self.gloss), np.where(look == PAINT, np.float32(0.25 * self.gloss), 0)
        )
        colour += share[:, None] * gleam
        ax = np.abs(px)
        if body:
            belt = np.float32(high[1])
            if not self.oncoming:
                lamps = (
                    on_rear
                    & (ax > half * np.float32(0.68))
                    & (py > belt * np.float32(0.62))
                    & (py < belt * np.float32(0.93))
                )
                self._fill(colour, lamps, (0.30, 0.02, 0.02), lit[rear])
            else:
                lamps = (face == 4) & (ax > half * np.float32(0.55)) & (py > belt * np.float32(0.55))
                self._fill(colour, lamps, (0.7, 0.7, 0.68), lit[4])
                grille = (
                    (face >= 4)
                    & (face <= 5)
                    & (ax < half * np.float32(0.5))
                    & (py > belt * np.float32(0.4))
                    & (py < belt * np.float32(0.62))
                )
                self._fill(colour, grille, (0.03, 0.03, 0.03), lit[4])
            ends = on_rear | ((face >= 4) & (face <= count - 3))
            bumper = ends & (py < belt * np.float32(0.42))
            self._fill(colour, bumper, (0.05, 0.05, 0.05), lit[rear])
            plate = ends & (ax < np.float32(0.26)) & (py > belt * np.float32(0.44)) & (py < belt * np.float32(0.55))
            self._fill(colour, plate, (self.plate, self.plate, self.plate * 0.95), lit[rear])
            if len(self.solids) == 1:
                back = (
                    on_rear
                    & (ax < half * np.float32(0.8))
                    & (py > np.float32(0.58) * belt)
                    & (py < np.float32(0.88) * belt)
                )
                side = (
                    on_side
                    & (pz > np.float32(0.66) * length)
                    & (pz < np.float32(0.86) * length)
                    & (py > belt * np.float32(0.55))
                    & (py < belt * np.float32(0.85))
                )
                self._fill(colour, back | side, (0.03, 0.035, 0.04), lit[rear])
            else:
                door = on_side & (np.abs(pz - length * np.float32(0.48)) < np.float32(0.012) * length)
                self._fill(colour, door, (0.03, 0.03, 0.03), lit[-1])
        else:
            ridge = py > np.float32(high[1] - 0.07)
            middle = np.float32(0.45) * length + np.float32(0.55 * low[2])
            pillar = on_side & ((np.abs(pz - middle) < np.float32(0.05)) | ridge)
            corner = (face == rear) & (
                (ax > half - (py - np.float32(low[1])) * np.float32(0.32) - np.float32(0.12)) | ridge
            )
            for mask, which in ((pillar, count - 1), (corner, rear)):
                self._fill(colour, mask, tuple(float(v) for v in self.paint[:, 0, 0]), lit[which])
        return colour

    @staticmethod
    def _fill(colour: Floats, mask: Floats, albedo: tuple[float, ...], lit: Floats) -> None:
        for channel in range(3):
            np.copyto(colour[:, channel], np.float32(albedo[channel]) * lit[channel], where=mask)

    def _wheels(
        self,
        solid: Solid,
        shown: Floats,
        hit: Floats,
        depth: Floats,
        origin: tuple[Floats, ...],
        ray: tuple[Floats, ...],
        light: Light,
    ) -> tuple[Floats, Floats, Floats]:
        """Discs in the planes of both sides, and tyres seen from behind or in front as upright rectangles."""
        half, length = solid.high[0], solid.high[2]
        radius = np.float32(0.33)
        (ox, oy, oz), (dx, dy, dz) = origin, ray
        dark, rim = light.ambient * np.float32(0.03), (light.ambient + light.sun * np.float32(0.3)) * np.float32(0.25)
        for sign in (-1.0, 1.0):
            plane = np.float32(sign * (half - 0.01))
            steep = np.where(np.abs(dx) < np.float32(1e-6), np.float32(1e-6), dx)
            t = (plane - ox) / steep
            outside = sign * ox > half
            y, z = oy + t * dy, oz + t * dz
            for middle in (0.18 * length, 0.80 * length):
                square = (y - radius) ** 2 + (z - np.float32(middle)) ** 2
                mask = outside & (square < radius**2) & (t > NEAR) & (t < depth + np.float32(0.6))
                inner = square < np.float32(0.21**2)
                shown = np.where(mask[:, None], np.where(inner[:, None], rim, dark), shown)
                depth = np.where(mask, t, depth)
                hit = hit | mask
        end = np.float32(0.25 if True else 0.0)
        for position in (0.25, length - 0.35):
            t = (np.float32(position) - oz) / dz
            x, y = np.abs(ox + t * dx), oy + t * dy
            toward = (oz < position) if position < 1 else (oz > position)
            mask = (
                toward
                & ~hit
                & (x > half - np.float32(0.26))
                & (x < half - np.float32(0.02))
                & (y > 0)
                & (y < end + np.float32(0.15))
                & (t > NEAR)
            )
            shown = np.where(mask[:, None], dark, shown)
            depth = np.where(mask, t, depth)
            hit = hit | mask
        return shown, hit, depth
