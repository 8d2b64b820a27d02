"""Vehicles of the synthetic street: convex polyhedra with glass, lamps and wheels, cast at several rays a pixel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data.made.scene.raycast import FAR, NEAR, Canvas, Light, corners
from data.made.textures import Floats, street_textures

PAINT, GLASS, TRIM, UNDER = 0, 1, 2, 3
"""Looks of a face: lacquer, glass, black plastic, the dark space between the wheels."""
WHEEL = 0.32
"""Radius of a wheel in metres."""
REAR, FRONT, SIDE, TOP = 0, 1, 2, 3
"""Which way a face looks."""


@dataclass(frozen=True)
class Solid:
    """A convex polyhedron: outward normals (N, 3), offsets (N,) with normal . p <= offset; looks and ways (N,).

    Coordinates: x across, y up, z along the vehicle with the rear at z = 0, metres.
    """

    normals: Floats
    offsets: Floats
    looks: NDArray[np.int8]
    ways: NDArray[np.int8]
    low: float
    high: float
    """Heights between which it lies."""


def prism(profile: list[tuple[float, float]], looks: list[int], half: float, lean: float, side: int) -> Solid:
    """Extrudes a convex side profile of (z, y) points, ordered rear, top, front, bottom, between two sides.

    `half` is half the width at the lowest point and `lean` how much of it each metre of height takes; `looks` names
    the look of the face that starts at each point, `side` that of both sides.
    """
    points = np.array(profile, np.float64)
    edges = np.roll(points, -1, axis=0) - points
    lengths = np.sqrt((edges**2).sum(1))
    across, along = edges[:, 0] / lengths, -edges[:, 1] / lengths
    normals = [(0.0, float(y), float(z)) for y, z in zip(across, along, strict=True)]
    offsets = (across * points[:, 1] + along * points[:, 0]).tolist()
    ways = [TOP if abs(y) > 0.8 else (REAR if z < 0 else FRONT) for _, y, z in normals]
    slant = (1 + lean**2) ** -0.5
    for sign in (-1.0, 1.0):
        normals.append((sign * slant, lean * slant, 0.0))
        offsets.append((half + lean * float(points[:, 1].min())) * slant)
    return Solid(
        np.array(normals, np.float32),
        np.array(offsets, np.float32),
        np.array([*looks, side, side], np.int8),
        np.array([*ways, SIDE, SIDE], np.int8),
        float(points[:, 1].min()),
        float(points[:, 1].max()),
    )


@dataclass(frozen=True)
class Shape:
    """The outer form of a vehicle and where its details sit, in metres. `glazed` has windows in a separate cabin."""

    solids: tuple[Solid, ...]
    length: float
    height: float
    half: float
    belt: float
    roof: float
    glazed: bool

    @property
    def planes(self) -> tuple[Floats, Floats, NDArray[np.int8], NDArray[np.int8]]:
        """Normals, offsets, looks and ways of all solids, one after the other."""
        parts = self.solids
        return (
            np.concatenate([s.normals for s in parts]),
            np.concatenate([s.offsets for s in parts]),
            np.concatenate([s.looks for s in parts]),
            np.concatenate([s.ways for s in parts]),
        )


def _underbody(length: float, half: float) -> Solid:
    """What is between the wheels, open below, where the ground is."""
    normals = [(0, 0, -1), (0, 0, 1), (-1, 0, 0), (1, 0, 0), (0, 1, 0)]
    offsets = [-0.10 * length, 0.90 * length, 0.97 * half, 0.97 * half, 0.45]
    return Solid(
        np.array(normals, np.float32),
        np.array(offsets, np.float32),
        np.full(5, UNDER, np.int8),
        np.array([REAR, FRONT, SIDE, SIDE, TOP], np.int8),
        0.0,
        0.45,
    )


def car(length: float, height: float, half: float, estate: float) -> Shape:
    """A passenger car; `estate` from 0 (saloon) to 1 (estate car) moves the rear window back."""
    belt = 0.60 * height
    body = [(0.02 * length, 0.26), (0.0, 0.45), (0.01 * length, 0.85 * belt), (0.05 * length, belt)]
    body += [(0.72 * length, belt), (0.94 * length, 0.80 * belt), (0.99 * length, 0.60 * belt), (length, 0.42)]
    body += [(0.98 * length, 0.22)]
    tail = (0.17 - 0.14 * estate) * length
    cabin = [(tail, belt - 0.02), (tail + (0.14 - 0.07 * estate) * length, 0.97 * height)]
    cabin += [(0.35 * length, height), (0.50 * length, 0.97 * height), (0.74 * length, belt - 0.02)]
    solids = (
        prism(body, [TRIM, PAINT, PAINT, PAINT, PAINT, PAINT, PAINT, TRIM, TRIM], half, 0.08, PAINT),
        prism(cabin, [GLASS, PAINT, PAINT, GLASS, PAINT], half * 0.94, 0.36, GLASS),
        _underbody(length, half),
    )
    return Shape(solids, length, height, half, belt, 0.97 * height, True)


def van(length: float, height: float, half: float) -> Shape:
    """One tall body: van, lorry or bus."""
    body = [(0.01 * length, 0.30), (0.0, 0.5), (0.02 * length, 0.94 * height), (0.06 * length, height)]
    body += [(0.84 * length, height), (0.95 * length, 0.57 * height), (0.99 * length, 0.42 * height), (length, 0.3)]
    looks = [TRIM, PAINT, PAINT, PAINT, GLASS, PAINT, PAINT, TRIM]
    solids = (prism(body, looks, half, 0.04, PAINT), _underbody(length, half))
    return Shape(solids, length, height, half, 0.58 * height, 0.92 * height, False)


@dataclass(frozen=True)
class Vehicle:
    """A vehicle whose rear's middle stands on the ground at (x, z); `oncoming` turns it to face the camera."""

    x: float
    z: float
    shape: Shape
    paint: Floats
    oncoming: bool
    gloss: float
    """How much the lacquer mirrors, 0 to 1."""
    plate: float
    """Albedo of the number plate."""

    def draw(self, canvas: Canvas, light: Light) -> None:
        """Casts the rays of the vehicle's box at its planes and paints what they hit."""
        shape, turn = self.shape, -1.0 if self.oncoming else 1.0
        place = np.array([self.x, 0, self.z], np.float32)
        facing = np.array([turn, 1, turn], np.float32)
        ends = self.z, self.z + turn * shape.length
        low = (self.x - shape.half, 0.0, min(ends))
        box = canvas.box(corners(low, (self.x + shape.half, shape.height, max(ends))), 2 * float(NEAR))
        if box is None:
            return
        samples = 2 if (box.right - box.left) * (box.bottom - box.top) > 150 else 3
        rays = canvas.bundle(box, samples)
        origin = (canvas.origins - place) * facing
        dx, dy, dz = rays.x * np.float32(turn), rays.y, rays.z * np.float32(turn)
        inverse, face = np.zeros((2, len(dy), len(dx)), np.float32), np.zeros((2, len(dy), len(dx)), np.int8)
        first = 0
        for solid in shape.solids:
            band = canvas.box(corners((low[0], solid.low, low[2]), (self.x + shape.half, solid.high, max(ends))))
            if band is not None:
                rows = slice(max(band.top - box.top, 0) * samples, (min(band.bottom, box.bottom) - box.top) * samples)
                self._cast(solid, first, origin, (dx, dy[rows], dz), inverse[:, rows], face[:, rows])
            first += len(solid.offsets)
        kept = np.repeat(np.repeat(canvas.depth[:, box.rows, box.columns], samples, 1), samples, 2)
        hits = np.flatnonzero((inverse > 0) & (inverse * kept > 1))
        if not len(hits):
            return
        height, width = inverse.shape[1:]
        row, column = np.divmod(hits, width)
        view, row = np.divmod(row, height)
        ray = dx.take(column), dy.take(row), dz.take(column)
        depth = 1 / inverse.take(hits)
        point = tuple(origin[:, axis].take(view) + depth * ray[axis] for axis in range(3))
        shown = self._shade(face.take(hits), point, ray, light, facing)  # type: ignore[arg-type]
        total = np.zeros((5, inverse.size), np.float32)
        total[:3, hits] = shown
        total[3, hits] = 1
        total[4, hits] = inverse.take(hits)
        # Means over the hits of a pixel: colour, coverage, and inverse depth, since that is what disparity is.
        total = total.reshape(5, 2, height, width)
        blocks = total[:, :, ::samples, ::samples].copy()
        for i in range(1, samples * samples):
            blocks += total[:, :, i // samples :: samples, i % samples :: samples]
        share = 1 / np.maximum(blocks[3], np.float32(1e-6))
        covered = blocks[3] * np.float32(samples**-2)
        mean = (blocks[:3] * share).swapaxes(0, 1)
        canvas.paint(box, mean, covered, 1 / np.maximum(blocks[4] * share, np.float32(1 / FAR)))

    @staticmethod
    def _cast(
        solid: Solid,
        first: int,
        origin: Floats,
        ray: tuple[Floats, Floats, Floats],
        best: Floats,
        best_face: NDArray[np.int8],
    ) -> None:
        """Updates 1 / t of the nearest face (2, h, w), 0 where the ray passes by, and that face's number, from `first`.

        For a plane at signed distance s from the eye inwards, 1 / t = (normal . direction) / s is linear in the image:
        the ray is inside a convex solid between the least such value of the planes that it enters through (s < 0) and
        the greatest of those that it leaves through.
        """
        dx, dy, dz = ray
        enter, leave = np.full(best.shape, 1 / NEAR, np.float32), np.full(best.shape, 1e-6, np.float32)
        face = np.zeros(best.shape, np.int8)
        distance = solid.offsets - origin @ solid.normals.T
        distance = np.where(np.abs(distance) < np.float32(1e-3), np.float32(1e-3), distance)
        for number, (nx, ny, nz) in enumerate(solid.normals):
            scale = 1 / distance[:, number, None, None]
            inverse = (nx * dx + nz * dz) * scale + (ny * dy) * scale
            outside = distance[:, number] < 0
            views = (slice(0, 2),) if outside[0] == outside[1] else (slice(0, 1), slice(1, 2))
            for part in views:
                if outside[part][0]:
                    np.copyto(face[part], np.int8(first + number), where=inverse[part] < enter[part])
                    np.minimum(enter[part], inverse[part], out=enter[part])
                else:
                    np.maximum(leave[part], inverse[part], out=leave[part])
        nearest = (enter >= leave) & (enter > best)
        np.copyto(best, enter, where=nearest)
        np.copyto(best_face, face, where=nearest)

    def _shade(
        self,
        face: NDArray[np.int8],
        point: tuple[Floats, Floats, Floats],
        ray: tuple[Floats, Floats, Floats],
        light: Light,
        facing: Floats,
    ) -> Floats:
        """Colour (3, n) of the hits: base colour a face, details by position, mirrored surroundings and highlight."""
        normals, _, looks, ways = self.shape.planes
        sun = light.direction * facing
        received = np.maximum(normals @ sun, 0)[:, None] * light.sun.ravel()
        received += (np.float32(0.75) + np.float32(0.25) * normals[:, 1])[:, None] * light.ambient.ravel()
        albedo = np.array([(1, 1, 1), (0.03, 0.03, 0.03), (0.03, 0.03, 0.03), (0.01, 0.01, 0.01)], np.float32)
        albedo = np.where((looks == PAINT)[:, None], self.paint.ravel(), albedo[looks])
        look, way = looks.take(face), ways.take(face)
        tint = albedo.T.take(face, axis=1)
        mirror = np.array([0.05, 0.10, 0.02, 0.0], np.float32).take(look)
        self._details(tint, mirror, look, way, point)
        shown = tint * received.T.take(face, axis=1)

        # What is mirrored depends on the direction of view and slides over the surface between the views. The faces
        # bulge a little, so that a reflection is not one flat colour.
        px, py, _ = point
        nx, ny, nz = (normals[:, axis].take(face) for axis in range(3))
        nx = nx + px * np.float32(0.15)
        ny = ny + (py - np.float32(0.5 * self.shape.height)) * np.float32(0.3)
        length = np.sqrt(ray[0] ** 2 + ray[1] ** 2 + ray[2] ** 2)
        towards = nx * ray[0] + ny * ray[1] + nz * ray[2]
        mirrored = [direction - 2 * towards * n for direction, n in zip(ray, (nx, ny, nz), strict=True)]
        grazing = np.clip(1 + towards / length, 0, 1) ** 4
        mirror += (1 - mirror) * grazing * np.where(look < TRIM, np.float32(self.gloss), np.float32(0.1))
        clouds = street_textures()["clouds"].sample(
            mirrored[0] * 40, mirrored[1] * 40, np.float32(2.0), np.float32(2.0)
        )
        sky = np.clip((mirrored[1] - np.float32(0.15)) * 4 + (clouds - 1), 0, 1)
        around = light.horizon.reshape(3, 1) * sky + light.ambient.reshape(3, 1) * np.float32(0.15)
        shown += mirror * around
        glint = np.clip((mirrored[0] * sun[0] + mirrored[1] * sun[1] + mirrored[2] * sun[2]) / length, 0, 1) ** 16
        shown += light.sun.reshape(3, 1) * (glint * np.where(look < TRIM, np.float32(self.gloss), np.float32(0.0)))
        return shown

    def _details(
        self,
        tint: Floats,
        mirror: Floats,
        look: NDArray[np.int8],
        way: NDArray[np.int8],
        point: tuple[Floats, Floats, Floats],
    ) -> None:
        """Lamps, plate, bumpers, pillars, doors and wheels, by position on the body; changes `tint` and `mirror`."""
        shape = self.shape
        px, py, pz = point
        across, belt, half, length = np.abs(px), shape.belt, shape.half, shape.length
        lacquer, side = look == PAINT, way == SIDE
        end = (way == REAR) | (way == FRONT)

        def fill(mask: NDArray[np.bool_], albedo: Sequence[float], shine: float = 0.02) -> None:
            for channel, value in enumerate(albedo):
                np.copyto(tint[channel], np.float32(value), where=mask)
            np.copyto(mirror, np.float32(shine), where=mask)

        def between(values: Floats, low: float, high: float) -> NDArray[np.bool_]:
            return (values > np.float32(low)) & (values < np.float32(high))

        low_body = py < np.float32(shape.belt)
        fill(lacquer & end & between(py, 0.0, 0.50 * belt), (self.paint * np.float32(0.35)).ravel().tolist())
        lamp = lacquer & low_body & (across > np.float32(0.66 * half))
        if shape.glazed:
            fill(lamp & (way == REAR) & between(py, 0.68 * belt, 0.93 * belt), (0.28, 0.015, 0.015), 0.06)
            fill(lamp & (way == FRONT) & between(py, 0.62 * belt, 0.82 * belt), (0.6, 0.6, 0.6), 0.2)
            fill(lacquer & side & (np.abs(pz - np.float32(0.47 * length)) < np.float32(0.015)), (0.02, 0.02, 0.02))
            slant = np.float32(half * 0.94) - (py - np.float32(belt)) * np.float32(0.36) - across
            pillar = np.where(side, np.abs(pz - np.float32(0.46 * length)) < np.float32(0.05), slant < np.float32(0.07))
            pillar |= py > np.float32(shape.roof - 0.06)
            fill((look == GLASS) & pillar, self.paint.ravel().tolist(), 0.05)
        else:
            rear_lamp = (way == REAR) & between(py, 0.75 * belt, belt) & (across > np.float32(0.85 * half))
            fill(lamp & rear_lamp, (0.28, 0.015, 0.015))
            front_lamp = (way == FRONT) & between(py, 0.5 * belt, 0.68 * belt) & (across > np.float32(0.6 * half))
            fill(lacquer & front_lamp, (0.6, 0.6, 0.6), 0.2)
            pane = (way == REAR) & between(py, 1.05 * belt, 1.55 * belt) & (across < np.float32(0.8 * half))
            pane |= side & between(py, 1.0 * belt, 1.5 * belt) & between(pz, 0.68 * length, 0.84 * length)
            fill(pane & lacquer, (0.03, 0.03, 0.03), 0.10)
            fill((way == REAR) & lacquer & (across < np.float32(0.015)), (0.02, 0.02, 0.02))
        plate = end & (across < np.float32(0.26)) & between(py, 0.52 * belt, 0.52 * belt + 0.12)
        fill(plate, (self.plate, self.plate, self.plate * 0.95))
        tyres = (look == UNDER) & end & (across > np.float32(half - 0.25))
        fill(tyres, (0.03, 0.03, 0.03))
        reach = np.minimum(np.abs(pz - np.float32(0.19 * length)), np.abs(pz - np.float32(0.81 * length)))
        square = reach**2 + (py - np.float32(WHEEL)) ** 2
        fill(side & (square < np.float32((WHEEL + 0.06) ** 2)), (0.012, 0.012, 0.012))
        fill(side & (square < np.float32(WHEEL**2)), (0.03, 0.03, 0.03))
        fill(side & (square < np.float32((0.62 * WHEEL) ** 2)), (0.22, 0.22, 0.22), 0.1)
