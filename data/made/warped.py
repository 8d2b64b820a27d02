"""Pair source `warped`: an endless, seeded stream of stereo pairs made from single photographs, with exact disparity.

The idea is from Watson et al., "Learning Stereo from Single Images", ECCV 2020 (arXiv 2008.01484): a photograph is the
left view, an invented disparity moves it to the right view, and another photograph fills what is uncovered.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from data.files.archive import Archive, open_archive
from data.files.picture_formats import EXTENSIONS
from data.images import decode_image
from data.made.seeded import ENDLESS, HELD_OUT, SPLITS, Floats, Names, Randomness
from data.made.surfaces import background, hidden, moved, seen, shape, textured
from data.pair import MAX_SIDE, MIN_SIDE, Pair, PairSource
from utils.errors import ConfigError, DataError

BUILTIN = (
    *("astronaut.png", "brick.png", "camera.png", "chelsea.png", "coffee.png", "coins.png", "grass.png"),
    *("gravel.png", "ihc.png", "rocket.jpg"),
)
"""Photographs of scikit-image's wheel. Its stereo pair is not among them: the source `builtin` tests on it."""
LARGEST = (2.0, 60.0)
"""Range of a pair's largest disparity in pixels, at a width of 256."""
MAX_SHAPES = 6
CACHE_BYTES = 512 * 2**20
"""Decoded photographs that each process keeps."""

_log = logging.getLogger(__name__)


class Views(NamedTuple):
    """A made pair; for its disparity see `Pair`. `occluded`: the points of x that x_side does not show."""

    x: NDArray[np.uint8]
    """(H, W, 3)"""
    x_side: NDArray[np.uint8]
    disparity: NDArray[np.float32]
    """(H, W), exact, at least 0; on an outline, of the surface that covers most of the pixel."""
    occluded: NDArray[np.bool_]
    """(H, W)"""


class Photographs:
    """Pictures of an archive by number, decoded when asked for and kept while there is room."""

    def __init__(self, archive: Archive, files: Sequence[str]) -> None:
        self._archive, self._files = archive, files
        self._cache: OrderedDict[int, NDArray[np.uint8]] = OrderedDict()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, number: int) -> NDArray[np.uint8]:
        """uint8 RGB (H, W, 3). Raises DataError with the file's name if it cannot be read."""
        if number not in self._cache:
            file = self._files[number]
            image = decode_image(self._archive.read(file), self._archive.describe(file))
            self._cache[number] = image
            self._bytes += image.nbytes
            while self._bytes > CACHE_BYTES and len(self._cache) > 1:
                self._bytes -= self._cache.popitem(last=False)[1].nbytes
        self._cache.move_to_end(number)
        return self._cache[number]


def open_photographs(root: Path | str | None, split: str) -> Photographs:
    """The photographs of one split: the pictures in ROOT/SPLIT and below it, or without `root` those of scikit-image.

    A root without folders of that kind serves for every split, as scikit-image's do. Raises DataError for a missing
    folder, one without pictures, and one that has other splits only.
    """
    if root is None:
        import skimage

        return Photographs(open_archive(Path(skimage.__file__).parent / "data"), BUILTIN)
    archive = open_archive(root)
    present = [name for name in SPLITS if name in archive.folders()]
    if present and split not in present:
        raise DataError(f"{archive.describe()} has no folder {split}, but {', '.join(present)}; add photographs in it.")
    if not present:
        _log.warning("%s has no split folders: all its photographs serve as %s.", archive.describe(), split)
    folder = split if present else ""
    files = _pictures(archive, folder)
    if not files:
        raise DataError(f"{archive.describe(folder)} holds no pictures; put photographs there.")
    return Photographs(archive, files)


def _pictures(archive: Archive, folder: str) -> list[str]:
    """The pictures in a folder and all folders below it, sorted within each."""
    prefix = f"{folder}/" if folder else ""
    files = [prefix + name for name in archive.files(folder) if Path(name).suffix.lower() in EXTENSIONS]
    return files + [file for name in archive.folders(folder) for file in _pictures(archive, prefix + name)]


def crop(rng: Randomness, photograph: NDArray[np.uint8], height: int, width: int) -> Floats:
    """A random part of a photograph, (height, width, 3) float32 of 0 to 255, reduced by a random factor.

    The factor is log-uniform between 1 and the largest that leaves enough pixels. A small photograph is enlarged.
    """
    tall, wide = photograph.shape[:2]
    smallest = max(height / tall, width / wide)
    scale = smallest ** rng.uniform() if smallest < 1 else smallest
    rows, columns = min(height / scale, tall), min(width / scale, wide)
    top, left = rng.uniform(0, tall - rows), rng.uniform(0, wide - columns)
    # Cut out in whole pixels first: Pillow copies what it is given.
    x, y = int(left), int(top)
    part = photograph[y : int(np.ceil(top + rows)), x : int(np.ceil(left + columns))]
    box = (left - x, top - y, min(left - x + columns, part.shape[1]), min(top - y + rows, part.shape[0]))
    image = Image.fromarray(part).resize((width, height), Image.Resampling.BICUBIC, box=box)
    return np.asarray(image, dtype=np.float32)


def make(photographs: Photographs, rng: Randomness, height: int, width: int, alike: bool = False) -> Views:
    """One random pair, height x width; if `alike`, the cameras differ in nothing but their place."""
    low, high = (value * width / 256 for value in LARGEST)
    largest = low * (high / low) ** rng.uniform()
    # The scene is wider than x by what x_side sees beyond the right edge.
    canvas = width + int(np.ceil(largest)) + 3
    first = rng.integer(len(photographs))
    second = (first + 1 + rng.integer(max(1, len(photographs) - 1))) % len(photographs)
    scenery = crop(rng, photographs[first], height, canvas)

    # Depth: either a shape or the background is nearest.
    count = rng.integer(MAX_SHAPES + 1)
    shape_first = count > 0 and rng.chance(0.7)
    ground = background(rng, height, canvas, width, largest * (rng.uniform(0.1, 0.8) if shape_first else 1.0))
    shapes = [shape(rng, ground, width, largest, nearest=shape_first and number == 0) for number in range(count)]
    shapes.sort(key=lambda item: -item.nearness)

    # Texture: a shape shows another photograph, or it is cut out of the first one, whose hole the other one fills.
    filling = None
    surfaces = []
    for item in shapes:
        if rng.chance(0.5):
            colours = crop(rng, photographs[second], *item.opacity.shape)
        else:
            colours = scenery[item.box]
            if filling is None:
                filling = _toned(crop(rng, photographs[second], height, canvas), scenery)
            # Whatever is farther must not show the same part of the photograph again.
            scenery = scenery.copy()
            scenery[item.box] = np.where((item.opacity == 1)[..., None], filling[item.box], colours)
        surfaces.append(textured(colours, item.opacity, item.disparity, item.top, item.left))
    surfaces.append(textured(scenery, np.ones_like(ground, dtype=np.float32), ground))
    surfaces.reverse()

    x, disparity = seen(surfaces, height, width)
    x_side, side = seen([moved(surface, width) for surface in surfaces], height, width)
    if not alike:
        x_side = _other_camera(rng, x_side)
    return Views(_rounded(x), _rounded(x_side), disparity.astype(np.float32), hidden(disparity, side))


def _toned(image: Floats, like: Floats) -> Floats:
    """`image` with the mean and about the deviation of `like` in each channel, so that it fits in beside it."""
    (mean, deviation), (wanted, spread) = (
        (part.mean((0, 1)), part.std((0, 1))) for part in (image[::4, ::4], like[::4, ::4])
    )
    return (image - mean) * np.clip((spread + 1) / (deviation + 1), 0.5, 2) + wanted


def _other_camera(rng: Randomness, image: Floats) -> Floats:
    """`image` as a camera of slightly other sharpness, exposure, white balance, black level and noise sees it."""
    side = rng.uniform(-0.04, 0.1)
    for axis in (0, 1):
        image = ndimage.correlate1d(image, [side, 1 - 2 * side, side], axis=axis, mode="nearest")
    gain = rng.uniform(0.96, 1.04) * np.array([rng.uniform(0.985, 1.015) for _ in range(3)])
    image = image * gain.astype(np.float32) + np.float32(rng.uniform(-3, 3))
    return image + np.float32(rng.uniform(0, 1.5)) * rng.gaussian(image.shape)


def _rounded(image: Floats) -> NDArray[np.uint8]:
    return np.clip(image + np.float32(0.5), 0, 255).astype(np.uint8)


class WarpedSource(PairSource):
    """Stereo pairs made from the photographs below `root`, or from scikit-image's; pair i of a seed and split is the
    same on every machine, up to the rounding of floating-point functions.

    `split` "train" holds 2^31 pairs and "val" and "test" 64 each, or `limit` of them; the splits and seeds share no
    random numbers, and no photographs where `root` has split folders. Every pair is its own group.
    """

    name = "warped"

    def __init__(
        self,
        split: str = "train",
        root: Path | str | None = None,
        limit: int | None = None,
        seed: int = 0,
        height: int = 128,
        width: int = 256,
    ) -> None:
        if split not in SPLITS:
            raise ConfigError(f"The split of the warped source must be one of {', '.join(SPLITS)}, not {split!r}.")
        if not 0 <= seed < 2**32:
            raise ConfigError(f"The seed of the warped source must lie between 0 and 2^32 - 1, not {seed}.")
        if limit is not None and not 0 < limit <= ENDLESS:
            raise ConfigError(f"limit of the warped source must lie between 1 and 2^31, not {limit}.")
        if not (MIN_SIDE <= height <= MAX_SIDE and MIN_SIDE <= width <= MAX_SIDE):
            raise ConfigError(
                f"The warped source makes images of {MIN_SIDE} to {MAX_SIDE} pixels a side, not {width}x{height}."
            )
        self.split, self.seed, self.height, self.width = split, seed, height, width
        self.photographs = open_photographs(root, split)
        self._length = limit if limit is not None else (ENDLESS if split == "train" else HELD_OUT)
        self._names = Names(f"warped_{split}_{seed}", self._length)

    def __len__(self) -> int:
        return self._length

    def make(self, index: int, alike: bool = False) -> Views:
        """Pair number `index` with its occlusion mask, and without photometric differences if `alike`."""
        rng = Randomness(self.seed * len(SPLITS) + SPLITS.index(self.split), index % self._length)
        return make(self.photographs, rng, self.height, self.width, alike)

    def __getitem__(self, index: int) -> Pair:
        name = self._names[index]
        views = self.make(index)
        return Pair(views.x, views.x_side, name, name, views.disparity)

    @property
    def ids(self) -> Sequence[str]:
        """Ids such as warped_train_0_000012."""
        return self._names

    @property
    def groups(self) -> Sequence[str]:
        """Each pair is its own group."""
        return self._names
