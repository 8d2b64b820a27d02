"""What an image file tells before its pixels are decoded: format, bits, colours, and whether it is whole."""

from __future__ import annotations

import io
import re
import struct
from typing import BinaryIO

from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

EXTENSIONS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".avif", ".mpo")
"""File name endings (lower case) that are taken for images wherever a folder is read."""

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "AVIF")
"""Pillow's names of the formats that are read; MPO is opened through JPEG."""

READ = "PNG, JPEG, WebP, BMP, TIFF, AVIF or MPO"
"""The same for a reader of messages."""

HEAD_BYTES = 512
"""Length of the beginning of a file by which `describe_unread` names it."""

# First bytes, where they stand, and what such a file is. The first that fits counts.
_MAGIC = (
    (0, b"\x89PNG\r\n\x1a\n", "PNG"),
    (0, b"\xff\xd8\xff\xf7", "a JPEG-LS image"),
    (0, b"\xff\xd8\xff", "JPEG"),
    (8, b"WEBP", "WEBP"),
    (0, b"II*\0", "TIFF"),
    (0, b"MM\0*", "TIFF"),
    (0, b"II+\0", "TIFF"),
    (0, b"MM\0+", "TIFF"),
    (4, b"ftypavi", "AVIF"),
    (0, b"GIF8", "a GIF image"),
    (4, b"ftypcrx", "a Canon raw photograph"),
    *((4, b"ftyp" + brand, "a HEIC image") for brand in (b"hei", b"hev", b"mif1", b"msf1")),
    (4, b"ftyp", "a video"),
    (0, b"\x1aE\xdf\xa3", "a video"),
    (8, b"AVI ", "a video"),
    (0, b"\xff\x0a", "a JPEG XL image"),
    (0, b"\0\0\0\x0cJXL ", "a JPEG XL image"),
    (0, b"\0\0\0\x0cjP  ", "a JPEG 2000 image"),
    (0, b"\xff\x4f\xff\x51", "a JPEG 2000 image"),
    (0, b"II\xbc\x01", "a JPEG XR image"),
    (0, b"8BPS", "a Photoshop document"),
    (0, b"%PDF", "a PDF document"),
    (0, b"%!PS", "a PostScript document"),
    (0, b"\x76\x2f\x31\x01", "an OpenEXR image of floating-point values"),
    (0, b"#?R", "a Radiance HDR image of floating-point values"),
    (0, b"PF\n", "a PFM image of floating-point values"),
    (0, b"Pf\n", "a PFM image of floating-point values"),
    *((0, b"P%d" % number, "a PPM, PGM or PBM image") for number in range(1, 8)),
    (0, b"qoif", "a QOI image"),
    (0, b"DDS ", "a DDS texture"),
    (0, b"\0\0\1\0", "an ICO icon"),
    (0, b"\x59\xa6\x6a\x95", "a Sun raster image"),
    (0, b"FUJIFILMCCD-RAW", "a Fujifilm raw photograph"),
    (0, b"\x93NUMPY", "a NumPy array"),
    (0, b"\x1f\x8b", "a gzip archive"),
    (0, b"PK\x03\x04", "a zip archive"),
)
_GAIN_MAP = (b"hdrgm:", b"ns.adobe.com/hdr-gain-map", b"iso:ts:21496", b"hdrgainmap")
# Code points of ITU-T H.273 in pictures meant for sRGB screens: unspecified, BT.709, BT.601, sRGB and their kin.
_SCREEN_PRIMARIES = (1, 2, 5, 6, 7)
_SCREEN_TRANSFERS = (1, 2, 6, 13, 14, 15)
_COLOURS = {9: "BT.2020", 11: "DCI P3", 12: "Display P3"}
_CURVES = {8: "linear", 16: "PQ (HDR)", 18: "HLG (HDR)"}


def kind_of(head: bytes) -> str:
    """What a file is by its first bytes: one of FORMATS, words such as "a GIF image", or "" for what is not known."""
    if head.startswith(b"BM") and head[6:10] == bytes(4):  # Two letters are little; these bytes are reserved and zero.
        return "BMP"
    return next((name for place, magic, name in _MAGIC if head[place:].startswith(magic)), "")


def describe_unread(file: BinaryIO, head: bytes) -> str:
    """What the file is that Pillow does not open, and what to do, as the rest of a sentence: "is a GIF image; ..."."""
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith(b"version https://git-lfs"):
        return "is a Git LFS pointer, not a PNG or another image; fetch it with git lfs pull."
    if text.startswith((b"<!doctype html", b"<html")):
        return "is a web page, not an image; download the image again."
    kind = "an SVG drawing" if b"<svg" in text and text.startswith(b"<") else kind_of(head)
    if kind == "JPEG" and (bits := _jpeg_bits(file)) > 8:
        return f"has {bits} bits per channel; convert it to 8-bit RGB."
    if kind == "TIFF":
        return f"{_unread_tiff(file)}; convert it to an 8-bit PNG."
    if kind in FORMATS:
        article = "an" if kind == "AVIF" else "a"
        return f"is {article} {kind} image that is cut short or damaged; copy or download it again."
    if kind:
        return f"is {kind}; convert it to an 8-bit PNG."
    return f"is not a {READ} image, or is damaged; replace the file."


def too_deep(image: Image.Image, head: bytes, file: BinaryIO) -> str:
    """Why an opened image has more than 8 bits per channel, as "has 16 bits per channel"; "" if it has not.

    Pillow reduces 16-bit colour of PNG and TIFF, and AVIF of 10 and 12 bits, to 8 bits without a word.
    """
    bits = 8
    if image.format == "PNG":
        bits = head[24]
    elif image.format == "TIFF":
        return _deep_tiff(image.tag_v2)  # type: ignore[attr-defined]
    elif image.format == "AVIF":
        # The box av1C: its name, marker and version, profile and level, then tier, high_bitdepth, twelve_bit, ...
        flags = [match[1][0] for match in re.finditer(rb"av1C\x81.(.)", _all_of(file), re.DOTALL)]
        bits = max((12 if flag & 0x20 else 10 for flag in flags if flag & 0x40), default=8)
    return f"has {bits} bits per channel" if bits > 8 else ""


def raw_photograph(image: Image.Image) -> bool:
    """Whether a TIFF is a camera's raw file (DNG, NEF, ARW, ...), whose first picture is only a preview."""
    tags = getattr(image, "tag_v2", {}) if image.format == "TIFF" else {}
    return 50706 in tags or (int(tags.get(254, 0)) & 1 == 1 and 330 in tags)


def wide_colours(image: Image.Image, file: BinaryIO) -> str:
    """The colours that a PNG (cICP) or AVIF (nclx) names by number, unless they are those of an sRGB screen; or ""."""
    if image.format == "PNG":
        match = re.search(rb"\0\0\0\x04cICP(.)(.)", png_without_pixels(file)[0], re.DOTALL)
    elif image.format == "AVIF" and not image.info.get("icc_profile"):
        match = re.search(rb"colrnclx\0(.)\0(.)", _all_of(file), re.DOTALL)
    else:
        match = None
    if match is None:
        return ""
    primaries, transfer = match[1][0], match[2][0]
    if primaries in _SCREEN_PRIMARIES and transfer in _SCREEN_TRANSFERS:
        return ""
    colours = _COLOURS.get(primaries, f"primaries {primaries}") if primaries not in _SCREEN_PRIMARIES else ""
    curve = _CURVES.get(transfer, f"transfer {transfer}") if transfer not in _SCREEN_TRANSFERS else ""
    return " ".join(word for word in (colours, curve) if word)


def png_without_pixels(file: BinaryIO) -> tuple[bytes, bool]:
    """A PNG's chunks but for those of pixels and frames, and whether they go on to the end marker.

    An EXIF orientation may stand behind the pixels, where Pillow finds it only after decoding them.
    """
    file.seek(0)
    kept = [file.read(8)]
    whole = False
    while not whole and len(header := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", header)
        if kind in (b"IDAT", b"fdAT", b"fcTL"):
            file.seek(length + 4, io.SEEK_CUR)
            continue
        body = file.read(length + 4)
        kept += [header, body]
        whole = kind == b"IEND" and len(body) == length + 4
    return b"".join(kept), whole


def is_gain_map(data: bytes) -> bool:
    """Whether an encoded JPEG says that it is not a view but the HDR gain map of another."""
    return any(mark in data[: 2**16] for mark in _GAIN_MAP)


def is_whole(image: Image.Image, file: BinaryIO, length: int) -> bool:
    """Whether the file (not a PNG: see `png_without_pixels`) has all the bytes that its header speaks of."""
    if image.format == "WEBP":
        file.seek(4)
        return length >= 8 + int(struct.unpack("<I", file.read(4))[0])
    if image.format == "MPO":
        return length >= int(image.mpinfo[0xB002][0]["Size"])  # type: ignore[attr-defined]
    if image.format == "JPEG":
        # Some writers pad after the end marker, and phones append whole films, so it need not be the last bytes.
        file.seek(max(0, length - 4096))
        return b"\xff\xd9" in file.read() or b"\xff\xd9" in _jpeg_scan(file)
    if image.format == "TIFF":
        tags = image.tag_v2  # type: ignore[attr-defined]
        starts, counts = (tags.get(strip) or tags.get(tile) or () for strip, tile in ((273, 324), (279, 325)))
        return all(start + count <= length for start, count in zip(starts, counts, strict=False))
    if image.format == "AVIF":
        return length >= _boxes_end(file, length)
    if image.format == "BMP":
        tile = image.tile[0]  # type: ignore[attr-defined]
        return tile[0] != "raw" or length >= tile[2] + tile[3][1] * image.height  # raw: rows of so many bytes
    return True


def _all_of(file: BinaryIO) -> bytes:
    file.seek(0)
    return file.read()


def _segments(file: BinaryIO) -> bytes:
    """Moves to the frame header of a JPEG and returns its body; b"" without one."""
    file.seek(2)
    while len(header := file.read(4)) == 4:
        _, marker, length = struct.unpack(">BBH", header)
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return file.read(length - 2)
        file.seek(length - 2, io.SEEK_CUR)
    return b""


def _jpeg_bits(file: BinaryIO) -> int:
    return (_segments(file) or b"\0")[0]


def _jpeg_scan(file: BinaryIO) -> bytes:
    """All bytes of a JPEG from its frame header on: behind the EXIF thumbnail, which has an end marker of its own."""
    _segments(file)
    return file.read()


def _deep_tiff(tags: ImageFileDirectory_v2) -> str:
    bits = max(tags.get(258) or (1,))
    if 3 in (tags.get(339) or ()):
        return f"has floating-point values of {bits} bits"
    return f"has {bits} bits per channel" if bits > 8 else ""


def _unread_tiff(file: BinaryIO) -> str:
    """What hinders Pillow in reading a TIFF: its depth, if the tags tell, else its compression or damage."""
    unknown = "is a TIFF image that is damaged or of a kind that is not read"
    try:
        file.seek(0)
        head = file.read(8)
        tags = ImageFileDirectory_v2(head + file.read(8) if 43 in head[2:4] else head)
        file.seek(tags.next)
        tags.load(file)
        return _deep_tiff(tags) or unknown
    except (OSError, SyntaxError, ValueError, TypeError, KeyError, struct.error):
        return unknown


def _boxes_end(file: BinaryIO, length: int) -> int:
    """Where the boxes of an AVIF file (ISO 14496-12) end, by the lengths that they begin with."""
    end = 0
    while end < length:
        file.seek(end)
        header = file.read(16)
        if len(header) < 8:
            return length + 1
        size = struct.unpack(">I", header[:4])[0]
        if size == 1 and len(header) == 16:  # a 64-bit length follows the name
            size = struct.unpack(">Q", header[8:])[0]
        if size < 8:  # 0: to the end of the file; else not a box
            return length
        end += size
    return end
