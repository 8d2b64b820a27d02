"""Pair source `builtin`: crops of the real stereo pair that scikit-image's wheel carries; needs no download.

The pair is "Motorcycle" of the Middlebury 2014 stereo benchmark (Scharstein et al., GCPR 2014), 741x500, rectified,
with the measured disparity of most of its left view.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from data.pair import MIN_SIDE, Pair, PairSource
from utils.errors import ConfigError, DataError

SCENE = "motorcycle"


@dataclass(frozen=True)
class _Region:
    """The part of the photograph that a split may use, in its pixels: rows top ... bottom, columns left ... right."""

    top: int
    bottom: int
    left: int
    right: int


# Test has rows of its own, and a point lies on the same row of both views. Train and val share rows; the 61 columns
# between them are wider than the largest disparity (59.9), so that neither's side view shows a point of the other.
REGIONS = {
    "train": _Region(0, 244, 0, 392),
    "val": _Region(0, 244, 453, 741),
    "test": _Region(244, 500, 0, 741),
}
FACTORS = (2.0, 1.5, 1.25, 1.0)
"""How many pixels of the photograph make one pixel of a crop, along each axis."""
STRIDES = {"train": 0.125, "val": 1.0, "test": 1.0}
"""The largest step from crop to crop, relative to a crop."""


@dataclass(frozen=True)
class _Crop:
    """A rectangle of the photograph, from (left, top), that becomes one pair after shrinking by `factor`."""

    factor: float
    left: int
    top: int


def _places(start: int, end: int, size: float, stride: float) -> list[int]:
    """Starts of equally spaced intervals of length `size` that together cover start ... end."""
    room = end - start - size
    steps = int(np.ceil(room / (size * stride) - 1e-9))
    return [start + int(room * k / steps) for k in range(steps + 1)] if steps else [start]


@lru_cache(maxsize=1)
def _photograph() -> tuple[Image.Image, Image.Image, NDArray[np.float32]]:
    """Left and right view, and the disparity of the left one (NaN where unknown), straight from the wheel's files."""
    import skimage

    # Not skimage.data.stereo_motorcycle(), which would try to download a file that is missing or altered.
    folder = Path(skimage.__file__).parent / "data"
    try:
        views = [Image.open(folder / f"{SCENE}_{side}.png").convert("RGB") for side in ("left", "right")]
        with np.load(folder / f"{SCENE}_disp.npz") as arrays:
            disparity = arrays["arr_0"].astype(np.float32)
    except (OSError, ValueError, KeyError) as error:
        raise DataError(
            f"The stereo pair {SCENE}_left.png, {SCENE}_right.png and {SCENE}_disp.npz of scikit-image cannot be read "
            f"from {folder} ({error}); reinstall it with `pip install --force-reinstall scikit-image`."
        ) from error
    return views[0], views[1], np.where(np.isfinite(disparity), disparity, np.float32(np.nan))


class BuiltinSource(PairSource):
    """Crops of one real pair at several scales, the widest first, `height` x `width` each; x is the left view.

    The splits use disjoint parts of the photograph. All pairs show one scene and so are one group. `disparity` is
    measured, NaN where unknown; the point may lie outside `x_side` (column below 0).
    """

    name = "builtin"

    def __init__(self, split: str = "test", limit: int | None = None, height: int = 128, width: int = 256) -> None:
        if split not in REGIONS:
            raise ConfigError(f"The split of the builtin source must be one of {', '.join(REGIONS)}, not {split!r}.")
        if limit is not None and limit < 1:
            raise ConfigError(f"limit of the builtin source must be at least 1, not {limit}.")
        region = REGIONS[split]
        rows, columns = region.bottom - region.top, region.right - region.left
        if not (MIN_SIDE <= height <= rows and MIN_SIDE <= width <= columns):
            raise ConfigError(
                f"The builtin source's {split} part has room for crops of {MIN_SIDE}x{MIN_SIDE} to {columns}x{rows} "
                f"pixels, not {width}x{height}."
            )
        self.split, self.height, self.width = split, height, width
        largest = min(rows / height, columns / width)
        factors = sorted({min(factor, largest) for factor in FACTORS}, reverse=True)
        crops = [
            _Crop(factor, left, top)
            for factor in factors
            for top in _places(region.top, region.bottom, height * factor, STRIDES[split])
            for left in _places(region.left, region.right, width * factor, STRIDES[split])
        ]
        self._crops = crops[:limit]

    def __len__(self) -> int:
        return len(self._crops)

    def __getitem__(self, index: int) -> Pair:
        crop = self._crops[index]
        left, right, disparity = _photograph()
        height, width = self.height * crop.factor, self.width * crop.factor
        region = REGIONS[self.split]
        # Cut out first: the filter of `resize` reaches beyond its box, into the part of another split.
        part_of = (region.left, region.top, region.right, region.bottom)
        column, row = crop.left - region.left, crop.top - region.top
        box = (column, row, column + width, row + height)
        size = (self.width, self.height)
        x, x_side = (
            np.array(view.crop(part_of).resize(size, Image.Resampling.BILINEAR, box=box)) for view in (left, right)
        )
        rows = (crop.top + (np.arange(self.height) + 0.5) * crop.factor).astype(np.intp)
        columns = (crop.left + (np.arange(self.width) + 0.5) * crop.factor).astype(np.intp)
        part = disparity[rows[:, None], columns] / np.float32(crop.factor)
        return Pair(x, x_side, self.ids[index], SCENE, part)

    @property
    def ids(self) -> list[str]:
        """Ids such as builtin_test_motorcycle_x1.50_r244_c000: scale, first row and column in the photograph."""
        return [
            f"builtin_{self.split}_{SCENE}_x{crop.factor:.2f}_r{crop.top:03d}_c{crop.left:03d}" for crop in self._crops
        ]

    @property
    def groups(self) -> list[str]:
        """One group: all crops are of one photograph."""
        return [SCENE] * len(self._crops)
