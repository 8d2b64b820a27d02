"""Embedded ICC profiles: which of them are sRGB, and how pixels of the others become sRGB."""

from __future__ import annotations

import io
from functools import lru_cache

import numpy as np
from PIL import Image, ImageCms

_SPACES = {"L": "GRAY", "RGB": "RGB", "CMYK": "CMYK"}
_NAMES = {"GRAY": "gray", "Lab": "CIELAB"}
# A profile that moves no level further is sRGB, by whatever name: makers round its curve and primaries differently.
_TOLERANCE = 2


class ProfileError(ValueError):
    """Why a profile cannot be applied, as the end of a sentence."""


@lru_cache(maxsize=16)
def to_srgb(profile: bytes, mode: str) -> tuple[ImageCms.ImageCmsTransform, str] | None:
    """The transform of pixels of `mode` (L, RGB, CMYK) to sRGB and the profile's name; None if they are sRGB already.

    The transform's `input_mode` is RGB for a gray image with a profile for colour, as programs often write. Raises
    ProfileError if the profile is damaged or for other pixels.

    The intent is relative colorimetric with black point compensation: what sRGB holds keeps its measured colour, white
    stays white, black becomes black and the rest is clipped, by a rule that no profile's maker chooses.
    """
    try:
        opened = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        space = opened.profile.xcolor_space.strip()
        name = " ".join((opened.profile.profile_description or "without a name").split())
        if mode == "L" and space == "RGB":
            mode = "RGB"
        if space != _SPACES[mode]:
            kinds = (_NAMES.get(kind, kind) for kind in (space, _SPACES[mode]))
            raise ProfileError("is for {} values, and the image has {}".format(*kinds))
        transform = ImageCms.buildTransform(
            opened,
            ImageCms.createProfile("sRGB"),
            mode,
            "RGB",
            ImageCms.Intent.RELATIVE_COLORIMETRIC,
            ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
    except (OSError, TypeError, ImageCms.PyCMSError) as error:
        raise ProfileError(f"is damaged or incomplete ({' '.join(str(error).split())})") from None
    return (transform, name) if mode == "CMYK" or _moves(transform, mode) else None


def _moves(transform: ImageCms.ImageCmsTransform, mode: str) -> bool:
    """Whether any of a grid of colours, or of all grays, becomes another."""
    levels = np.linspace(0, 255, 18).round().astype(np.uint8) if mode == "RGB" else np.arange(256, dtype=np.uint8)
    axes = np.meshgrid(*[levels] * len(mode), indexing="ij")  # R, G and B each take every level
    colours = np.stack(axes, axis=-1).reshape(len(levels), -1, len(mode))
    image = Image.fromarray(colours.squeeze(-1) if mode == "L" else colours)
    moved = np.asarray(transform.apply(image)).astype(int)
    return int(np.abs(moved - colours).max()) > _TOLERANCE
