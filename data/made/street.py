"""Random streets seen from a car: draws one scene from a seeded stream of numbers, and renders it for both cameras."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from data.made.scene.ground import Sky, Surface
from data.made.scene.layout import Road, Street
from data.made.scene.raycast import FAR, Camera, Canvas, Light, colour
from data.made.textures import Floats, Randomness

KITTI_FOCAL = 721.0
KITTI_WIDTH, KITTI_CROP_HEIGHT = 1242, 370


@dataclass(frozen=True)
class Sensor:
    """The response of the two cameras."""

    level: float
    """Mean grey value that automatic exposure aims at, 0 to 255."""
    spread: float
    """Relative difference of the two exposures from their mean."""
    balance: Floats
    """White balance, (3, 1, 1)."""
    contrast: float
    """Share of an S-curve in the tone curve, 0 to 1."""

    def tone(self, light: Floats) -> Floats:
        """Grey value in [0, 1] of linear light, in place: a gamma of 2 and an S-curve."""
        np.clip(light, 0, 1, out=light)
        np.sqrt(light, out=light)
        curve = light * light
        curve *= 3 - 2 * light
        curve -= light
        curve *= np.float32(self.contrast)
        light += curve
        return light

    def meter(self, light: Floats) -> np.float32:
        """The gain that brings the mean grey value of an image of linear light to `level`."""
        gain, target = np.float32(1.0), np.float32(self.level / 255.0)
        for _ in range(4):
            mean = self.tone(light * gain).mean()
            gain *= np.clip((target / np.maximum(mean, np.float32(0.01))) ** 2, np.float32(0.25), np.float32(4.0))
        return gain


@dataclass(frozen=True)
class Scene:
    """A street: camera, light, surfaces from far to near, and the sensors."""

    camera: Camera
    light: Light
    surfaces: tuple[Surface, ...]
    sensor: Sensor


@dataclass(frozen=True)
class Rendering:
    """Both views in [0, 255] without noise, (2, 3, H, W); the disparity of each in pixels, (2, H, W), 0 in the sky."""

    image: Floats
    disparity: Floats


def render(scene: Scene) -> Rendering:
    """Casts the rays of both cameras into the scene; applies haze and the sensors' response."""
    canvas = Canvas(scene.camera)
    for surface in scene.surfaces:
        surface.draw(canvas, scene.light)
    depth, image = canvas.depth, canvas.colour
    solid = depth < FAR * np.float32(0.5)
    clear = np.exp(np.minimum(depth, np.float32(5000.0)) * np.float32(-scene.light.haze))
    veil = np.where(solid, 1 - clear, np.float32(0.0))
    image += veil[:, None] * (scene.light.horizon * np.float32(0.8) - image)
    image *= scene.sensor.balance
    gain = scene.sensor.meter(image[0, :, ::3, ::3])
    image[0] *= gain * np.float32(1 - scene.sensor.spread)
    image[1] *= gain * np.float32(1 + scene.sensor.spread)
    scene.sensor.tone(image)
    image *= np.float32(255.0)
    disparity = np.float32(scene.camera.focal * scene.camera.baseline) / depth
    disparity[~solid] = 0
    return Rendering(image, disparity)


def focal_length(height: int, width: int) -> float:
    """KITTI's focal length in pixels for an image of this size.

    Wide images show KITTI's whole field of view; others are taken for crops of full height (370 rows), as in the
    protocol, whose 128x256 images have a focal length of 721 * 128 / 370 = 249.4 pixels.
    """
    return KITTI_FOCAL * (width / KITTI_WIDTH if width > 2.5 * height else height / KITTI_CROP_HEIGHT)


def _light(rng: Randomness) -> tuple[Light, float]:
    """Sun and sky, and how sunny it is (0 overcast, 1 clear)."""
    overcast = rng.chance(0.2)
    azimuth = rng.uniform(0, 2 * np.pi)
    elevation = rng.uniform(0.35, 1.0)
    direction = [np.cos(elevation) * np.sin(azimuth), np.sin(elevation), np.cos(elevation) * np.cos(azimuth)]
    strength = rng.uniform(0.1, 0.4) if overcast else rng.uniform(1.6, 3.2)
    warm = rng.uniform(0.72, 0.98)
    sun = colour(strength, strength * (0.5 + 0.5 * warm), strength * warm * 0.9)
    base = rng.uniform(0.5, 0.8) if overcast else rng.uniform(0.10, 0.25)
    ambient = colour(base * 0.88, base, base * rng.uniform(1.05, 1.35))
    bright = rng.uniform(0.5, 1.4)
    horizon = colour(bright * rng.uniform(0.85, 1.0), bright, bright * 1.02)
    blue = rng.uniform(0.25, 0.85)
    zenith = horizon * colour(blue * blue, blue, min(1.0, blue * 1.4))
    haze = rng.uniform(0.0001, 0.0007) * (2.5 if rng.chance(0.2) else 1.0)
    return Light(np.array(direction, np.float32), sun, ambient, horizon, zenith, haze), 0.0 if overcast else 1.0


def build(rng: Randomness, height: int, width: int) -> Scene:
    """A random street for images of the given size; all numbers are drawn from `rng` in a fixed order."""
    camera = Camera(
        height,
        width,
        focal_length(height, width),
        centre_u=width * (0.5 + rng.uniform(-0.04, 0.04)),
        centre_v=height * rng.uniform(0.42, 0.49),
        yaw=rng.uniform(-0.08, 0.08),
    )
    light, sunny = _light(rng)
    street = Street(rng, Road.random(rng), sunny)
    street.fill()
    surfaces: list[Surface] = [Sky(rng.uniform(0, 1), rng.uniform(0, 512)), street.ground(), *street.far_to_near()]
    warm = rng.uniform(-0.04, 0.04)
    balance = colour(1 + warm, 1.0, 1 - warm)
    sensor = Sensor(rng.uniform(94, 122), rng.uniform(-0.03, 0.03), balance, rng.uniform(0.4, 0.9))
    return Scene(camera, light, tuple(surfaces), sensor)
