"""JPEG, WebP and AVIF by Pillow: what an image costs with a codec that everybody has and no side information.

Each is used as strongly as is practical: JPEG with optimised Huffman tables, baseline or progressive, whichever file is
smaller; WebP with method 6; AVIF with speed 4 in one tile. Colour is 4:2:0 in all three. No metadata is written.
"""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PilImage
from PIL import features

Image = NDArray[np.uint8]
SUFFIX = {"jpeg": ".jpg", "webp": ".webp", "avif": ".avif"}
NAMES = tuple(SUFFIX)
LABELS = {"jpeg": "JPEG", "webp": "WebP", "avif": "AVIF"}
SETTINGS = {
    "jpeg": "4:2:0, optimised tables, the smaller of baseline and progressive",
    "webp": "lossy, method 6",
    "avif": "4:2:0, speed 4, one tile",
}
POINTS = 6
"""Qualities measured for each anchor."""
REACH = 2.0
"""An anchor is swept up to this many times the model's largest rate, so that curves overlap in quality as well."""
_GRID = (0, 1, 2, 3, 5, 8, 12, 16, 20, 25, 30, 40, 50, 60, 70, 80, 90, 95, 100)
_CROP = (256, 512)


def unavailable(name: str) -> str | None:
    """None, or why this Pillow cannot write the format."""
    known = features.check({"jpeg": "jpg"}.get(name, name))
    if known:
        return None
    return f"{LABELS[name]} was not measured: this Pillow was built without it; run `pip install 'pillow>=11.3'`."


def encode(name: str, image: Image, quality: int) -> bytes:
    """The file of an image (H, W, 3) uint8 at the format's own quality setting, 0 to 100 (JPEG: 1 to 100)."""
    picture = PilImage.fromarray(image)
    if name == "jpeg":
        return min(
            (
                _save(picture, "JPEG", quality=max(1, quality), subsampling="4:2:0", optimize=True, progressive=p)
                for p in (False, True)
            ),
            key=len,
        )
    if name == "webp":
        return _save(picture, "WEBP", quality=quality, method=6)
    if name == "avif":
        return _save(picture, "AVIF", quality=quality, subsampling="4:2:0", speed=4, autotiling=False)
    raise ValueError(f"There is no anchor {name!r}; choose from {', '.join(NAMES)}.")


def decode(data: bytes) -> Image:
    """The pixels (H, W, 3) uint8 of a file that `encode` made."""
    with PilImage.open(io.BytesIO(data)) as picture:
        return np.array(picture.convert("RGB"))


def choose_qualities(name: str, images: Sequence[Image], low: float, high: float, count: int = POINTS) -> list[int]:
    """At most `count` qualities, ascending, whose mean rates on a few images spread evenly, in ratio, over low to high.

    `low` and `high` are in bpp. Where the format cannot make files that small, its smallest is the lower end, and the
    upper end is at least 2.5 times that. Large images count by a crop, so the rates met are approximate; what is
    measured later is exact.
    """
    crops = [_centre(image) for image in images]
    qualities: list[int] = []
    rates: list[float] = []
    for quality in _GRID[1:] if name == "jpeg" else _GRID:
        rate = float(
            np.mean([8 * len(encode(name, crop, quality)) / (crop.shape[0] * crop.shape[1]) for crop in crops])
        )
        qualities.append(quality)
        rates.append(max(rate, *rates) if rates else rate)
        if rate >= max(high, 2.5 * rates[0]):
            break
    low, high = max(low, rates[0]), max(high, 2.5 * rates[0])
    targets = np.linspace(np.log(low), np.log(high), count)
    chosen = np.interp(targets, np.log(rates), qualities)
    return sorted({round(float(quality)) for quality in chosen})


def _centre(image: Image) -> Image:
    top, left = (max(0, (image.shape[axis] - _CROP[axis]) // 2) for axis in (0, 1))
    return np.ascontiguousarray(image[top : top + _CROP[0], left : left + _CROP[1]])


def _save(picture: PilImage.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()
