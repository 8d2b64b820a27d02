import io
import struct

import numpy as np
import pytest
from image_files import chunk, encode, noise, png16, write
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2
from sentences import sentence

from data.images import check_image, decode_image, read_image
from utils.errors import DataError


def as_mode(mode: str, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(noise()).convert(mode).save(buffer, kind, **options)
    return buffer.getvalue()


def gray16(kind: str = "PNG") -> bytes:
    return encode(np.full((24, 32), 40000, dtype=np.uint16), kind)


def animation(kind: str) -> bytes:
    frames = [Image.fromarray(noise(seed=seed)) for seed in range(2)]
    return encode(noise(), kind, save_all=True, append_images=frames[1:])


def tiff_with(tag: int, value: int, data: bytes | None = None) -> bytes:
    """A TIFF with a short value of a tag that it has set to another."""
    data = encode(noise(), "TIFF") if data is None else data
    place = data.index(struct.pack("<HH", tag, 3), 8)
    count, where = struct.unpack("<2I", data[place + 4 : place + 12])
    start = place + 8 if count <= 2 else where
    return data[:start] + struct.pack("<H", value) * count + data[start + 2 * count :]


def raw_photograph() -> bytes:
    tags = ImageFileDirectory_v2()
    tags[254], tags[330] = 1, 8
    return encode(noise(), "TIFF", tiffinfo=tags)


def avif(flags: int) -> bytes:
    """An AVIF whose configuration has these flags: 0x40 high bit depth, 0x20 twelve bits."""
    data = bytearray(encode(noise(), "AVIF"))
    data[data.index(b"av1C") + 6] |= flags
    bits = bytes([12 if flags & 0x20 else 10]) * 3
    return bytes(data).replace(b"pixi\0\0\0\0\3\x08\x08\x08", b"pixi\0\0\0\0\3" + bits)


def bomb() -> bytes:
    """A PNG of a few bytes that claims 60000x60000 pixels."""
    good = encode(noise())
    header = struct.pack(">II", 60000, 60000) + good[24:29]
    return good[:8] + chunk(b"IHDR", header) + good[33:]


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "BMP", "TIFF"])
def test_lossless_formats_give_the_stored_pixels(kind: str) -> None:
    image = noise()
    data = encode(image, kind)
    np.testing.assert_array_equal(decode_image(data, "a"), image)
    assert decode_image(data, "a").flags.c_contiguous
    assert check_image(io.BytesIO(data), "a") == (24, 32)


BAD = {
    "empty": (b"", "is empty"),
    "text": (b"no image but words\n" * 3, "is not a PNG"),
    "CMYK": (as_mode("CMYK", "JPEG"), "is CMYK, made for print, without the profile of its inks"),
    "CMYK TIFF": (as_mode("CMYK", "TIFF"), "is CMYK"),
    "CIELAB": (as_mode("LAB", "TIFF"), "is in CIELAB colours"),
    "16-bit grayscale TIFF": (gray16("TIFF"), "is 16-bit grayscale"),
    "16-bit colour TIFF": (tiff_with(258, 16), "has 16 bits per channel; convert it to 8-bit RGB"),
    "floating-point TIFF": (as_mode("F", "TIFF"), "is grayscale of 32-bit floating-point values"),
    "floating-point colour": (
        tiff_with(339, 3, tiff_with(258, 32, encode(noise(), "TIFF", tiffinfo={339: (1, 1, 1)}))),
        "floating-point values of 32 bits",
    ),
    "10-bit AVIF": (avif(0x40), "has 10 bits per channel"),
    "12-bit AVIF": (avif(0x60), "has 12 bits per channel"),
    "12-bit JPEG": (encode(noise(), "JPEG").replace(b"\xff\xc0\0\x11\x08", b"\xff\xc0\0\x11\x0c"), "has 12 bits"),
    "raw photograph": (raw_photograph(), "is a camera's raw photograph"),
    "16-bit grayscale": (gray16(), "is 16-bit grayscale"),
    "16-bit colour": (png16(), "has 16 bits per channel; convert it to 8-bit RGB"),
    "animation": (animation("WEBP"), "is an animation of several frames"),
    "animated PNG": (animation("PNG"), "is an animation of several frames"),
    "AVIF sequence": (animation("AVIF"), "is an animation of several frames"),
    "TIFF of two pages": (animation("TIFF"), "holds several pages"),
    "GIF": (encode(noise()[..., 0], "GIF"), "is a GIF image; convert it to an 8-bit PNG"),
    "PPM": (encode(noise(), "PPM"), "is a PPM, PGM or PBM image"),
    "JPEG 2000": (encode(noise(), "JPEG2000"), "is a JPEG 2000 image"),
    "PDF": (encode(noise(), "PDF"), "is a PDF document"),
    "ICO": (encode(noise(), "ICO"), "is an ICO icon"),
    "HEIC": (b"\0\0\0\x18ftypheic" + bytes(60), "is a HEIC image"),
    "HEIC of another brand": (b"\0\0\0\x18ftypmif1" + bytes(60), "is a HEIC image"),
    "JPEG XL": (b"\xff\x0a" + bytes(60), "is a JPEG XL image"),
    "Photoshop": (b"8BPS\0\1" + bytes(60), "is a Photoshop document"),
    "SVG": (b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>', "is an SVG drawing"),
    "OpenEXR": (b"\x76\x2f\x31\x01" + bytes(60), "is an OpenEXR image of floating-point values"),
    "film": (b"\0\0\0\x18ftypisom" + bytes(60), "is a video"),
    "web page": (b"<!DOCTYPE html><html>Not found</html>", "is a web page"),
    "Git LFS pointer": (b"version https://git-lfs.github.com/spec/v1\n" * 3, "is a Git LFS pointer"),
    "too small": (encode(noise(15, 40)), "is 40x15; each side needs at least 16"),
    "too large": (encode(np.zeros((16, 4097, 3), np.uint8)), "is 4097x16; each side may have at most 4096"),
    "bomb": (bomb(), "4096"),
    "truncated PNG": (encode(noise(64, 64))[:-300], "is cut short"),
    "truncated JPEG": (encode(noise(64, 64), "JPEG")[:-300], "is cut short"),
    "truncated WebP": (encode(noise(64, 64), "WEBP")[:-300], "is cut short"),
    "truncated BMP": (encode(noise(64, 64), "BMP")[:-300], "is cut short"),
    "truncated TIFF": (encode(noise(64, 64), "TIFF")[:-300], "is cut short"),
    "TIFF header": (encode(noise(), "TIFF")[:40], "is a TIFF image that is damaged"),
    "truncated AVIF": (encode(noise(64, 64), "AVIF")[:-300], "is cut short"),
    "AVIF header": (encode(noise(), "AVIF")[:60], "is an AVIF image that is cut short or damaged"),
    "header only": (encode(noise())[:20], "is "),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_file_is_one_sentence_in_both_checks(case: str) -> None:
    data, message = BAD[case]
    name = "seq/000012.png"
    for check in (lambda: decode_image(data, name), lambda: check_image(io.BytesIO(data), name)):
        text = sentence(check, DataError)
        assert text.startswith(f"{name} ") and message in text


def test_damage_inside_a_png_is_found_by_decoding() -> None:
    data = bytearray(encode(noise(64, 64)))
    data[len(data) // 2] ^= 0xFF
    with pytest.raises(DataError, match="damaged"):
        decode_image(bytes(data), "a")


def test_a_file_too_long_for_an_image_is_not_read(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.png", encode(noise()))
    monkeypatch.setattr("data.images.MAX_FILE_BYTES", path.stat().st_size)
    np.testing.assert_array_equal(read_image(path), noise())
    monkeypatch.setattr("data.images.MAX_FILE_BYTES", path.stat().st_size - 1)
    with pytest.raises(DataError, match="too many for an image"):
        read_image(path)


def test_read_image_names_what_is_missing(tmp_path) -> None:
    with pytest.raises(DataError, match=r"no image at .*absent\.png"):
        read_image(tmp_path / "absent.png")
    with pytest.raises(DataError, match="is a folder"):
        read_image(tmp_path)
    path = write(tmp_path / "a.png", encode(noise()))
    np.testing.assert_array_equal(read_image(path), noise())
