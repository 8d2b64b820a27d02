"""Image files to upright sRGB arrays, with one clear sentence for every file that has no honest 8-bit RGB form."""

from __future__ import annotations

import io
import logging
import struct
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageCms, ImageOps, UnidentifiedImageError

from data.files.archive import MAX_FILE_BYTES
from data.files.colours import ProfileError, to_srgb
from data.files.picture_formats import (
    FORMATS,
    HEAD_BYTES,
    describe_unread,
    is_gain_map,
    is_whole,
    png_without_pixels,
    raw_photograph,
    too_deep,
    wide_colours,
)
from data.pair import MAX_SIDE, MIN_SIDE
from utils.errors import DataError

View = Literal["x", "side", "second"]
"""Which picture of a file: "x" the first of an MPO, "side" the second of an MPO (the only one of other files),
"second" the second of an MPO and of nothing else."""

_PLAIN = {"RGB": "RGB", "RGBA": "RGB", "RGBa": "RGB", "P": "RGB", "PA": "RGB", "CMYK": "CMYK"}
_GRAY = {"L": "L", "1": "L", "LA": "L", "La": "L"}
_REFUSED_MODES = {
    "I": "grayscale with more than 8 bits",
    "I;16": "16-bit grayscale",
    "I;16B": "16-bit grayscale",
    "I;16L": "16-bit grayscale",
    "F": "grayscale of 32-bit floating-point values",
    "RGBX": "colour with a fourth channel of unknown meaning",
    "LAB": "in CIELAB colours",
}
# What Pillow raises for a file that is cut short or damaged, by format and by place of the damage.
_DAMAGE = (
    *(OSError, SyntaxError, ValueError, EOFError, RuntimeError, IndexError, KeyError, TypeError),
    *(struct.error, zlib.error, zipfile.BadZipFile),
)

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Picture:
    """An opened picture of a file, not yet decoded, that passed every check of its header.

    `profile` is its ICC profile, `orientation` that of EXIF (1 upright, to 8) as far as the header tells, `changes`
    what reading makes of it beside turning it upright.
    """

    image: Image.Image
    profile: bytes | None
    orientation: int
    changes: list[str]
    transform: ImageCms.ImageCmsTransform | None

    @property
    def upright_size(self) -> tuple[int, int]:
        """(height, width)."""
        width, height = self.image.size
        return (width, height) if self.orientation >= 5 else (height, width)


def decode_image(data: bytes, name: str, *, view: View = "x", changes: list[str] | None = None) -> NDArray[np.uint8]:
    """Pixels of an encoded image as uint8 RGB of shape (H, W, 3), upright and in sRGB; plain 8-bit RGB as stored.

    Gray becomes three equal channels, a palette its colours, an opaque alpha channel is dropped and an ICC profile
    other than sRGB is applied; `changes` collects a phrase for each of these. `name` is what error messages call the
    file. Raises DataError for an image that is empty, damaged, cut short, transparent, of more than 8 bits a channel
    or several frames, or with a side outside 16 to 4096 pixels (refused before decoding), and for a second picture
    that is none: see `View`.
    """
    with _opened(io.BytesIO(data), len(data), name, view) as picture:
        try:
            picture.image.load()
        except _DAMAGE as error:
            raise _damaged(name, error) from None
        if changes is not None:
            changes += picture.changes
        return _upright(_to_rgb(picture, name), picture.orientation)


def read_image(path: Path | str, *, side: bool = False, changes: list[str] | None = None) -> NDArray[np.uint8]:
    """`decode_image` of a file; of an MPO the second picture if `side`. What was changed is logged unless collected.

    Raises DataError also when the file is missing or unreadable.
    """
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
    found: list[str] = []
    image = decode_image(data, str(path), view=side_view(path.name) if side else "x", changes=found)
    if changes is not None:
        changes += found
    elif found:
        _log.warning("%s: %s.", path, "; ".join(found))
    return image


def side_view(file_name: str) -> View:
    """The view that a side image's file gives, by its name: what is called .mpo has to hold a stereo pair."""
    return "second" if file_name.lower().endswith(".mpo") else "side"


def check_image(file: BinaryIO, name: str, *, view: View = "x", changes: list[str] | None = None) -> tuple[int, int]:
    """(height, width), upright, from the header of an opened, seekable image file, without decoding pixels.

    Raises DataError for all that the header shows (see `decode_image`) and for a file whose end is missing. That an
    alpha channel is opaque, only decoding tells. `changes` is as there.
    """
    try:
        length = file.seek(0, io.SEEK_END)
        file.seek(0)
        if file.read(8) == b"\x89PNG\r\n\x1a\n":
            chunks, whole = png_without_pixels(file)
            if not whole:
                raise DataError(f"{name} is cut short at {length} bytes; copy or download it again.")
            file = io.BytesIO(chunks)
    except _DAMAGE as error:
        raise _damaged(name, error) from None
    with _opened(file, length, name, view) as picture:
        if picture.image.format != "PNG" and not is_whole(picture.image, file, length):
            raise DataError(f"{name} is cut short at {length} bytes; copy or download it again.")
        if changes is not None:
            changes += picture.changes
        return picture.upright_size


@contextmanager
def _opened(file: BinaryIO, length: int, name: str, view: View) -> Iterator[_Picture]:
    """The wanted picture of a file of `length` bytes, checked as far as the header goes."""
    if not length:
        raise DataError(f"{name} is empty (0 bytes); copy or download it again.")
    if length > MAX_FILE_BYTES:
        raise DataError(f"{name} has more than {MAX_FILE_BYTES} bytes, too many for an image; check the file.")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # sizes are checked here, and damage of metadata does not concern pixels
        picture = _check(_open(file, name), file, name)
        if view == "second" or (view == "side" and picture.image.format == "MPO"):
            picture = _second(picture, file, name)
        yield picture


def _open(file: BinaryIO, name: str) -> Image.Image:
    try:
        file.seek(0)
        head = file.read(HEAD_BYTES)
        file.seek(0)
        return Image.open(file, formats=FORMATS)
    except (Image.DecompressionBombError, MemoryError):
        raise DataError(f"{name} claims more than {MAX_SIDE} pixels a side; use images of at most that size.") from None
    except UnidentifiedImageError:
        raise DataError(f"{name} {describe_unread(file, head)}") from None
    except _DAMAGE as error:
        raise _damaged(name, error) from None


def _check(image: Image.Image, file: BinaryIO, name: str, first: _Picture | None = None) -> _Picture:
    """Every check of a header. What a second picture's own header does not say, its `first` one says for both."""
    width, height = image.size
    if min(width, height) < MIN_SIDE:
        raise DataError(f"{name} is {width}x{height}; each side needs at least {MIN_SIDE} pixels, so leave it out.")
    if max(width, height) > MAX_SIDE:
        raise DataError(f"{name} is {width}x{height}; each side may have at most {MAX_SIDE} pixels, so scale it down.")
    if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":
        what = "holds several pages" if image.format == "TIFF" else "is an animation of several frames"
        raise DataError(f"{name} {what}; use a still image.")
    if raw_photograph(image):
        raise DataError(f"{name} is a camera's raw photograph; develop it to an 8-bit PNG.")
    file.seek(0)
    deep = too_deep(image, file.read(32), file)
    if image.mode in _REFUSED_MODES or not (deep or image.mode in _PLAIN or image.mode in _GRAY):
        deep = f"is {_REFUSED_MODES.get(image.mode, f'of mode {image.mode}')}"
    if deep:
        raise DataError(f"{name} {deep}; convert it to 8-bit RGB.")
    colours = wide_colours(image, file)
    if colours:
        raise DataError(f"{name} has {colours} colours, named without an ICC profile; convert it to sRGB.")
    profile = image.info.get("icc_profile", first.profile if first else b"")
    transform, changes = _changes(image, profile, name)
    orientation = _orientation(image, file) or (first.orientation if first else 1)
    return _Picture(image, profile, orientation, changes, transform)


def _changes(
    image: Image.Image, profile: bytes | None, name: str
) -> tuple[ImageCms.ImageCmsTransform | None, list[str]]:
    """The transform to sRGB or None, and a phrase for each way in which RGB pixels differ from the stored ones."""
    changes = []
    if image.mode == "1":
        changes.append("black and white, read as RGB")
    elif image.mode in _GRAY:
        changes.append("grayscale, read as three equal channels")
    elif image.mode in ("P", "PA"):
        changes.append("a palette, read as its colours")
    if _has_alpha(image):
        changes.append("an alpha channel, dropped (only opaque ones are accepted)")
    if profile is None:
        raise DataError(f"{name} has an ICC profile that is damaged or incomplete; save it anew in sRGB.")
    if not profile:
        if image.mode == "CMYK":
            raise DataError(
                f"{name} is CMYK, made for print, without the profile of its inks; convert it to 8-bit RGB."
            )
        return None, changes
    try:
        found = to_srgb(profile, _GRAY.get(image.mode) or _PLAIN[image.mode])
    except ProfileError as error:
        raise DataError(f"{name} has an ICC profile that {error}; save it anew in sRGB.") from None
    if found is None:
        return None, changes
    return found[0], [*changes, f"the colour profile {found[1]!r}, converted to sRGB"]


def _second(first: _Picture, file: BinaryIO, name: str) -> _Picture:
    """The second view of an MPO, opened. Previews are passed over; a gain map is no view."""
    alone = "to use its first picture as a side image, save that alone as a PNG"
    try:
        entries = first.image.mpinfo[0xB002] if first.image.format == "MPO" else []  # type: ignore[attr-defined]
        views = [place for place, entry in enumerate(entries) if "Thumbnail" not in entry["Attribute"]["MPType"]]
        if len(views) < 2:
            raise DataError(f"{name} is no stereo pair, for it holds only one picture (and perhaps previews); {alone}.")
        size, mode = first.upright_size, first.image.mode
        first.image.seek(views[1])
        file.seek(first.image.offset)  # type: ignore[attr-defined]
        data = file.read(entries[views[1]]["Size"])
    except _DAMAGE as error:
        raise _damaged(f"The second picture of {name}", error) from None
    if len(data) < entries[views[1]]["Size"]:
        raise DataError(f"{name} is cut short in its second picture; copy or download it again.")
    view = io.BytesIO(data)
    image = _open(view, f"The second picture of {name}")
    width, height = image.size
    if is_gain_map(data) or image.mode != mode or min(width, height) < MIN_SIDE:
        raise DataError(f"{name} is no stereo pair: its second picture is a gain map or preview of its first; {alone}.")
    picture = _check(image, view, f"The second picture of {name}", first)
    if picture.upright_size != size:
        (tall, wide), (height, width) = size, picture.upright_size
        raise DataError(f"{name} is no stereo pair: its pictures are {wide}x{tall} and {width}x{height}; {alone}.")
    return picture


def _has_alpha(image: Image.Image) -> bool:
    return image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info


def _to_rgb(picture: _Picture, name: str) -> Image.Image:
    """The decoded picture in sRGB, not yet upright."""
    image, transform = picture.image, picture.transform
    if _has_alpha(image):
        gray = image.mode in _GRAY
        whole = image.convert("LA").convert("RGBA") if image.mode == "La" else image.convert("RGBA")
        if np.asarray(whole.getchannel("A")).min() < 255:
            raise DataError(f"{name} has transparent pixels; put it on a background and save it as 8-bit RGB.")
        image = whole.getchannel("R") if gray else whole.convert("RGB")
    mode = transform.input_mode if transform else "RGB"
    if image.mode != mode:
        image = image.convert(mode)
    return transform.apply(image) if transform else image


def _orientation(image: Image.Image, file: BinaryIO) -> int | None:
    """EXIF's number, 1 to 8; None without one that makes sense, and for TIFF, which Pillow turns by itself."""
    if image.format == "TIFF":
        return None
    try:
        if image.format == "PNG":  # EXIF may stand behind the pixels
            image = Image.open(io.BytesIO(png_without_pixels(file)[0]), formats=("PNG",))
        value = Image.Image.getexif(image).get(ExifTags.Base.Orientation)  # PNG's own getexif would decode
    except _DAMAGE:
        return None
    return value if isinstance(value, int) and 1 <= value <= 8 else None


def _upright(image: Image.Image, orientation: int) -> NDArray[np.uint8]:
    """uint8 (H, W, 3) of an RGB image turned from this EXIF orientation."""
    pixels = np.array(image, dtype=np.uint8)
    if orientation == 1:
        return pixels
    turned = Image.fromarray(pixels)
    turned.getexif()[ExifTags.Base.Orientation] = orientation
    return np.array(ImageOps.exif_transpose(turned), dtype=np.uint8)


def _damaged(name: str, error: BaseException) -> DataError:
    reason = " ".join(str(error).split()) or type(error).__name__
    return DataError(f"{name} is cut short or damaged ({reason}); copy or download it again.")
