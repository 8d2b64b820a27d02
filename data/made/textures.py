"""Surface textures of the synthetic street: photographs that scikit-image's wheel carries, and seeded noise.

Every texture is a rip-map: a table of copies averaged 2^i times along u and 2^j times along v, so that a surface seen
at a grazing angle is filtered along each axis by its own footprint and neither aliases nor blurs.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from data.made.seeded import Floats, Randomness

SIZE = 512
"""Texels along each side of a tiling texture; a power of two."""
GROUND_LAYERS = ("asphalt", "gravel", "grass", "brick")
POSTERS = ("astronaut", "chelsea", "coffee", "rocket")


@dataclass(frozen=True)
class RipMap:
    """A tiling texture, or several of one size, sampled bilinearly at any footprint.

    `texels` holds all levels one after the other, each with one repeated row and column; `start[j, i]` is where the
    level averaged 2^j times along v and 2^i times along u begins. Layers follow each other every `stride` texels.
    """

    texels: Floats
    start: NDArray[np.intp]
    size: int
    stride: int

    def sample(
        self,
        u: Floats,
        v: Floats | np.float32,
        du: Floats | np.float32,
        dv: Floats | np.float32,
        layer: NDArray[np.intp] | None = None,
    ) -> Floats:
        """Texture value at texel coordinates (u, v) for a pixel that spans du x dv texels; all arguments broadcast."""
        i, scale_u, width = self._level(du)
        j, scale_v, height = self._level(dv)
        x = u * scale_u - np.float32(0.5)
        y = v * scale_v - np.float32(0.5)
        left, top = np.floor(x), np.floor(y)
        x -= left
        y -= top
        stride = width + 1
        index = (left.astype(np.intp) & (width - 1)) + (top.astype(np.intp) & (height - 1)) * stride
        index = index + self.start[j, i]
        if layer is not None:
            index += layer * self.stride
        upper = self.texels.take(index)
        upper += x * (self.texels[1:].take(index) - upper)
        index += stride
        lower = self.texels.take(index)
        lower += x * (self.texels[1:].take(index) - lower)
        lower -= upper
        lower *= y
        lower += upper
        return lower

    def _level(self, footprint: Floats | np.float32) -> tuple[NDArray[np.intp], Floats, NDArray[np.intp]]:
        levels = self.start.shape[0]
        level = np.rint(np.log2(np.maximum(footprint, np.float32(1.0)))).astype(np.intp)
        level = np.minimum(level, levels - 1)
        return level, np.ldexp(np.float32(1.0), -level).astype(np.float32), self.size >> level


def rip_map(*images: Floats) -> RipMap:
    """The rip-map of one or more square images whose common side is a power of two."""
    size = images[0].shape[0]
    levels = size.bit_length()
    parts: list[Floats] = []
    start = np.zeros((levels, levels), np.intp)
    for image in images:
        offset = 0
        for j in range(levels):
            current = image
            for i in range(levels):
                padded = np.pad(current, ((0, 1), (0, 1)), mode="wrap").astype(np.float32)
                start[j, i] = offset
                offset += padded.size
                parts.append(padded.ravel())
                if i + 1 < levels:
                    current = np.float32(0.5) * (current[:, ::2] + current[:, 1::2])
            if j + 1 < levels:
                image = np.float32(0.5) * (image[::2] + image[1::2])
    # One texel more, so that the shifted view of `sample` stays inside.
    return RipMap(np.concatenate([*parts, np.ones(1, np.float32)]), start, size, offset)


def fractal_noise(key: int, exponent: float, size: int = SIZE) -> Floats:
    """Periodic Gaussian noise (size, size) of deviation 1 whose amplitude falls as 1 / frequency^exponent."""
    white = Randomness(0x7E7, key).gaussian((size, size)).astype(np.float64)
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None, :])
    frequency[0, 0] = 1.0
    spectrum = np.fft.rfft2(white) * frequency**-exponent
    spectrum[0, 0] = 0.0
    noise = np.fft.irfft2(spectrum, s=(size, size))
    return (noise / noise.std()).astype(np.float32)


def photograph(name: str) -> Floats:
    """A photograph of scikit-image's wheel in linear light, (H, W) or (H, W, 3), values in [0, 1]."""
    import skimage.data

    image = getattr(skimage.data, name)().astype(np.float32) / np.float32(255.0)
    return np.square(image)


def _box(image: Floats, factor: int) -> Floats:
    height, width = (side // factor * factor for side in image.shape[:2])
    blocks = image[:height, :width].reshape(height // factor, factor, width // factor, factor, *image.shape[2:])
    return blocks.mean(axis=(1, 3), dtype=np.float64).astype(np.float32)


def _tiling(image: Floats, contrast: float = 1.0) -> Floats:
    """Flattens the illumination of a 512x512 photograph and mirrors it into a tile of mean 1."""
    small = _box(image, 2)
    coarse = np.repeat(np.repeat(_box(small, 64), 64, axis=0), 64, axis=1)
    for axis in (0, 1):
        padded = np.concatenate([np.flip(coarse, axis), coarse, np.flip(coarse, axis)], axis=axis).cumsum(
            axis, np.float64
        )
        ends = np.arange(256, 512)
        coarse = ((padded.take(ends + 32, axis) - padded.take(ends - 32, axis)) / 64).astype(np.float32)
    flat = np.maximum(1 + contrast * (small / np.maximum(coarse, 1e-3) - 1), 0.02)
    tile = np.concatenate([flat, flat[:, ::-1]], axis=1)
    tile = np.concatenate([tile, tile[::-1]], axis=0)
    return tile / tile.mean()


def _foliage(key: int, grass: Floats) -> Floats:
    """Leaves: a photograph of grass broken up by clumps of noise, many dark gaps and few bright spots."""
    clumps = np.exp(0.7 * fractal_noise(key, 0.75) + 0.5 * fractal_noise(key + 1, 0.4))
    leaves = np.roll(grass, (37 * key, 91 * key), (0, 1)) ** 1.2 * clumps
    return (leaves / leaves.mean()).astype(np.float32)


@lru_cache(maxsize=1)
def street_textures() -> dict[str, RipMap]:
    """All tiling textures by name, of mean 1; built once a process (about a second).

    "ground" has a layer for each of GROUND_LAYERS.
    """
    gravel = _tiling(photograph("gravel"))
    asphalt = gravel ** np.float32(0.6) * np.exp(0.12 * fractal_noise(3, 0.6)).astype(np.float32)
    grass = _tiling(photograph("grass"))
    brick = _tiling(np.ascontiguousarray(np.rot90(photograph("brick"))))
    brick = brick * np.exp(0.15 * fractal_noise(10, 0.8)).astype(np.float32)
    stains = np.exp(0.35 * fractal_noise(1, 0.8)).astype(np.float32)
    plaster = _tiling(photograph("moon"), 0.6) * np.exp(0.22 * fractal_noise(2, 0.8)).astype(np.float32)
    images = {
        "brick": brick,
        "plaster": plaster,
        "stains": stains,
        "foliage": _foliage(5, grass),
        "bark": np.exp(0.5 * fractal_noise(7, 0.6)).astype(np.float32),
        "clouds": fractal_noise(8, 1.6) * np.float32(0.5) + np.float32(1.0),
        "shadow": fractal_noise(9, 1.15) * np.float32(0.5) + np.float32(1.0),
    }
    # `clouds` and `shadow` are thresholded, so their own scale (mean 1, deviation 0.5) is kept.
    kept = ("clouds", "shadow")
    maps = {name: rip_map(image if name in kept else image / image.mean()) for name, image in images.items()}
    lawn = grass * np.exp(0.6 * fractal_noise(4, 0.6)).astype(np.float32)
    maps["ground"] = rip_map(*(image / image.mean() for image in (asphalt, gravel, lawn, brick)))
    return maps


@lru_cache(maxsize=1)
def poster_textures() -> list[tuple[RipMap, RipMap, RipMap]]:
    """Colour photographs for hoardings: a rip-map a channel, mean as photographed, 256 texels a side."""
    posters = []
    for name in POSTERS:
        image = photograph(name)
        side = min(image.shape[:2]) // 256 * 256
        top, left = (image.shape[0] - side) // 2, (image.shape[1] - side) // 2
        square = _box(image[top : top + side, left : left + side], side // 256)
        posters.append(tuple(rip_map(square[:, :, c]) for c in range(3)))
    return posters  # type: ignore[return-value]
