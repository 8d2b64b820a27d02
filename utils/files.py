"""Reading and writing whole files, with one sentence for what the file system refuses."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from utils.errors import DataError


def read_whole(path: Path) -> bytes:
    """The bytes of a file. Raises DataError if it is missing or cannot be read."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"There is no file {path}; check the path.") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); name a file that can be.") from None


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that it is either whole or as it was. Raises DataError if the place cannot be written."""
    temporary = path.with_name(path.name + ".tmp")
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise DataError(
            f"{path} cannot be written ({error.strerror}); choose another place or make its folder."
        ) from None


def png_bytes(image: NDArray[np.uint8], effort: int = 6) -> bytes:
    """A PNG file of an image (H, W, 3) uint8; effort 0 to 9."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG", compress_level=effort)
    return buffer.getvalue()
