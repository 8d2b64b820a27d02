import io
import struct
import zlib

import numpy as np
import pytest
from image_files import encode, noise, png16, write
from PIL import Image

from data.images import check_image, decode_image, read_image
from utils.errors import DataError


def as_mode(mode: str, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(noise()).convert(mode).save(buffer, kind, **options)
    return buffer.getvalue()


def gray16() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((24, 32), 40000, dtype=np.uint16)).save(buffer, "PNG")
    return buffer.getvalue()


def animation() -> bytes:
    buffer = io.BytesIO()
    frames = [Image.fromarray(noise(seed=seed)) for seed in range(2)]
    frames[0].save(buffer, "WEBP", save_all=True, append_images=frames[1:], lossless=True)
    return buffer.getvalue()


def bomb() -> bytes:
    """A PNG of a few bytes that claims 60000x60000 pixels."""
    good = encode(noise())
    header = struct.pack(">II", 60000, 60000) + good[24:29]
    return good[:16] + header + struct.pack(">I", zlib.crc32(b"IHDR" + header)) + good[33:]


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "BMP"])
def test_lossless_formats_give_the_stored_pixels(kind: str) -> None:
    image = noise()
    data = encode(image, kind)
    np.testing.assert_array_equal(decode_image(data, "a"), image)
    assert decode_image(data, "a").flags.c_contiguous
    assert check_image(io.BytesIO(data), "a") == (24, 32)


def test_jpeg_is_read() -> None:
    data = encode(noise(), "JPEG")
    assert decode_image(data, "a").shape == (24, 32, 3)
    assert check_image(io.BytesIO(data), "a") == (24, 32)


BAD = {
    "empty": (b"", "is empty"),
    "text": (b"version https://git-lfs.github.com/spec/v1\n" * 3, "is not a PNG"),
    "grayscale": (as_mode("L"), "is grayscale; convert it to 8-bit RGB"),
    "grayscale JPEG": (as_mode("L", "JPEG"), "is grayscale"),
    "CMYK": (as_mode("CMYK", "JPEG"), "is CMYK"),
    "alpha": (as_mode("RGBA"), "with an alpha channel; convert it to 8-bit RGB"),
    "alpha WebP": (encode(np.dstack([noise(), noise()[..., :1]]), "WEBP"), "with an alpha channel"),
    "transparent colour": (as_mode("RGB", transparency=(1, 2, 3)), "transparent colour"),
    "palette": (as_mode("P"), "is a palette image"),
    "16-bit grayscale": (gray16(), "is 16-bit grayscale"),
    "16-bit colour": (png16(), "has 16 bits per channel; convert it to 8-bit RGB"),
    "animation": (animation(), "animation"),
    "too small": (encode(noise(15, 40)), "is 40x15; each side needs at least 16"),
    "too large": (encode(np.zeros((16, 4097, 3), np.uint8)), "is 4097x16; each side may have at most 4096"),
    "bomb": (bomb(), "4096"),
    "truncated PNG": (encode(noise(64, 64))[:-300], "is cut short"),
    "truncated JPEG": (encode(noise(64, 64), "JPEG")[:-300], "is cut short"),
    "truncated WebP": (encode(noise(64, 64), "WEBP")[:-300], "is cut short"),
    "header only": (encode(noise())[:20], "is "),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_file_is_one_sentence_in_both_checks(case: str) -> None:
    data, message = BAD[case]
    for check in (
        lambda: decode_image(data, "seq/000012.png"),
        lambda: check_image(io.BytesIO(data), "seq/000012.png"),
    ):
        with pytest.raises(DataError) as error:
            check()
        text = str(error.value)
        assert text.startswith("seq/000012.png ") and message in text and text.endswith(".") and "\n" not in text


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
