import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
from image_files import encode, mpo, noise, png16, smooth, write, write_pairs, zip_folder
from PIL import ImageFile
from sentences import sentence

from data.sources import open_source, verify
from utils.errors import DataError

NAMES = ["c", "a", "b10", "b9"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_pairs(tmp_path / "root" / "train", NAMES)
    write_pairs(tmp_path / "root" / "test", ["t"])
    return tmp_path / "root"


def error_of(root: Path, split: str = "train", *, look: bool = True) -> str:
    """What opening or verifying the folder is refused with."""

    def try_it() -> None:
        source = open_source("folder", split=split, root=root)
        if look:
            verify(source)

    return sentence(try_it, DataError)


@pytest.mark.parametrize("zipped", [False, True])
def test_order_and_pixels(root: Path, tmp_path: Path, zipped: bool) -> None:
    source = open_source("folder", split="train", root=zip_folder(root, tmp_path / "r.zip") if zipped else root)
    assert source.ids == sorted(NAMES) and len(source) == 4
    number = NAMES.index("b10")
    pair = source[source.ids.index("b10")]
    np.testing.assert_array_equal(pair.x, noise(seed=2 * number))
    np.testing.assert_array_equal(pair.x_side, noise(seed=2 * number + 1))
    assert pair.id == pair.group == "b10"
    assert open_source("folder", split="train", root=root, limit=2).ids == ["a", "b10"]
    verify(source)
    verify(source, decode=True)


def test_order_is_that_of_names_without_their_ending(tmp_path: Path) -> None:
    write_pairs(tmp_path / "train", ["a", "a-b"])  # as file names, a-b.png comes before a.png
    assert open_source("folder", split="train", root=tmp_path).ids == ["a", "a-b"]


def test_flat_folder_and_mixed_endings(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_pairs(tmp_path, ["a"], ending="webp")
    write_pairs(tmp_path, ["b"], ending="jpg")
    write(tmp_path / "left" / "notes.txt", b"not an image")
    with caplog.at_level(logging.WARNING):
        source = open_source("folder", split="val", root=tmp_path)
    assert source.ids == ["a", "b"]
    assert "no split folders" in caplog.text
    verify(source)


def test_manifest_gives_groups(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(
        root / "manifest.csv",
        b"split,id,drive,note\ntrain,a,d1,x\ntrain,b9,d1,x\ntrain,b10,d2,x\ntrain,gone,d2,x\ntest,t,d2,\n",
    )
    with caplog.at_level(logging.WARNING):
        source = open_source("folder", split="train", root=root)
    assert source.groups == ["d1", "d2", "d1", "c"]
    assert "1 of 4 pairs are their own group" in caplog.text
    assert "1 of the 4 pairs of manifest.csv are not there" in source.report
    assert "d2 has pairs in more than one split" in caplog.text


def test_manifest_without_a_column(root: Path) -> None:
    write(root / "manifest.csv", b"split,name\ntrain,a\n")
    assert "lacks the column 'id'" in error_of(root)


def test_missing_half(root: Path) -> None:
    (root / "train" / "right" / "b9.png").unlink()
    text = error_of(root, look=False)
    assert "left/b9.png has no right image" in text and "add train/right/b9.png" in text
    (root / "train" / "right" / "b9.png").write_bytes(b"")
    (root / "train" / "left" / "a.png").unlink()
    assert "right/a.png has no left image" in error_of(root, look=False)


def test_two_images_of_one_name(root: Path) -> None:
    write(root / "train" / "left" / "a.jpg", encode(noise(), "JPEG"))
    assert "two images named a" in error_of(root, look=False)


def test_empty_and_wrong_roots(root: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "holds neither train/left" in error_of(tmp_path / "empty", look=False)
    assert "no folder or zip file at" in error_of(tmp_path / "absent", look=False)
    assert "has no split 'val'" in error_of(root, "val", look=False)
    shutil.rmtree(root / "test")
    for side in ("left", "right"):
        (root / "test" / side).mkdir(parents=True)
    assert "has no images" in error_of(root, "test", look=False)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (encode(noise(64, 64))[:-100], "cut short"),
        (encode(noise(24, 40)), "is 32x24 but"),
        (encode(noise()[..., 0], "GIF"), "is a GIF image"),
        (png16(), "16 bits per channel"),
        (b"", "is empty"),
    ],
    ids=["truncated", "two sizes", "GIF", "16-bit", "empty"],
)
@pytest.mark.parametrize("zipped", [False, True])
def test_bad_right_image_is_found_before_decoding(root, tmp_path, data, message, zipped, monkeypatch):
    write(root / "train" / "right" / "b9.png", data)
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda *a: pytest.fail("decoded"))
    text = error_of(zip_folder(root, tmp_path / "r.zip") if zipped else root)
    assert message in text and "train/right/b9.png" in text
    monkeypatch.undo()
    source = open_source("folder", split="train", root=root)
    with pytest.raises(DataError, match="b9"):
        source[source.ids.index("b9")]
    assert source[0].id == "a"


@pytest.mark.parametrize("decode", [False, True])
def test_what_reading_changes_is_told_once_a_kind(root: Path, decode: bool, caplog: pytest.LogCaptureFixture) -> None:
    for side in ("left", "right"):
        for name in ("a", "c"):
            write(root / "train" / side / f"{name}.png", encode(noise()[..., 0]))
    write(root / "train" / "left" / "b9.png", encode(np.dstack([noise(), np.full((24, 32), 255, np.uint8)])))
    source = open_source("folder", split="train", root=root)
    caplog.clear()
    verify(source, decode=decode)
    assert source[0].x.shape == (24, 32, 3)
    assert [record.getMessage() for record in caplog.records] == [
        "folder train, 1 of 8 images: an alpha channel, dropped (only opaque ones are accepted).",
        "folder train, 4 of 8 images: grayscale, read as three equal channels.",
    ]


@pytest.mark.parametrize("zipped", [False, True])
def test_mpo_files_are_pairs_beside_left_and_right(root: Path, tmp_path: Path, zipped: bool) -> None:
    views = smooth(24, 32), smooth(24, 32)[:, ::-1].copy()
    write(root / "train" / "camera.MPO", mpo(*views))
    write(root / "val" / "only.mpo", mpo(*views))
    where = zip_folder(root, tmp_path / "r.zip") if zipped else root
    source = open_source("folder", split="train", root=where)
    assert source.ids == sorted([*NAMES, "camera"])
    if not zipped:
        assert open_source("folder", split="test", root=root / "val").ids == ["only"]  # Without splits.
    assert open_source("folder", split="val", root=where).ids == ["only"]
    verify(source)
    verify(source, decode=True)
    pair = source[source.ids.index("camera")]
    for image, view in zip((pair.x, pair.x_side), views, strict=True):
        assert np.abs(image.astype(int) - view).max() <= 6


def test_an_mpo_that_is_no_pair_and_one_of_another_pair_s_name(root: Path) -> None:
    path = write(root / "train" / "camera.mpo", mpo(noise(), noise(12, 16)))
    assert "camera.mpo is no stereo pair" in error_of(root)
    path.write_bytes(encode(noise(), "JPEG"))
    assert "camera.mpo is no stereo pair" in error_of(root)
    path.rename(path.with_name("a.mpo"))
    assert "are both the pair a; remove one" in error_of(root, look=False)


COMPOSED, APART = "caf\u00e9", "cafe\u0301"  # the same name as most systems and as macOS write it


@pytest.mark.parametrize("zipped", [False, True])
def test_names_pair_however_their_accents_are_encoded(root: Path, tmp_path: Path, zipped: bool) -> None:
    write(root / "train" / "left" / f"{APART}.png", encode(noise()))
    write(root / "train" / "right" / f"{COMPOSED}.PNG", encode(noise(seed=1)))
    write(root / "manifest.csv", f"split,id,drive\ntrain,{APART},d7\n".encode())
    source = open_source("folder", split="train", root=zip_folder(root, tmp_path / "r.zip") if zipped else root)
    place = source.ids.index(COMPOSED)
    assert source.groups[place] == "d7"
    np.testing.assert_array_equal(source[place].x_side, noise(seed=1))


def test_one_name_in_two_encodings_is_a_clash(root: Path) -> None:
    for name in (APART, COMPOSED):
        write(root / "train" / "left" / f"{name}.png", encode(noise()))
    text = error_of(root, look=False)
    assert f"two images named {COMPOSED}" in text and r"'cafe\u0301.png' and 'caf\xe9.png'" in text
