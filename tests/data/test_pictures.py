"""Pictures as cameras, phones and programs write them come in upright, in sRGB, as RGB; the reason says what cannot."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from colour_profiles import DISPLAY_P3, SRGB, display, gray, inks, srgb_curve
from image_files import chunk, encode, mpo, noise, smooth, write
from PIL import Image
from sentences import sentence

from data.files.picture_formats import EXTENSIONS
from data.images import check_image, decode_image, read_image
from utils.errors import DataError

# How a camera held in each way stores an upright picture, by EXIF orientation.
STORED: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda u: u,
    2: lambda u: u[:, ::-1],
    3: lambda u: u[::-1, ::-1],
    4: lambda u: u[::-1],
    5: lambda u: u.swapaxes(0, 1),
    6: lambda u: np.rot90(u, 1),
    7: lambda u: u[::-1, ::-1].swapaxes(0, 1),
    8: lambda u: np.rot90(u, -1),
}


def exif(orientation: int) -> bytes:
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags.tobytes()


def check(data: bytes, **options: object) -> tuple[int, int]:
    return check_image(io.BytesIO(data), "a", **options)  # type: ignore[arg-type]


@pytest.fixture
def no_decoding(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Undo it to decode."""
    for name in ("PIL.ImageFile.ImageFile", "PIL.TiffImagePlugin.TiffImageFile", "PIL.AvifImagePlugin.AvifImageFile"):
        monkeypatch.setattr(f"{name}.load", lambda *_: pytest.fail("decoded"))
    return monkeypatch


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "AVIF", "MPO"])
def test_every_orientation_is_turned_upright(kind: str, orientation: int, no_decoding: pytest.MonkeyPatch) -> None:
    upright = smooth(24, 40)
    stored = np.ascontiguousarray(STORED[orientation](upright))
    if kind == "MPO":
        data = mpo(stored, stored, exif=exif(orientation))
    else:
        options = {"quality": 100, "subsampling": "4:4:4"} if kind in ("JPEG", "AVIF") else {}
        data = encode(stored, kind, exif=exif(orientation), **options)
    assert check(data) == (24, 40)
    no_decoding.undo()
    image = decode_image(data, "a")
    assert image.shape == upright.shape and image.flags.c_contiguous
    assert np.abs(image.astype(int) - upright).max() <= (6 if kind in ("JPEG", "MPO", "AVIF") else 0)


def test_an_orientation_behind_the_pixels_of_a_png_counts() -> None:
    upright = noise()
    data = encode(np.ascontiguousarray(STORED[6](upright)))
    late = data[:-12] + chunk(b"eXIf", exif(6)[6:]) + data[-12:]
    assert check(late) == (24, 32)
    np.testing.assert_array_equal(decode_image(late, "a"), upright)


@pytest.mark.parametrize("tags", [b"Exif\0\0damaged", exif(0), exif(9), b"Exif\0\0II*\0\xff\xff\xff\xff"])
def test_an_orientation_without_meaning_turns_nothing(tags: bytes) -> None:
    data = encode(noise(), exif=tags)
    assert check(data) == (24, 32)
    np.testing.assert_array_equal(decode_image(data, "a"), noise())


def test_an_mpo_gives_its_first_picture_and_as_a_side_image_its_second(tmp_path: Path) -> None:
    views = smooth(24, 40), smooth(24, 40)[:, ::-1].copy()
    path = write(tmp_path / "pair.MPO", mpo(*views))
    for side, view in enumerate(views):
        image = read_image(path, side=bool(side))
        assert np.abs(image.astype(int) - view).max() <= 6
    assert check(path.read_bytes(), view="second") == (24, 40)
    np.testing.assert_array_equal(read_image(write(tmp_path / "a.jpg", path.read_bytes()), side=True), image)


def test_what_the_second_picture_does_not_say_the_first_says_for_both() -> None:
    upright = smooth(24, 40)
    stored = np.ascontiguousarray(STORED[8](upright))
    data = mpo(stored, stored, exif=exif(8), icc_profile=display("P3", DISPLAY_P3))
    first, second = (decode_image(data, "a", view=view) for view in ("x", "second"))
    np.testing.assert_array_equal(first, second)


NO_PAIR = {
    "one picture": (encode(noise(), "JPEG"), "holds only one picture"),
    "a PNG": (encode(noise()), "holds only one picture"),
    "a preview": (mpo(noise(), noise(), kinds=(0x030000, 0x010002)), "holds only one picture"),
    "two sizes": (mpo(noise(48, 64), noise(24, 32)), "its pictures are 64x48 and 32x24"),
    "a small gain map": (mpo(noise(), noise(6, 8)), "is a gain map or preview"),
    "a gray gain map": (mpo(noise(), noise()[..., 0]), "is a gain map or preview"),
    "a named gain map": (mpo(noise(), noise(), mark=b"urn:iso:std:iso:ts:21496:-1\0"), "is a gain map or preview"),
    "cut short": (mpo(noise(48, 64), noise(48, 64))[:-200], "cut short"),
    "cut between": (mpo(noise(48, 64), noise(48, 64))[:9000], "cut short"),
}


@pytest.mark.parametrize("case", NO_PAIR)
def test_an_mpo_that_is_no_stereo_pair_is_no_side_image(case: str) -> None:
    data, message = NO_PAIR[case]
    for look in (lambda: check(data, view="second"), lambda: decode_image(data, "a", view="second")):
        assert message in sentence(look, DataError)
    if "cut" not in case:  # but its first picture can be compressed
        assert decode_image(data, "a").shape[:2] == check(data)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_profiles_other_than_srgb_are_converted(kind: str) -> None:
    image = noise()
    changes: list[str] = []
    decoded = decode_image(encode(image, kind, icc_profile=display("My P3", DISPLAY_P3)), "a", changes=changes)
    assert changes == ["the colour profile 'My P3', converted to sRGB"]
    # By hand: linear light, to XYZ by the one's primaries, from XYZ by the other's, the curve.
    matrix = np.linalg.inv(np.transpose(SRGB)) @ np.transpose(DISPLAY_P3)
    light = np.clip(srgb_curve(image / 255) @ matrix.T, 0, 1)
    expected = 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    assert np.abs(decoded - expected).max() <= 2 and np.abs(decoded - image.astype(float)).max() > 20


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("name", ["sRGB IEC61966-2.1", "c2"])
def test_srgb_by_whatever_name_changes_no_pixel(kind: str, name: str) -> None:
    changes: list[str] = []
    data = encode(noise(), kind, icc_profile=display(name, SRGB))
    np.testing.assert_array_equal(decode_image(data, "a", changes=changes), noise())
    assert not changes
    linear = encode(noise(), kind, icc_profile=display(name, SRGB, gamma=1.0))
    assert np.abs(decode_image(linear, "a").astype(int) - noise()).max() > 20


def test_gray_profiles() -> None:
    ramp = np.tile(np.arange(0, 256, 8, dtype=np.uint8), (24, 1))
    linear = decode_image(encode(ramp, icc_profile=gray("linear", 1.0)), "a")[0].astype(int)
    assert (linear == linear[:, :1]).all() and (linear[[4, 16], 0] > np.array([90, 180])).all()
    for_colour = decode_image(encode(ramp, icc_profile=display("sRGB", SRGB)), "a")  # as many programs write
    np.testing.assert_array_equal(for_colour, np.repeat(ramp[..., None], 3, axis=2))


def test_cmyk_is_read_by_its_profile() -> None:
    picture = np.zeros((16, 32, 4), np.uint8)
    picture[:, 16:, 3] = 255
    for kind in ("TIFF", "JPEG"):
        buffer = io.BytesIO()
        Image.fromarray(picture, "CMYK").save(buffer, kind, icc_profile=inks("Newsprint"))
        image = decode_image(buffer.getvalue(), "a")
        assert image[:, :8].min() >= 250 and image[:, 24:].max() <= 5


PLAIN = encode(noise())
P3 = display("P3", DISPLAY_P3)
BAD_COLOURS = {
    "damaged": (encode(noise(), icc_profile=b"not a profile"), "ICC profile that is damaged"),
    "cut short": (encode(noise(), "JPEG", icc_profile=P3[:400]), "ICC profile that is damaged"),
    "cut in its tables": (encode(noise(), "TIFF", icc_profile=P3[:-1500]), "ICC profile that is damaged"),
    "one of two parts": (
        encode(noise(), "JPEG", icc_profile=P3).replace(b"ICC_PROFILE\0\1\1", b"ICC_PROFILE\0\1\2"),
        "ICC profile that is damaged",
    ),
    "for ink": (encode(noise(), icc_profile=inks("Ink")), "is for CMYK values, and the image has RGB"),
    "for gray": (encode(noise(), "WEBP", icc_profile=gray("Gray", 2.2)), "is for gray values, and the image has RGB"),
    "PNG by number": (PLAIN[:33] + chunk(b"cICP", b"\x09\x10\0\1") + PLAIN[33:], "has BT.2020 PQ (HDR) colours"),
    "AVIF by number": (
        encode(noise(), "AVIF").replace(b"nclx\0\1\0\x0d", b"nclx\0\x0c\0\x0d"),
        "has Display P3 colours",
    ),
}


@pytest.mark.parametrize("case", BAD_COLOURS)
def test_colours_that_cannot_be_converted_are_refused_with_the_reason(case: str) -> None:
    data, message = BAD_COLOURS[case]
    for look in (lambda: check(data), lambda: decode_image(data, "a")):
        text = sentence(look, DataError)
        assert message in text and "sRGB" in text


def as_mode(mode: str, kind: str = "PNG", **options: object) -> tuple[bytes, np.ndarray]:
    """A file of the mode, and the RGB that Pillow makes of it."""
    buffer = io.BytesIO()
    image = Image.fromarray(smooth(24, 40)).convert(mode)
    image.save(buffer, kind, **options)
    return buffer.getvalue(), np.array(image.convert("RGB"))


ALPHA = "an alpha channel, dropped (only opaque ones are accepted)"
GRAY = "grayscale, read as three equal channels"
MEANINGFUL = {
    "gray": (as_mode("L"), [GRAY]),
    "gray TIFF": (as_mode("L", "TIFF"), [GRAY]),
    "gray BMP": (as_mode("L", "BMP"), [GRAY]),
    "1 bit": (as_mode("1"), ["black and white, read as RGB"]),
    "1 bit TIFF": (as_mode("1", "TIFF"), ["black and white, read as RGB"]),
    "palette": (as_mode("P"), ["a palette, read as its colours"]),
    "palette BMP": (as_mode("P", "BMP"), ["a palette, read as its colours"]),
    "opaque RGBA": (as_mode("RGBA"), [ALPHA]),
    "opaque RGBA TIFF": (as_mode("RGBA", "TIFF"), [ALPHA]),
    "opaque gray alpha": (as_mode("LA"), [GRAY, ALPHA]),
    "unused transparent colour": (as_mode("RGB", transparency=(0, 255, 0)), [ALPHA]),
    "opaque palette": (as_mode("P", transparency=b"\xff" * 256), ["a palette, read as its colours", ALPHA]),
    "16 levels": (as_mode("L", bits=4), [GRAY]),
}


@pytest.mark.parametrize("case", MEANINGFUL)
def test_what_has_one_meaning_is_converted_and_said(case, tmp_path, caplog):
    (data, expected), changes = MEANINGFUL[case]
    image = read_image(write(tmp_path / "a.png", data))
    if case != "16 levels":
        np.testing.assert_array_equal(image, expected)
    assert (image.shape, image.dtype) == (expected.shape, np.uint8)
    assert [record.getMessage() for record in caplog.records] == [f"{tmp_path / 'a.png'}: {'; '.join(changes)}."]
    found: list[str] = []
    assert check(data, changes=found) == (24, 40) and found == changes


TRANSPARENT = {
    "RGBA": encode(np.dstack([noise(), np.full((24, 32), 254, np.uint8)])),
    "WebP": encode(np.dstack([noise(), noise()[..., :1]]), "WEBP"),
    "AVIF": encode(np.dstack([noise(), noise()[..., :1]]), "AVIF"),
    "gray": encode(np.dstack([noise()[..., 0], noise()[..., 1]])),
    "a palette": as_mode("P", transparency=b"\x80" * 256)[0],
    "a colour": encode(np.zeros((24, 32, 3), np.uint8), transparency=(0, 0, 0)),
}


@pytest.mark.parametrize("case", TRANSPARENT)
def test_transparency_is_refused_once_decoded(case: str, no_decoding: pytest.MonkeyPatch) -> None:
    data = TRANSPARENT[case]
    assert len(check(data)) == 2  # only pixels tell
    no_decoding.undo()
    with pytest.raises(DataError, match=r"^a has transparent pixels; put it on a background"):
        decode_image(data, "a")


def test_a_jpeg_with_bytes_behind_its_end_is_whole() -> None:
    data = encode(noise(64, 64), "JPEG")  # phones append a film
    film = bytes(10_000)
    assert check(data + film) == (64, 64) and decode_image(data + film, "a").shape == (64, 64, 3)
    with pytest.raises(DataError, match="cut short"):
        check(data[:-2] + film)


def test_every_ending_is_read(tmp_path: Path) -> None:
    kinds = {"jpg": "JPEG", "tif": "TIFF"}
    for ending in EXTENSIONS:
        kind = kinds.get(ending[1:], ending[1:].upper())
        data = mpo(noise(), noise()) if kind == "MPO" else encode(noise(), kind)
        assert read_image(write(tmp_path / f"a{ending}", data)).shape == (24, 32, 3)


def test_the_header_check_reads_no_pixels_and_plain_files_are_silent(tmp_path, no_decoding, caplog) -> None:
    kinds = ("PNG", "TIFF", "BMP", "WEBP", "JPEG", "AVIF")
    for kind in kinds:
        assert check(encode(noise(), kind)) == (24, 32)
    assert check(mpo(noise(), noise()), view="second") == (24, 32)
    no_decoding.undo()
    for kind in kinds:
        assert read_image(write(tmp_path / f"a.{kind.lower()}", encode(noise(), kind))).shape == (24, 32, 3)
    assert not caplog.records
