"""VVC (H.266) intra pictures by vvenc and FFmpeg's decoder, both in the package imageio-ffmpeg: raw byte streams."""

from __future__ import annotations

import io
import subprocess
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PilImage

Image = NDArray[np.uint8]
START = b"\0\0\0\1"
"""Start code of a byte stream (H.266, annex B)."""
PRESET = "medium"


@cache
def available() -> bool:
    """Whether the package is there and its FFmpeg can write VVC."""
    try:
        return b"Encoder libvvenc" in _ffmpeg(b"", "-h", "encoder=libvvenc")
    except (ImportError, RuntimeError, OSError, subprocess.SubprocessError):
        return False


def encode(image: Image, qp: int) -> bytes:
    """The byte stream of an image (H, W, 3) uint8 at a QP of 0 (finest) to 63; an odd size gets its edge repeated."""
    image = np.pad(image, ((0, image.shape[0] % 2), (0, image.shape[1] % 2), (0, 0)), mode="edge")
    return _ffmpeg(
        image.tobytes(),
        *("-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{image.shape[1]}x{image.shape[0]}", "-i", "-"),
        *("-vf", "scale=out_color_matrix=bt709:out_range=full", "-pix_fmt", "yuv420p10le"),
        *("-c:v", "libvvenc", "-preset", PRESET, "-qpa", "0", "-qp", str(qp), "-f", "vvc", "-"),
    )


def decode(data: bytes) -> Image:
    """The pixels (H, W, 3) uint8 of a byte stream that `encode` made, of even height and width."""
    pixels = _ffmpeg(
        data,
        *("-f", "vvc", "-i", "-", "-vf", "scale=in_color_matrix=bt709:in_range=full", "-pix_fmt", "rgb24"),
        *("-f", "image2pipe", "-c:v", "ppm", "-"),
    )
    return np.array(PilImage.open(io.BytesIO(pixels)))


def _ffmpeg(data: bytes, *arguments: str) -> bytes:
    from imageio_ffmpeg import get_ffmpeg_exe

    command = [get_ffmpeg_exe(), "-v", "error", *arguments]
    return subprocess.run(command, input=data, capture_output=True, check=True).stdout
