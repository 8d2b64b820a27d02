import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
from image_files import noise, zip_folder
from kitti_files import write_cityscapes
from PIL import Image
from sentences import sentence

from data.files.cityscapes import EXPECTED
from data.sources import open_source, verify

NAMES = ["ulm_000001_000019", "aachen_000002_000019", "aachen_000001_000019", "bremen_000000_000019"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_cityscapes(tmp_path / "root", "train", NAMES)


def open_city(root: Path, split: str = "train", **options):
    return open_source("cityscapes", split=split, root=root, **options)


def zipped(root: Path, target: Path) -> Path:
    """The two official zips, which hold the tree with its top folder."""
    target.mkdir()
    for tree in ("leftImg8bit", "rightImg8bit"):
        shutil.copytree(root / tree, target / "t" / tree)
        zip_folder(target / "t", target / f"{tree}_trainvaltest.zip")
        shutil.rmtree(target / "t")
    return target


@pytest.mark.parametrize("form", ["folders", "zips", "left zip"])
def test_sorted_pairs_with_the_city_as_group(root: Path, tmp_path: Path, form: str) -> None:
    if form != "folders":
        root = zipped(root, tmp_path / "zips")
    source = open_city(root / "leftImg8bit_trainvaltest.zip" if form == "left zip" else root, size="full")
    assert source.ids == sorted(NAMES)
    assert source.groups == ["aachen", "aachen", "bremen", "ulm"]
    verify(source)
    number = NAMES.index("aachen_000002_000019")
    np.testing.assert_array_equal(source[1].x, noise(32, 64, 2 * number))
    np.testing.assert_array_equal(source[1].x_side, noise(32, 64, 2 * number + 1))


def test_whole_frame_is_resized(tmp_path: Path) -> None:
    root = write_cityscapes(tmp_path, "val", ["ulm_0_0"], 1024, 2048)
    expected = Image.fromarray(noise(1024, 2048, 0)).resize((256, 128), Image.Resampling.BILINEAR)
    for size in ("protocol", "train"):
        np.testing.assert_array_equal(open_city(root, "val", size=size)[0].x, np.asarray(expected))


def test_counts(root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert EXPECTED == {"train": 2975, "val": 500, "test": 1525}
    with caplog.at_level(logging.WARNING):
        assert "4 of 2975 pairs" in open_city(root).report
    assert "4 of 2975" in caplog.text
    whole = write_cityscapes(tmp_path / "whole", "val", [f"ulm_{i:06d}_000019" for i in range(500)], 16, 16)
    assert "all 500 pairs" in open_city(whole, "val").report
    assert open_city(whole, "val", limit=2).ids == ["ulm_000000_000019", "ulm_000001_000019"]


def test_missing_half(root: Path) -> None:
    (root / "rightImg8bit/train/aachen/aachen_000001_000019_rightImg8bit.png").unlink()
    assert "aachen_000001_000019_rightImg8bit.png is missing" in sentence(lambda: open_city(root))
    (root / "leftImg8bit/train/aachen/aachen_000001_000019_leftImg8bit.png").unlink()
    shutil.rmtree(root / "leftImg8bit/train/ulm")
    assert "ulm_000001_000019_leftImg8bit.png is missing" in sentence(lambda: open_city(root))


def test_wrong_roots(root: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "neither the folder leftImg8bit nor leftImg8bit_trainvaltest.zip" in sentence(
        lambda: open_city(tmp_path / "empty")
    )
    assert "no folder or zip file" in sentence(lambda: open_city(tmp_path / "absent"))
    assert "holds no *_leftImg8bit.png" in sentence(lambda: open_city(root, "test"))
    shutil.rmtree(root / "rightImg8bit")
    assert "neither the folder rightImg8bit" in sentence(lambda: open_city(root))
