"""Conventional codecs: what an image costs with a codec that everybody has and no side information.

JPEG, WebP, AVIF and JPEG 2000 come with Pillow; JPEG XL, HEIC and VVC need a package each (EXTRAS). Each is used as
strongly as is practical (SETTINGS); colour is 4:2:0 where the format is made for it. No metadata is written. JPEG 2000,
JPEG XL and VVC are raw codestreams, which are files that decoders open; a .jp2 would add 85 bytes to each picture.
BPG, which is HEVC as in HEIC, is in no package of the Python index.
"""

from __future__ import annotations

import importlib.metadata
import io
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from importlib import import_module
from importlib.util import find_spec

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PilImage
from PIL import features

from utils.evaluation import vvc

Image = NDArray[np.uint8]
DEFAULT = ("jpeg", "webp", "avif")
SUFFIX = {
    **{"jpeg": ".jpg", "webp": ".webp", "avif": ".avif", "jpeg2000": ".j2k"},
    **{"jxl": ".jxl", "heic": ".heic", "vvc": ".266"},
}
NAMES = tuple(SUFFIX)
LABELS = {
    **{"jpeg": "JPEG", "webp": "WebP", "avif": "AVIF", "jpeg2000": "JPEG 2000"},
    **{"jxl": "JPEG XL", "heic": "HEIC", "vvc": "VVC"},
}
SETTINGS = {
    "jpeg": "4:2:0, optimised tables, the smaller of baseline and progressive",
    "webp": "lossy, method 6",
    "avif": "4:2:0, speed 4, one tile",
    "jpeg2000": "9/7 wavelet, YCbCr, a target PSNR of 16 dB + quality / 4",
    "jxl": "lossy, effort 9",
    "heic": "4:2:0, x265 as libheif sets it (preset slow, tuned for SSIM)",
    "vvc": f"4:2:0, 10 bits, vvenc, preset {vvc.PRESET}, no perceptual adaptation of the QP, which is 63 - quality",
}
EXTRAS = {
    "jxl": ("pillow_jxl", "pillow-jxl-plugin"),
    "heic": ("pillow_heif.HeifImagePlugin", "pillow-heif"),
    "vvc": ("imageio_ffmpeg", "imageio-ffmpeg"),
}
"""Anchors that a package adds: the module to import, and what to install."""
POINTS = 6
"""Qualities measured for each anchor."""
REACH = 2.0
"""An anchor is swept up to this many times the model's largest rate, so that curves overlap in quality as well."""
_GRID = (0, 1, 2, 3, 5, 8, 12, 16, 20, 25, 30, 40, 50, 60, 70, 80, 90, 95, 100)
_CROP = (256, 512)


def unavailable(name: str) -> str | None:
    """None, or why the format cannot be written here and what to install."""
    if name in EXTRAS:
        module, package = EXTRAS[name]
        missing = find_spec(module.split(".")[0]) is None
        reason, remedy = "it needs a package", package
        if name == "vvc" and not missing:
            missing, reason = not vvc.available(), "this FFmpeg was built without vvenc"
    else:
        missing = not features.check({"jpeg": "jpg", "jpeg2000": "jpg_2000"}.get(name, name))
        reason, remedy = "this Pillow was built without it", "'pillow>=11.3'"
    return f"{LABELS[name]} was not measured: {reason}; run `pip install --upgrade {remedy}`." if missing else None


def versions(names: Sequence[str]) -> dict[str, str]:
    """The versions of the packages that some anchors need besides Pillow."""
    return {package: importlib.metadata.version(package) for name, (_, package) in EXTRAS.items() if name in names}


def encode(name: str, image: Image, quality: int) -> bytes:
    """The file of an image (H, W, 3) uint8 at the format's own quality setting, 0 to 100 (JPEG: 1 to 100)."""
    if name == "vvc":
        return vvc.encode(image, max(0, 63 - quality))
    _register()
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
    if name == "jpeg2000":
        layers = {"quality_mode": "dB", "quality_layers": [16 + quality / 4]}
        # Without a comment Pillow writes OpenJPEG's name and version.
        return _save(picture, "JPEG2000", no_jp2=True, irreversible=True, mct=1, comment=" ", **layers)
    if name == "jxl":  # 100 would be lossless
        return _save(picture, "JXL", quality=min(99, quality), effort=9, num_threads=1)
    if name == "heic":
        return _save(picture, "HEIF", quality=quality, chroma=420)
    raise ValueError(f"There is no anchor {name!r}; choose from {', '.join(NAMES)}.")


def decode(data: bytes) -> Image:
    """The pixels (H, W, 3) uint8 of a file that `encode` made; VVC codes an odd size with its edge repeated."""
    if data.startswith(vvc.START):
        return vvc.decode(data)
    _register()
    with PilImage.open(io.BytesIO(data)) as picture:
        return np.array(picture.convert("RGB"))


def choose_qualities(name: str, images: Sequence[Image], low: float, high: float) -> list[int]:
    """At most POINTS qualities, ascending, whose mean rates on a few images spread evenly, in ratio, over low to high.

    `low` and `high` are in bpp. Where the format cannot make files that small, its smallest is the lower end, and the
    upper end is at least 2.5 times that. Large images count by a crop, so the rates met are approximate; what is
    measured later is exact.
    """
    crops = [_centre(image) for image in images]
    qualities = _GRID[1:] if name == "jpeg" else _GRID
    rates: list[float] = []
    for quality in qualities:
        rates.append(float(np.mean([8 * len(encode(name, crop, quality)) / crop[..., 0].size for crop in crops])))
        if rates[-1] >= max(high, 2.5 * rates[0]):
            break
    low, high = max(low, rates[0]), max(high, 2.5 * rates[0])
    targets = np.linspace(np.log(low), np.log(high), POINTS)
    rising = np.maximum.accumulate(rates)
    chosen = np.interp(targets, np.log(rising), qualities[: len(rising)])
    return sorted({round(float(quality)) for quality in chosen})


def _centre(image: Image) -> Image:
    top, left = (max(0, (image.shape[axis] - _CROP[axis]) // 2) for axis in (0, 1))
    return np.ascontiguousarray(image[top : top + _CROP[0], left : left + _CROP[1]])


@cache
def _register() -> None:
    """Add the formats of EXTRAS that are installed to Pillow."""
    for module in ("pillow_jxl", "pillow_heif.HeifImagePlugin"):
        with suppress(ImportError):
            import_module(module)


def _save(picture: PilImage.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()
