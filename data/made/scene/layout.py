"""Composes a random street: what stands where along a straight road, and what the ground looks like across it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from data.made.scene import palette
from data.made.scene.foliage import Crown, Thicket
from data.made.scene.ground import ROAD_END, Dashes, Ground, Patch, Surface, ground_layer
from data.made.scene.raycast import colour
from data.made.scene.vehicles import Vehicle, car, van
from data.made.scene.walls import Post, Roof, Wall, Windows
from data.made.textures import Randomness, poster_textures

STEP = 0.05
HALF_WIDTH = 40.0
"""The ground's table spans X = -40 ... 40 m in steps of 5 cm."""
SIDES = (-1.0, 1.0)


@dataclass(frozen=True)
class Road:
    """Where the kerbs are: x of both edges of the lanes (`left` and `right` are positive), parking beside them."""

    left: float
    right: float
    centre: float
    parking: float
    urban: float
    """From 0 (woods and fields) to 1 (closed rows of houses)."""

    @classmethod
    def random(cls, rng: Randomness) -> Road:
        """A road with one to three lanes, the camera in the right-hand direction of travel."""
        urban = rng.uniform(0, 1)
        right = rng.uniform(1.9, 2.6) if rng.chance(0.7) else rng.uniform(5.5, 6.5)
        left = rng.uniform(4.8, 6.2) if rng.chance(0.8) else rng.uniform(1.9, 2.6)
        parking = 2.2 if rng.chance(0.2 + 0.4 * urban) else 0.0
        return cls(left, right, -1.9, parking, urban)

    def kerb(self, side: float) -> float:
        """|x| of the kerb on one side."""
        return (self.left if side < 0 else self.right) + self.parking


class Street:
    """Collects the surfaces of one scene with the distance that orders them."""

    def __init__(self, rng: Randomness, road: Road, sunny: float) -> None:
        self.rng = rng
        self.road = road
        self.sunny = sunny
        self.autumn = rng.uniform(0, 1) if rng.chance(0.4) else 0.0
        self._items: list[tuple[float, Surface]] = []
        self._patches: list[Patch] = []

    def far_to_near(self) -> list[Surface]:
        """Everything that stands on the ground, the farthest first."""
        return [surface for _, surface in sorted(self._items, key=lambda item: -item[0])]

    def _add(self, distance: float, surface: Surface) -> None:
        self._items.append((distance, surface))

    def fill(self) -> None:
        """Places everything."""
        rng, road = self.rng, self.road
        for side in SIDES:
            self._side(side)
        traffic = rng.uniform(0, 1)
        for x, oncoming in ((0.0, False), (2 * road.centre, True)):
            if oncoming and road.left < 4:
                continue
            z = rng.uniform(8, 45)
            while z < 90 and rng.chance(0.3 + 0.5 * traffic):
                self._vehicle(x + rng.uniform(-0.3, 0.3), z, oncoming)
                z += rng.uniform(9, 40)
        for _ in range(rng.integer(3) if road.urban > 0.4 else 0):
            self._pedestrian(SIDES[rng.integer(2)], rng.uniform(6, 40))
        self._horizon()

    def _horizon(self) -> None:
        rng = self.rng
        dark, bright = palette.leaves(rng, self.autumn)
        far = rng.uniform(110, 260)
        ends = (-far * 1.2, far + rng.uniform(-30, 30)), (far * 1.2, far + rng.uniform(-30, 30))
        self._add(400, Thicket(*ends, rng.uniform(4, 15), dark, bright, rng.uniform(2, 4), rng.uniform(0, 512), 0.4))
        if rng.chance(0.06):
            z, low = rng.uniform(18, 60), rng.uniform(4.6, 6)
            deck = palette.grey(rng, 0.1, 0.5)
            self._add(z, Wall((-40, z), (40, z), low, low + rng.uniform(0.8, 1.8), deck, "plaster", 60.0))
            rail = palette.grey(rng, 0.1, 0.4)
            self._add(z - 0.1, Wall((-40, z), (40, z), low + 1, low + 2.8, rail, bars=(1.2, 0.12)))

    def _vehicle(self, x: float, z: float, oncoming: bool) -> None:
        """A vehicle whose nearer end is at z."""
        rng = self.rng
        if rng.chance(0.12):
            shape = van(rng.uniform(4.8, 9.0), rng.uniform(1.9, 3.3), rng.uniform(0.95, 1.2))
        else:
            shape = car(rng.uniform(3.7, 4.8), rng.uniform(1.38, 1.65), rng.uniform(0.8, 0.92), rng.uniform(0, 1))
        half, length = shape.half, shape.length
        paint, gloss, plate = palette.lacquer(rng), rng.uniform(0.3, 0.9), rng.uniform(0.4, 0.75)
        self._add(z, Vehicle(x, z + length if oncoming else z, shape, paint, oncoming, gloss, plate))
        self._patches.append(Patch((x - half * 1.05, x + half * 1.05), (z - 0.15, z + length + 0.15)))

    def _pedestrian(self, side: float, z: float) -> None:
        rng = self.rng
        x = side * (self.road.kerb(side) + rng.uniform(0.4, 2.5))
        tall, step = rng.uniform(1.55, 1.9), rng.uniform(0.05, 0.2)
        coat, legs = palette.clothes(rng), palette.clothes(rng)
        for k in SIDES:
            self._add(z, Post(x + k * 0.09, z + k * step, 0.075, 0.0, tall * 0.5, legs))
        self._add(z, Post(x, z, 0.21, tall * 0.46, tall * 0.84, coat))
        skin = rng.uniform(0.1, 0.4)
        hair = palette.grey(rng, 0.01, 0.1)
        self._add(z, Post(x, z, 0.095, tall * 0.85, tall * 0.95, colour(skin, skin * 0.65, skin * 0.5)))
        self._add(z, Post(x, z, 0.10, tall * 0.94, tall, hair))

    def _tree(self, x: float, z: float, height: float) -> None:
        rng = self.rng
        dark, bright = palette.leaves(rng, self.autumn)
        trunk, width = height * rng.uniform(0.15, 0.38), height * rng.uniform(0.24, 0.42)
        v = rng.uniform(0.02, 0.14)
        bark = colour(v * 1.15, v, v * 0.8)
        self._add(z, Post(x, z, height * rng.uniform(0.012, 0.026), 0.0, trunk + 0.2 * height, bark, "bark"))
        clumps = 5 if z < 25 else (2 if z < 50 else 1)
        scale, ragged, solid = rng.uniform(350, 900) / max(z, 7), rng.uniform(0.35, 0.8), rng.uniform(0.5, 0.75)
        for clump in range(clumps):
            cx, cy, cz, size = 0.0, 0.4, 0.0, 1.0 if clumps == 1 else solid
            if clump:
                cx, cy, cz = rng.uniform(-0.65, 0.65), rng.uniform(0.15, 0.85), rng.uniform(-0.65, 0.65)
                size = solid * rng.uniform(0.75, 1.1)
            centre = (x + cx * width, trunk + (height - trunk) * cy, z + cz * width)
            radii = (width * size, (height - trunk) * 0.5 * size, width * size)
            crown = Crown(centre, radii, dark, bright, scale, rng.uniform(0, 512), ragged)
            self._add(centre[2] - 0.2 * radii[2], crown)

    def _bush(self, x: float, z: float) -> None:
        rng = self.rng
        dark, bright = palette.leaves(rng, self.autumn)
        height, width = rng.uniform(0.5, 1.8), rng.uniform(0.6, 1.8)
        radii = (width, height * 0.6, width)
        self._add(z, Crown((x, height * 0.45, z), radii, dark, bright, 600 / max(z, 6), rng.uniform(0, 512), 0.5))

    def _building(self, side: float, front: float, z: float, length: float) -> None:
        """A house whose street side runs from z to z + length at |x| = front; the end towards the camera shows too."""
        rng = self.rng
        height = rng.uniform(2.9, 3.4) * (1 + rng.integer(4)) + rng.uniform(0.3, 1.2)
        texture, scale, albedo = palette.masonry(rng)
        interior = (rng.uniforms(64) ** 3 * 0.5).reshape(8, 8).astype(np.float32)
        windows = Windows(
            (rng.uniform(1.8, 3.4), rng.uniform(2.8, 3.3)),
            (rng.uniform(0.9, 1.6), rng.uniform(1.2, 2.0)),
            rng.uniform(0.8, 1.2),
            rng.uniform(0.06, 0.13),
            interior,
            rng.uniform(0.05, 0.8),
            rng.uniform(0.1, 0.5),
        )
        plinth = (rng.uniform(0.3, 1.0), rng.uniform(0.3, 0.9))
        x, deep = side * front, side * (front + rng.uniform(8, 14))
        gabled, rise = rng.chance(0.4), rng.uniform(2, 4)
        r = rng.uniform(0.03, 0.2)
        tiles = colour(r, r * rng.uniform(0.35, 0.9), r * rng.uniform(0.3, 0.8))
        run = (deep - x) * (0.5 if gabled else 0.35)
        eaves = (x - side * 0.3, height - 0.1, z - 0.3)
        self._add(z + length * 0.51, Roof(eaves, (0, 0, length + 0.6), (run, rise, 0), tiles))
        self._add(
            z + length * 0.5, Wall((x, z), (x, z + length), 0.0, height, albedo, texture, scale, windows, 0.0, plinth)
        )
        end = windows if rng.chance(0.6) and z < 45 else None
        peak = rise if gabled else 0.0
        self._add(z + 0.01, Wall((x, z), (deep, z), 0.0, height, albedo, texture, scale, end, peak, plinth))

    def _houses(self, side: float, front: float) -> None:
        rng = self.rng
        z = rng.uniform(-20, -4)
        while z < 100:
            length = rng.uniform(9, 22) * (1 + max(z, 0) / 60)
            self._building(side, front + rng.uniform(-0.4, 0.4), z, length)
            z += length + (rng.uniform(3, 14) if rng.chance(0.5) else 0.02)

    def _wood(self, side: float, front: float) -> None:
        rng = self.rng
        dark, bright = palette.leaves(rng, self.autumn)
        for row in range(2):
            x = side * (front + rng.uniform(4, 8) + 4 * row)
            end = (x + side * rng.uniform(-2, 10), 140.0)
            height = rng.uniform(4, 11) * (1 + 0.3 * row)
            scale, ragged = rng.uniform(25, 60), rng.uniform(0.2, 0.5)
            offset = rng.uniform(0, 512)
            self._add(60.0 + row, Thicket((x, -5.0), end, height, dark, bright, scale, offset, ragged, abs(x)))

    def _side(self, side: float) -> None:
        """Everything beside the road on one side."""
        rng, road = self.rng, self.road
        kerb = road.kerb(side)
        if road.parking and rng.chance(0.8):
            z = rng.uniform(3.5, 14)
            while z < 65:
                self._vehicle(side * (kerb - 1.1), z, side < 0)
                z += (rng.uniform(5.2, 8) if rng.chance(0.7) else rng.uniform(10, 30)) * (1 + max(z - 25, 0) / 30)
        walk = kerb + rng.uniform(1.8, 3.5)
        houses = rng.chance(road.urban)
        if houses:
            self._houses(side, walk + rng.uniform(0.2, 5))
        elif rng.chance(0.75):
            self._wood(side, walk)
        if rng.chance(0.35):
            self._edge(side, walk)
        if rng.chance(0.7 if houses else 0.95):
            z, height = rng.uniform(3, 12), rng.uniform(7, 18)
            spacing = rng.uniform(9, 22) if houses else rng.uniform(4, 10)
            nearest, spread = (kerb + 0.6, 1.0) if houses else (walk + 0.5, 6.0)
            while z < 110:
                self._tree(side * (nearest + rng.uniform(0.3, spread)), z, height * rng.uniform(0.7, 1.3))
                z += spacing * rng.uniform(0.6, 1.5) * (1 + z / 40)
        if rng.chance(0.6):
            gap, z, radius, height = rng.uniform(18, 35), rng.uniform(6, 30), rng.uniform(0.05, 0.11), rng.uniform(4, 8)
            metal = palette.grey(rng, 0.03, 0.4)
            while z < 100:
                self._add(z, Post(side * (kerb + 0.5), z, radius, 0.0, height, metal, None, 1.0))
                z += gap * (1 + z / 80)
        for _ in range(rng.integer(4)):
            self._bush(side * (walk + rng.uniform(0, 4)), rng.uniform(6, 40))
        for _ in range(rng.integer(3)):
            self._sign(side * (kerb + rng.uniform(0.4, 1.5)), rng.uniform(8, 45))
        if rng.chance(0.2):
            self._hoarding(side, walk + rng.uniform(0.3, 3), rng.uniform(8, 40))

    def _edge(self, side: float, walk: float) -> None:
        """A hedge, a garden wall or a fence along the pavement."""
        rng = self.rng
        x = side * (walk + rng.uniform(0, 0.5))
        start, end = (x, rng.uniform(2, 20)), (x, rng.uniform(30, 90))
        kind = rng.integer(3)
        if kind == 0:
            dark, bright = palette.leaves(rng, self.autumn * 0.5)
            self._add(
                45.0, Thicket(start, end, rng.uniform(0.6, 1.8), dark, bright, 80.0, rng.uniform(0, 512), 0.1, abs(x))
            )
        elif kind == 1:
            texture, scale, albedo = palette.masonry(rng)
            self._add(45.0, Wall(start, end, 0.0, rng.uniform(0.6, 2.0), albedo, texture, scale))
        else:
            wide = rng.uniform(0.04, 0.12)
            bars = (wide * rng.uniform(1.5, 15), wide)
            self._add(45.0, Wall(start, end, 0.0, rng.uniform(0.8, 1.6), palette.grey(rng, 0.02, 0.5), bars=bars))

    def _hoarding(self, side: float, x: float, z: float) -> None:
        rng, posters = self.rng, poster_textures()
        width = rng.uniform(2, 3.6)
        low, picture = rng.uniform(0.2, 0.8), posters[rng.integer(len(posters))]
        back = palette.grey(rng, 0.02, 0.3)
        ends = (side * x, z), (side * (x + width), z)
        self._add(z + 0.02, Wall(*ends, 0.0, low + 0.1, back, bars=(width - 0.15, 0.15)))
        self._add(z, Wall(*ends, low, low + 0.7 * width, back, picture=picture))

    def _sign(self, x: float, z: float) -> None:
        rng = self.rng
        low, size, kind = rng.uniform(1.8, 2.6), rng.uniform(0.25, 0.5), rng.integer(4)
        faces = (0.7, 0.7, 0.7), (0.5, 0.03, 0.03), (0.02, 0.07, 0.35), (0.6, 0.4, 0.03)
        self._add(z, Post(x, z, 0.035, 0.0, low + size, palette.grey(rng, 0.15, 0.45), None, 0.5))
        ends = (x - size, z - 0.05), (x + size, z - 0.05)
        self._add(z - 0.05, Wall(*ends, low, low + 2 * size * rng.uniform(0.6, 1.1), colour(*faces[kind])))
        if rng.chance(0.7):
            inner, middle = size * rng.uniform(0.4, 0.75), low + size * 0.7
            ends = (x - inner, z - 0.06), (x + inner, z - 0.06)
            tone = 0.75 if kind else 0.04
            self._add(z - 0.06, Wall(*ends, middle - inner * 0.4, middle + inner * 0.4, colour(tone, tone, tone)))

    def ground(self) -> Ground:
        """The road surface, its markings, and what lies beside it."""
        rng, road = self.rng, self.road
        count = int(2 * HALF_WIDTH / STEP)
        x = (np.arange(count) + 0.5) * STEP - HALF_WIDTH
        left, right = -road.kerb(-1), road.kerb(1)
        profile = np.zeros((5, count), np.float32)
        g = rng.uniform(0.08, 0.24)
        profile[:3] = np.array([g * rng.uniform(0.7, 1.15 + 0.4 * self.autumn), g, g * rng.uniform(0.08, 0.35)])[
            :, None
        ]
        profile[3] = ground_layer("grass")
        slab = rng.uniform(0.12, 0.34) * np.array([1.0, rng.uniform(0.93, 1.0), rng.uniform(0.82, 1.0)])
        for side in SIDES:
            beyond = side * x - road.kerb(side)
            if rng.chance(0.3 + 0.6 * road.urban):
                start = rng.uniform(0.5, 2.0) if rng.chance(0.3) else 0.0
                walk = (beyond > start) & (beyond < start + rng.uniform(1.5, 3.0 + 4 * road.urban))
                profile[:3, walk] = slab[:, None] * rng.uniform(0.8, 1.2)
                profile[3, walk] = ground_layer(("asphalt", "gravel", "brick")[rng.integer(3)])
            stone = (beyond > 0) & (beyond < 0.15)
            profile[:3, stone] = rng.uniform(0.03, 0.5)
            profile[3, stone] = ground_layer("asphalt")
        lanes = (x > left) & (x < right)
        asphalt = rng.uniform(0.11, 0.26) * np.array([rng.uniform(0.93, 1.05), 1.0, rng.uniform(0.98, 1.12)])
        wear = 1 + 0.10 * rng.uniform() * np.sin(2 * np.pi * (x - road.centre) / rng.uniform(1.5, 2.0))
        profile[:3, lanes] = asphalt[:, None] * wear[lanes]
        profile[3, lanes] = ground_layer("asphalt")
        dashes = self._markings(x, profile)
        if rng.chance(0.15):
            z = rng.uniform(10, 35)
            for k in range(int(right - left)):
                bar = rng.uniform(0.4, 0.8)
                dashes.append(Dashes(left + 0.5 + k, 0.5, 1e3, 1e3, 0.0, bar, z, z + 4.0))
        shade = self._shade()
        profile[4] = shade[0] + (shade[1] - shade[0]) * np.clip((x - left) / (right - left), 0, 1)
        slant = (rng.uniform(-1, 1), rng.uniform(6, 20), rng.uniform(0, 512))
        return Ground(profile, STEP, tuple(dashes), tuple(self._patches), slant, rng.uniform(0.2, 0.55))

    def _shade(self) -> tuple[float, float]:
        """How far each side of the road lies in the shade of trees and houses."""
        rng = self.rng
        if not self.sunny or rng.chance(0.2):
            return -3.0, -3.0
        if rng.chance(0.35):
            return rng.uniform(-0.4, 0.4), rng.uniform(-0.4, 0.4)
        deep, light = rng.uniform(0.3, 1.3), rng.uniform(-2.5, -0.7)
        return (deep, light) if rng.chance(0.5) else (light, deep)

    def _markings(self, x: np.ndarray, profile: np.ndarray) -> list[Dashes]:
        """Paints solid lines into the profile; returns the broken ones."""
        rng, road = self.rng, self.road
        if rng.chance(0.6):
            inset, width = rng.uniform(0.15, 0.5), rng.uniform(0.10, 0.25)
            for edge in (-road.left + inset, road.right - inset):
                profile[:3, np.abs(x - edge) < width / 2] = rng.uniform(0.3, 0.75)
        dashes = []
        mark, gap = (3.0, 6.0) if rng.chance(0.6) else (4.5, 7.5)
        lines = [road.centre] if road.left > 4 and rng.chance(0.85) else []
        if road.right > 4:
            lines.append(road.right / 2 + 0.2)
        for line in lines:
            dashes.append(
                Dashes(line, 0.14, mark, mark + gap, rng.uniform(0, 12), rng.uniform(0.35, 0.75), 0.0, ROAD_END)
            )
        return dashes
