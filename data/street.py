"""Random streets seen from a car: composes the surfaces of one scene from a seeded stream of numbers, and renders them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from data.raycast import Camera, Canvas, Light, colour
from data.surfaces import Crown, Dashes, Ground, Patch, Post, Roof, Sky, Surface, Thicket, Wall, Windows
from data.textures import Floats, Randomness, poster_textures
from data.vehicles import Vehicle, car_solids, van_solids

STEP = 0.05
HALF_WIDTH = 40.0
MATERIALS = ("asphalt", "gravel", "grass")


@dataclass(frozen=True)
class Scene:
    """A street: camera, light, surfaces ordered far to near, and the response of the two sensors."""

    camera: Camera
    light: Light
    surfaces: tuple[Surface, ...]
    gain: tuple[float, float]
    balance: Floats
    contrast: float


@dataclass(frozen=True)
class Rendering:
    """Both views in [0, 255] before noise, (2, 3, H, W), and the exact disparity of each in pixels, (2, H, W), 0 in the sky."""

    image: Floats
    disparity: Floats


def render(scene: Scene) -> Rendering:
    """Casts the rays of both cameras into the scene and applies haze and the sensors' response."""
    canvas = Canvas(scene.camera)
    for surface in scene.surfaces:
        surface.draw(canvas, scene.light)
    depth = canvas.depth
    solid = depth < np.float32(1e8)
    veil = np.where(solid, 1 - np.exp(-np.minimum(depth, 5000) * np.float32(scene.light.haze)), np.float32(0.0))
    image = canvas.colour
    image += veil[:, None] * (scene.light.horizon * np.float32(0.8) - image)
    gain = np.array(scene.gain, np.float32)[:, None, None, None] * scene.balance
    image *= gain
    np.clip(image, 0, 1, out=image)
    image = np.sqrt(image) * np.float32(255.0)
    disparity = np.where(solid, np.float32(scene.camera.focal * scene.camera.baseline) / depth, np.float32(0.0))
    return Rendering(image, disparity)


def _paint_colour(rng: Randomness) -> Floats:
    """Car paints: black, grey, silver, white, and some blue, red, green."""
    kind = rng.integer(10)
    if kind < 3:
        v = rng.uniform(0.005, 0.03)
        return colour(v, v, v * 1.1)
    if kind < 7:
        v = rng.uniform(0.08, 0.6)
        return colour(v, v, v * rng.uniform(0.95, 1.1))
    low, high = rng.uniform(0.01, 0.05), rng.uniform(0.1, 0.4)
    choice = rng.integer(3)
    return colour(*(high if c == choice else low * rng.uniform(0.7, 1.5) for c in range(3)))


def _leaf_colours(rng: Randomness, autumn: float) -> tuple[Floats, Floats]:
    green = rng.uniform(0.10, 0.26)
    red = green * (rng.uniform(0.55, 0.95) + autumn * rng.uniform(0.0, 0.8))
    blue = green * rng.uniform(0.15, 0.45)
    dark = rng.uniform(0.02, 0.12)
    return colour(red * dark, green * dark, green * dark * 0.8), colour(red, green, blue)


def _light(rng: Randomness) -> Light:
    overcast = rng.chance(0.25)
    azimuth = rng.uniform(0, 2 * np.pi)
    elevation = np.radians(rng.uniform(18, 60))
    direction = np.array(
        [np.cos(elevation) * np.sin(azimuth), np.sin(elevation), np.cos(elevation) * np.cos(azimuth)], np.float32
    )
    strength = rng.uniform(0.05, 0.3) if overcast else rng.uniform(0.9, 1.7)
    warm = rng.uniform(0.75, 1.0)
    sun = colour(strength, strength * (0.5 + 0.5 * warm) * 0.99, strength * warm * 0.92)
    base = rng.uniform(0.5, 0.8) if overcast else rng.uniform(0.16, 0.36)
    ambient = colour(base * 0.92, base, base * rng.uniform(1.05, 1.25))
    bright = rng.uniform(0.75, 1.6)
    horizon = colour(bright * rng.uniform(0.85, 1.0), bright, bright * 1.02)
    blue = rng.uniform(0.35, 1.0)
    zenith = horizon * colour(blue * blue, blue, min(1.0, blue * 1.25))
    return Light(direction, sun, ambient, horizon, zenith, rng.uniform(0.0003, 0.0022))


class _Builder:
    """Collects the surfaces of one scene with their distance, so that they can be painted far to near."""

    def __init__(self, rng: Randomness, camera: Camera) -> None:
        self.rng = rng
        self.camera = camera
        self.items: list[tuple[float, Surface]] = []
        self.patches: list[Patch] = []
        self.autumn = rng.uniform(0, 1) if rng.chance(0.4) else 0.0

    def add(self, distance: float, surface: Surface) -> None:
        self.items.append((distance, surface))

    def tree(self, x: float, z: float, height: float) -> None:
        rng = self.rng
        dark, bright = _leaf_colours(rng, self.autumn)
        trunk = height * rng.uniform(0.18, 0.4)
        width = height * rng.uniform(0.24, 0.42)
        v = rng.uniform(0.02, 0.12)
        self.add(
            z, Post(x, z, height * rng.uniform(0.015, 0.03), 0.0, trunk + 0.5, colour(v * 1.15, v, v * 0.8), "bark")
        )
        clumps = 5 if z < 30 else (3 if z < 60 else 1)
        scale = rng.uniform(45, 90)
        for _ in range(clumps):
            if clumps == 1:
                cx, cy, cz, size = 0.0, 0.5, 0.0, 1.0
            else:
                cx, cy, cz = rng.uniform(-0.6, 0.6), rng.uniform(0.2, 0.8), rng.uniform(-0.6, 0.6)
                size = rng.uniform(0.5, 0.75)
            centre = (x + cx * width, trunk + (height - trunk) * cy, z + cz * width)
            radii = (width * size, (height - trunk) * 0.55 * size, width * size)
            offset = rng.uniform(0, 512)
            self.add(
                centre[2] - 0.2 * radii[2], Crown(centre, radii, dark, bright, scale, offset, rng.uniform(0.3, 0.7))
            )
        self.patches.append(Patch((x - width * 0.7, x + width * 0.7), (z - width * 0.7, z + width * 0.7), 0.5, width))

    def bush(self, x: float, z: float) -> None:
        rng = self.rng
        dark, bright = _leaf_colours(rng, self.autumn)
        height, width = rng.uniform(0.5, 1.6), rng.uniform(0.6, 1.8)
        self.add(
            z, Crown((x, height * 0.45, z), (width, height * 0.6, width), dark, bright, 90.0, rng.uniform(0, 512), 0.5)
        )

    def car(self, x: float, z: float, oncoming: bool) -> None:
        rng = self.rng
        if rng.chance(0.15):
            length, half = rng.uniform(4.8, 9.0), rng.uniform(0.95, 1.2)
            solids = van_solids(length, rng.uniform(1.9, 3.2), half)
        else:
            length, half = rng.uniform(3.7, 4.8), rng.uniform(0.8, 0.92)
            solids = car_solids(length, rng.uniform(1.38, 1.65), half, rng.uniform(0, 1))
        base = z + length if oncoming else z
        self.add(
            z, Vehicle(x, base, solids, _paint_colour(rng), oncoming, rng.uniform(0.2, 0.7), rng.uniform(0.4, 0.8))
        )
        self.patches.append(Patch((x - half * 1.05, x + half * 1.05), (z - 0.2, z + length + 0.2), 0.92, 0.35))

    def building(self, side: float, front: float, z: float, length: float) -> None:
        rng = self.rng
        height = rng.uniform(2.9, 3.4) * (1 + rng.integer(4)) + rng.uniform(0.3, 1.2)
        texture = ("brick", "plaster", "plaster", "stains")[rng.integer(4)]
        v = rng.uniform(0.12, 0.6)
        albedo = colour(v, v * rng.uniform(0.75, 0.98), v * rng.uniform(0.5, 0.95))
        if texture == "brick":
            albedo = colour(v * 0.7, v * rng.uniform(0.3, 0.6), v * rng.uniform(0.2, 0.45))
        scale = {"brick": 180.0, "plaster": 80.0, "stains": 40.0}[texture]
        interior = (rng.uniforms(64).reshape(8, 8) ** 2 * 0.4).astype(np.float32)
        windows = Windows(
            (rng.uniform(1.9, 3.6), rng.uniform(2.8, 3.3)),
            (rng.uniform(0.8, 1.5), rng.uniform(1.1, 1.8)),
            rng.uniform(0.8, 1.3),
            rng.uniform(0.05, 0.12),
            interior,
            rng.uniform(0.1, 0.8),
            rng.uniform(0.2, 0.7),
        )
        plinth = (rng.uniform(0.3, 1.0), rng.uniform(0.4, 0.9))
        x = side * front
        deep = side * (front + rng.uniform(8, 14))
        self.add(
            z + length * 0.5, Wall((x, z), (x, z + length), 0.0, height, albedo, texture, scale, windows, 0.0, plinth)
        )
        gabled = rng.chance(0.4)
        rise = rng.uniform(2, 4)
        self.add(
            z + 0.01,
            Wall(
                (x, z),
                (deep, z),
                0.0,
                height,
                albedo,
                texture,
                scale,
                windows if rng.chance(0.6) else None,
                rise if gabled else 0.0,
                plinth,
            ),
        )
        r = rng.uniform(0.06, 0.25)
        tile = colour(r, r * rng.uniform(0.35, 0.8), r * rng.uniform(0.3, 0.7))
        run = (deep - x) * (0.5 if gabled else 0.35)
        self.add(
            z + length * 0.51, Roof((x - side * 0.3, height - 0.1, z - 0.3), (0, 0, length + 0.6), (run, rise, 0), tile)
        )

    def side(self, side: float, kerb: float, urban: float) -> None:
        """Everything beside the road on one side (-1 left, 1 right); the kerb is at |x| = kerb."""
        rng = self.rng
        style = rng.uniform()
        parked = rng.chance(0.2 + 0.4 * urban)
        if parked:
            z = rng.uniform(4, 14)
            while z < 70:
                self.car(side * (kerb - 1.05), z, side < 0)
                z += rng.uniform(5.2, 8) if rng.chance(0.75) else rng.uniform(10, 25)
        walk = kerb + rng.uniform(1.8, 3.5)
        if style < urban:
            front = walk + rng.uniform(0.2, 5)
            z = rng.uniform(-20, -4)
            while z < 110:
                length = rng.uniform(9, 22)
                self.building(side, front + rng.uniform(-0.4, 0.4), z, length)
                z += length + (rng.uniform(3, 14) if rng.chance(0.5) else 0.02)
            spacing, nearest, density = rng.uniform(9, 22), kerb + 0.6, 0.5
        else:
            dark, bright = _leaf_colours(rng, self.autumn)
            if rng.chance(0.75):
                for row in range(2):
                    x = side * (walk + rng.uniform(5, 9) + 4 * row)
                    self.add(
                        60.0 + row,
                        Thicket(
                            (x, -5.0),
                            (x + side * rng.uniform(-2, 10), 140.0),
                            rng.uniform(4, 11) * (1 + 0.3 * row),
                            dark,
                            bright,
                            rng.uniform(35, 70),
                            rng.uniform(0, 512),
                            rng.uniform(0.2, 0.5),
                        ),
                    )
            spacing, nearest, density = rng.uniform(4, 10), walk + 0.5, 0.85
        if rng.chance(0.35):
            dark, bright = _leaf_colours(rng, self.autumn * 0.5)
            x = side * (walk + rng.uniform(0, 0.5))
            self.add(
                45.0,
                Thicket(
                    (x, rng.uniform(2, 20)),
                    (x, rng.uniform(30, 90)),
                    rng.uniform(0.6, 1.8),
                    dark,
                    bright,
                    90.0,
                    rng.uniform(0, 512),
                    0.1,
                ),
            )
        if rng.chance(density):
            z = rng.uniform(5, 16)
            height = rng.uniform(5, 13)
            while z < 110:
                self.tree(side * (nearest + rng.uniform(0.3, 1 + 5 * (1 - urban))), z, height * rng.uniform(0.7, 1.3))
                z += spacing * rng.uniform(0.6, 1.5) * (1 + z / 60)
        if rng.chance(0.6):
            gap, z = rng.uniform(18, 35), rng.uniform(6, 30)
            v, radius, height = rng.uniform(0.05, 0.4), rng.uniform(0.05, 0.12), rng.uniform(4, 8)
            while z < 120:
                self.add(z, Post(side * (kerb + 0.5), z, radius, 0.0, height, colour(v, v, v), "flat", 1.0))
                z += gap
        for _ in range(rng.integer(4)):
            self.bush(side * (walk + rng.uniform(0, 4)), rng.uniform(6, 40))
        if rng.chance(0.5):
            self.sign(side * (kerb + rng.uniform(0.4, 1.5)), rng.uniform(8, 40))
        if rng.chance(0.15):
            posters = poster_textures()
            x, z = side * (walk + rng.uniform(0.5, 3)), rng.uniform(10, 40)
            width = rng.uniform(2, 3.6)
            self.add(
                z,
                Wall(
                    (x, z),
                    (x + side * width, z),
                    0.6,
                    0.6 + width * 0.7,
                    colour(1, 1, 1),
                    "flat",
                    1.0,
                    picture=posters[rng.integer(len(posters))],
                ),
            )

    def sign(self, x: float, z: float) -> None:
        rng = self.rng
        v = rng.uniform(0.2, 0.5)
        low, size = rng.uniform(2.0, 2.6), rng.uniform(0.3, 0.5)
        kind = rng.integer(4)
        face = (colour(0.7, 0.7, 0.7), colour(0.55, 0.04, 0.03), colour(0.02, 0.08, 0.4), colour(0.6, 0.4, 0.03))[kind]
        self.add(z, Post(x, z, 0.035, 0.0, low + size, colour(v, v, v), "flat", 0.5))
        self.add(z - 0.05, Wall((x - size, z - 0.05), (x + size, z - 0.05), low, low + 2 * size, face, "flat", 1.0))
        if rng.chance(0.6):
            inner = size * 0.6
            white = colour(0.75, 0.75, 0.75) if kind else colour(0.05, 0.05, 0.05)
            middle = low + size
            self.add(
                z - 0.06,
                Wall(
                    (x - inner, z - 0.06),
                    (x + inner, z - 0.06),
                    middle - inner * 0.5,
                    middle + inner * 0.5,
                    white,
                    "flat",
                    1.0,
                ),
            )

    def ground(self, left: float, right: float, lane: float, urban: float) -> Ground:
        """The road surface from x = -left to right, `lane` the x of the centre line, and what lies beside it."""
        rng = self.rng
        count = int(2 * HALF_WIDTH / STEP)
        x = (np.arange(count) + 0.5) * STEP - HALF_WIDTH
        profile = np.zeros((5, count), np.float32)
        g = rng.uniform(0.06, 0.16)
        grass = np.array([g * rng.uniform(0.75, 1.3 + 0.5 * self.autumn), g, g * rng.uniform(0.2, 0.45)])
        asphalt = rng.uniform(0.09, 0.24) * np.array([rng.uniform(0.95, 1.05), 1.0, rng.uniform(0.98, 1.1)])
        slab = rng.uniform(0.14, 0.34) * np.array([1.0, rng.uniform(0.93, 1.0), rng.uniform(0.82, 1.0)])
        shade = [rng.uniform(-2.2, 0.6), rng.uniform(-2.2, 0.6)]
        profile[:3] = grass[:, None]
        profile[3] = 2
        for side, kerb in ((-1, left), (1, right)):
            if rng.chance(0.3 + 0.6 * urban):
                inner = kerb + (rng.uniform(0.5, 2.0) if rng.chance(0.3) else 0.15)
                walk = (side * x > inner) & (side * x < inner + rng.uniform(1.5, 3.0 + 4 * urban))
                profile[:3, walk] = slab[:, None] * rng.uniform(0.8, 1.2)
                profile[3, walk] = rng.integer(2)
            stone = (side * x > kerb) & (side * x < kerb + 0.15)
            profile[:3, stone] = rng.uniform(0.05, 0.5)
            profile[3, stone] = 0
        road = (x > -left) & (x < right)
        wear = 1 + 0.10 * np.sin(2 * np.pi * (x - lane) / rng.uniform(1.5, 2.0)) * rng.uniform(0, 1)
        profile[:3, road] = asphalt[:, None] * wear[road]
        profile[3, road] = 0
        if rng.chance(0.6):
            inset = rng.uniform(0.15, 0.5)
            width = rng.uniform(0.10, 0.2)
            for position in (-left + inset, right - inset):
                profile[:3, np.abs(x - position) < width / 2] = rng.uniform(0.4, 0.8)
        dashes = []
        if rng.chance(0.75):
            dashes.append(
                Dashes(
                    lane,
                    0.13,
                    3.0 if urban > 0.4 else 4.5,
                    9.0 if urban > 0.4 else 12.0,
                    rng.uniform(0, 12),
                    rng.uniform(0.35, 0.8),
                )
            )
        if right - lane > 6:
            dashes.append(Dashes(lane + (right - lane) / 2, 0.13, 3.0, 9.0, rng.uniform(0, 12), rng.uniform(0.35, 0.8)))
        if rng.chance(0.15):
            z = rng.uniform(10, 35)
            for k in range(int((left + right) / 1.0)):
                dashes.append(Dashes(-left + 0.5 + k, 0.5, 4.0, 1000.0, -z, rng.uniform(0.4, 0.8)))
        profile[4] = shade[0] + (shade[1] - shade[0]) * np.clip((x + left) / (left + right), 0, 1)
        profile[4] = np.where(self.sunny, profile[4], -3)
        return Ground(
            profile,
            STEP,
            MATERIALS,
            tuple(dashes),
            tuple(self.patches),
            (rng.uniform(-1, 1), rng.uniform(8, 24), rng.uniform(0, 512)),
        )

    sunny = True


def build(rng: Randomness, height: int, width: int) -> Scene:
    """A random street for images of the given size; all numbers are drawn from `rng` in a fixed order."""
    # KITTI's protocol crop: 370 x 740 pixels of images with a focal length of 721 pixels.
    focal = 721.0 * max(height / 370.0, width / 1242.0)
    camera = Camera(
        height,
        width,
        focal,
        centre_u=width * (0.5 + rng.uniform(-0.04, 0.04)),
        centre_v=height * rng.uniform(0.42, 0.5),
        lateral=0.0,
        yaw=rng.uniform(-0.07, 0.07),
    )
    light = _light(rng)
    builder = _Builder(rng, camera)
    builder.sunny = float(light.sun.max()) > 0.5
    urban = rng.uniform(0, 1)
    right = rng.uniform(1.9, 2.6) if rng.chance(0.7) else rng.uniform(5.5, 6.5)
    left = rng.uniform(4.6, 6.0) if rng.chance(0.8) else rng.uniform(1.9, 2.5)
    lane = -1.8 if left > 3 else -9.0
    parking = 2.1 if rng.chance(0.5 * urban) else 0.0
    for side, kerb in ((-1.0, left + parking), (1.0, right + parking)):
        builder.side(side, kerb, urban)
    traffic = rng.uniform(0, 1)
    z = rng.uniform(7, 40)
    while z < 90 and rng.chance(0.35 + 0.5 * traffic):
        builder.car(rng.uniform(-0.3, 0.3), z, False)
        z += rng.uniform(9, 35)
    z = rng.uniform(6, 40)
    while z < 90 and left > 4 and rng.chance(0.3 + 0.5 * traffic):
        builder.car(-3.6 + rng.uniform(-0.3, 0.3), z, True)
        z += rng.uniform(9, 40)
    dark, bright = _leaf_colours(rng, builder.autumn)
    far = rng.uniform(120, 260)
    builder.add(
        400,
        Thicket(
            (-far * 1.2, far + 40),
            (far * 1.2, far),
            rng.uniform(5, 16),
            dark,
            bright * np.float32(0.7),
            20.0,
            rng.uniform(0, 512),
            0.4,
        ),
    )
    ground = builder.ground(left + parking, right + parking, lane, urban)
    order = sorted(builder.items, key=lambda item: -item[0])
    surfaces: list[Surface] = [Sky(rng.uniform(0, 1), rng.uniform(0, 512)), ground]
    surfaces += [surface for _, surface in order]
    spread = rng.uniform(-0.03, 0.03)
    warm = rng.uniform(-0.04, 0.04)
    balance = colour(1 + warm, 1.0, 1 - warm)
    exposure = rng.uniform(0.85, 1.35)
    return Scene(camera, light, tuple(surfaces), (exposure * (1 - spread), exposure * (1 + spread)), balance, 1.0)
