"""Image files to uint8 RGB arrays, with one clear sentence for every file that is not a plain 8-bit colour image."""

from __future__ import annotations

import io
import struct
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from data.archive import MAX_FILE_BYTES
from data.pair import MAX_SIDE, MIN_SIDE
from utils.errors import DataError

EXTENSIONS = (".png", ".webp", ".jpg", ".jpeg")
"""File name endings (lower case) that the folder-like sources take for images."""

# Only formats whose bit depth the header tells: Pillow turns 16-bit TIFF and PPM colour into 8 bits without a word.
_FORMATS = ("PNG", "JPEG", "WEBP", "BMP")
_PNG_END = b"IEND\xaeB`\x82"
_MODES = {
    "1": "black and white",
    "L": "grayscale",
    "I": "grayscale with more than 8 bits",
    "I;16": "16-bit grayscale",
    "I;16B": "16-bit grayscale",
    "LA": "grayscale with an alpha channel",
    "La": "grayscale with an alpha channel",
    "RGBA": "colour with an alpha channel",
    "RGBX": "colour with a fourth channel",
    "P": "a palette image",
    "PA": "a palette image with an alpha channel",
    "CMYK": "CMYK, made for print",
}
# What Pillow raises for a file that is cut short or damaged, by format and by place of the damage.
_DAMAGE = (
    *(OSError, SyntaxError, ValueError, EOFError, RuntimeError, IndexError, KeyError),
    *(struct.error, zlib.error, zipfile.BadZipFile),
)


def decode_image(data: bytes, name: str) -> NDArray[np.uint8]:
    """Pixels of an encoded image as uint8 RGB of shape (H, W, 3), as stored (an EXIF orientation is not applied).

    `name` is what error messages call the file. Raises DataError for an image that is empty, damaged or cut short,
    not 8-bit RGB, or with a side outside 16 to 4096 pixels; a header that claims more is refused before decoding.
    """
    if not data:
        raise DataError(f"{name} is empty (0 bytes); copy or download it again.")
    with _open(io.BytesIO(data), name) as image:
        _check(image, data[:32], name)
        try:
            image.load()
        except _DAMAGE as error:
            raise DataError(
                f"{name} is cut short or damaged ({_one_line(error)}); copy or download it again."
            ) from None
        return np.array(image, dtype=np.uint8)


def read_image(path: Path | str) -> NDArray[np.uint8]:
    """`decode_image` of a file. Raises DataError also when the file is missing or unreadable."""
    path = Path(path)
    if not path.exists():
        raise DataError(f"There is no image at {path}; check the path.")
    if not path.is_file():
        raise DataError(f"{path} is a folder, not an image; name a file in it.")
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); check its permissions.") from None
    if len(data) > MAX_FILE_BYTES:
        raise DataError(f"{path} has more than {MAX_FILE_BYTES} bytes, too many for an image; check the file.")
    return decode_image(data, str(path))


def check_image(file: BinaryIO, name: str) -> tuple[int, int]:
    """(height, width) from the header of an opened, seekable image file, without decoding pixels.

    Raises DataError for all that the header shows (see `decode_image`) and for a PNG, JPEG or WebP file whose end
    is missing.
    """
    try:
        head = file.read(32)
        length = file.seek(0, io.SEEK_END)
        file.seek(max(0, length - 4096))
        tail = file.read()
        file.seek(0)
    except _DAMAGE as error:
        raise DataError(f"{name} is cut short or damaged ({_one_line(error)}); copy or download it again.") from None
    if not length:
        raise DataError(f"{name} is empty (0 bytes); copy or download it again.")
    with _open(file, name) as image:
        _check(image, head, name)
        if not _has_end(image.format, length, head, tail):
            raise DataError(f"{name} is cut short at {length} bytes; copy or download it again.")
        return image.height, image.width


def _open(file: BinaryIO, name: str) -> Image.Image:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the size is checked by _check
        try:
            return Image.open(file, formats=_FORMATS)
        except (Image.DecompressionBombError, MemoryError):
            raise DataError(
                f"{name} claims more than {MAX_SIDE} pixels a side; use images of at most that size."
            ) from None
        except UnidentifiedImageError:
            raise DataError(f"{name} is not a PNG, JPEG, WebP or BMP image, or is damaged; replace the file.") from None
        except _DAMAGE as error:
            raise DataError(
                f"{name} is cut short or damaged ({_one_line(error)}); copy or download it again."
            ) from None


def _check(image: Image.Image, head: bytes, name: str) -> None:
    width, height = image.size
    if min(width, height) < MIN_SIDE:
        raise DataError(f"{name} is {width}x{height}; each side needs at least {MIN_SIDE} pixels, so leave it out.")
    if max(width, height) > MAX_SIDE:
        raise DataError(f"{name} is {width}x{height}; each side may have at most {MAX_SIDE} pixels, so scale it down.")
    if image.mode != "RGB":
        kind = _MODES.get(image.mode, f"of mode {image.mode}")
        raise DataError(f"{name} is {kind}; convert it to 8-bit RGB.")
    # Pillow reports 16-bit colour PNG as plain RGB; the bit depth is byte 24 of the file.
    if image.format == "PNG" and head[24:25] == b"\x10":
        raise DataError(f"{name} has 16 bits per channel; convert it to 8-bit RGB.")
    if "transparency" in image.info:
        raise DataError(f"{name} has a transparent colour; convert it to 8-bit RGB.")
    if getattr(image, "n_frames", 1) > 1:
        raise DataError(f"{name} is an animation of several frames; use a still image.")


def _has_end(kind: str | None, length: int, head: bytes, tail: bytes) -> bool:
    if kind == "WEBP":
        return length >= 8 + int(struct.unpack("<I", head[4:8])[0])
    # Some writers pad after the end marker, so it need not be the very last bytes.
    if kind == "PNG":
        return _PNG_END in tail
    return kind != "JPEG" or b"\xff\xd9" in tail


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
