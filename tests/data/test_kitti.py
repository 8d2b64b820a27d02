import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
from image_files import encode, noise, write, zip_folder
from kitti_files import write_kitti
from PIL import Image
from sentences import sentence

from data.files.geometry import Fit
from data.files.kitti import expected_pairs
from data.sources import open_source, verify


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_kitti(tmp_path_factory.mktemp("kitti"))


def open_kitti(root: Path, split: str, **options):
    return open_source("kitti", split=split, root=root, **options)


@pytest.mark.parametrize(
    ("protocol", "split", "count"),
    [
        ("drive_disjoint", "train", 1396),
        ("drive_disjoint", "val", 45),
        ("drive_disjoint", "test", 395),
        ("ndic", "train", 1576),
        ("ndic", "val", 790),
        ("ndic", "test", 790),
    ],
)
def test_counts_of_the_protocol(whole: Path, protocol: str, split: str, count: int) -> None:
    source = open_kitti(whole, split, protocol=protocol)
    assert len(source) == count == expected_pairs(protocol, split)
    assert len(set(source.ids)) == count
    assert f"all {count} pairs" in source.report


def test_drive_disjoint_splits_share_no_scene(whole: Path) -> None:
    groups = {split: set(open_kitti(whole, split).groups) for split in ("train", "val", "test")}
    assert not groups["train"] & groups["val"] and not groups["train"] & groups["test"]
    assert groups["val"] == {f"kitti2015_training_{scene:06d}" for scene in range(155, 200)}
    assert len(groups["test"]) == 395
    assert len(groups["train"]) == 155 + 194


def test_val_of_ndic_is_the_next_frame_of_its_test(whole: Path) -> None:
    val, test = (open_kitti(whole, split, protocol="ndic") for split in ("val", "test"))
    assert set(val.groups) == set(test.groups) and not set(val.ids) & set(test.ids)
    assert [name.replace("_11", "_10") for name in val.ids] == test.ids


def test_ids_and_files(whole: Path) -> None:
    train = open_kitti(whole, "train")
    assert train.ids[:5] == [
        "kitti2012_training_000000_10",
        "kitti2012_training_000000_10_rl",
        "kitti2012_training_000000_11",
        "kitti2012_training_000000_11_rl",
        "kitti2012_training_000001_10",
    ]
    assert train.files[0].x == "training/colored_0/000000_10.png"
    val = open_kitti(whole, "val")
    assert (val.ids[0], val.ids[-1]) == ("kitti2015_training_000155_10", "kitti2015_training_000199_10")
    assert (val.files[0].x, val.files[0].x_side) == ("training/image_2/000155_10.png", "training/image_3/000155_10.png")


def test_direction_right_to_left(whole: Path) -> None:
    left, right = noise(24, 40, 0), noise(24, 40, 1)
    published = open_kitti(whole, "train", protocol="ndic", size="full")
    np.testing.assert_array_equal(published[0].x, left)
    np.testing.assert_array_equal(published[0].x_side, right)
    np.testing.assert_array_equal(published[1].x, right)
    np.testing.assert_array_equal(published[1].x_side, left)
    mirrored = open_kitti(whole, "train", size="full")
    np.testing.assert_array_equal(mirrored[0].x, left)
    np.testing.assert_array_equal(mirrored[1].x, right[:, ::-1])
    np.testing.assert_array_equal(mirrored[1].x_side, left[:, ::-1])
    assert mirrored[1].group == mirrored[0].group


SOME = {(2012, "testing"): [3, 100], (2015, "testing"): [7], (2015, "training"): [0, 160]}


@pytest.mark.parametrize("layout", ["both", "zips", "zips with a top folder"])
def test_layouts_of_a_root(tmp_path: Path, layout: str) -> None:
    root = write_kitti(tmp_path / "root", SOME)
    expected = open_kitti(root, "test", size="full")
    assert expected.ids == [f"kitti2012_testing_{s:06d}_10" for s in (3, 100)] + ["kitti2015_testing_000007_10"]
    if layout != "both":
        for folder in sorted(root.iterdir()):
            if layout == "zips":
                zip_folder(folder, root / f"{folder.name}.zip")
            else:
                shutil.move(folder, tmp_path / "one" / folder.name)
                zip_folder(tmp_path / "one", root / f"{folder.name}.zip")
                shutil.rmtree(tmp_path / "one")
            shutil.rmtree(folder, ignore_errors=True)
    source = open_kitti(root, "test", size="full")
    assert source.ids == expected.ids and source.groups == expected.groups
    np.testing.assert_array_equal(source[2].x, noise(24, 40, 0))
    verify(source)


def test_partial_copy_says_how_much(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = write_kitti(tmp_path, {(2015, "training"): range(150, 160)}, frames=[10])
    with caplog.at_level(logging.WARNING):
        train = open_kitti(root, "train")
    assert len(train) == 10 and "10 of 1396 pairs" in train.report and "10 of 1396" in caplog.text
    assert open_kitti(root, "val").ids == [f"kitti2015_training_{scene:06d}_10" for scene in range(155, 160)]


def test_empty_split_is_a_sentence(tmp_path: Path) -> None:
    root = write_kitti(tmp_path, {(2015, "training"): range(4)}, frames=[10])
    text = sentence(lambda: open_kitti(root, "val"))
    assert "No pair of KITTI's val split (2015 training scenes 155-199 at frame 10)" in text
    assert "frames 10 and 11" not in text


def test_wrong_roots(tmp_path: Path) -> None:
    assert "no KITTI Stereo images" in sentence(lambda: open_kitti(tmp_path, "test"))
    write(tmp_path / "training" / "image_0" / "000000_10.png", encode(noise()))
    assert "grayscale images (image_0" in sentence(lambda: open_kitti(tmp_path, "test"))
    assert "no folder or zip file" in sentence(lambda: open_kitti(tmp_path / "absent", "test"))


def test_missing_half_is_found_on_opening(tmp_path: Path) -> None:
    root = write_kitti(tmp_path, {(2015, "testing"): range(3)})
    testing = root / "data_scene_flow_multiview" / "testing"
    (testing / "image_3" / "000001_10.png").unlink()
    text = sentence(lambda: open_kitti(root, "test"))
    assert str(testing / "image_3" / "000001_10.png") in text and "is missing" in text
    (testing / "image_2" / "000001_10.png").unlink()
    assert len(open_kitti(root, "test")) == 2
    (testing / "image_2" / "000002_10.png").unlink()
    assert "image_2/000002_10.png is missing" in sentence(lambda: open_kitti(root, "test"))
    shutil.rmtree(testing / "image_3")
    assert "image_3/000000_10.png is missing" in sentence(lambda: open_kitti(root, "test"))


def test_image_smaller_than_the_crop(tmp_path: Path) -> None:
    root = write_kitti(tmp_path, {(2015, "testing"): [0]}, height=369, width=1242)
    source = open_kitti(root, "test")
    for call in (lambda: verify(source), lambda: source[0]):
        assert "is 1242x369, smaller than the protocol's crop of 740x370" in sentence(call)
    verify(open_kitti(root, "test", size="full"))


def test_drives_of_the_development_kit(tmp_path: Path) -> None:
    root = write_kitti(tmp_path, {(2015, "training"): [0, 1, 2], (2015, "testing"): [0]})
    lines = ["2011_01_01 2011_01_01_drive_0042_sync 0000000010", "", "2011_01_01 2011_01_01_drive_0042_sync 0000000020"]
    write(root / "mapping" / "train_mapping.txt", "\n".join(lines).encode())
    groups = dict(zip(open_kitti(root, "train").ids, open_kitti(root, "train").groups, strict=True))
    assert (
        groups["kitti2015_training_000000_10"] == groups["kitti2015_training_000002_11_rl"] == "2011_01_01_drive_0042"
    )
    assert groups["kitti2015_training_000001_10"] == "kitti2015_training_000001"
    assert open_kitti(root, "test").groups == ["kitti2015_testing_000000"]
    write(root / "mapping" / "train_mapping.txt", b"this is something else")
    assert "Line 1 of" in sentence(lambda: open_kitti(root, "train"))


def test_centre_crop_is_torchvisions() -> None:
    from torchvision.transforms.functional import center_crop

    for height, width in ((375, 1242), (370, 1224), (374, 1238), (376, 1241), (370, 740), (371, 741)):
        image = noise(height, width)
        expected = np.asarray(center_crop(Image.fromarray(image), [370, 740]))
        np.testing.assert_array_equal(Fit(crop=(370, 740))(image, "a"), expected)
