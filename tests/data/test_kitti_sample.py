"""The KITTI sample is built from KITTI 2015's own files, picture by picture, and nothing else passes for it."""

import csv
import hashlib
import zipfile
from pathlib import Path

import numpy as np
import pytest
from image_files import SAMPLE, encode, noise

from data.files import kitti_sample
from data.files.kitti_sample import LIST, open_sample
from data.images import read_image
from utils.errors import DataError

NATIVE, PROTOCOL = SAMPLE / "native", SAMPLE / "protocol"


def write_scenes(root: Path, scenes: dict[int, tuple[bytes, bytes]]) -> Path:
    """The official zip with these scenes: their left and right PNG files."""
    path = root / "data_scene_flow_multiview.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for scene, views in scenes.items():
            for camera, data in zip(("image_2", "image_3"), views, strict=True):
                archive.writestr(f"training/{camera}/{scene:06d}_10.png", data)
    return path


@pytest.fixture
def two_scenes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A zip with scenes 3 and 5 of noise, and a list that says that they are the sample's test split."""
    views = {scene: (noise(375, 1242, scene), noise(375, 1242, scene + 1)) for scene in (3, 5)}
    root = write_scenes(tmp_path, {scene: (encode(x), encode(side)) for scene, (x, side) in views.items()})
    fit = kitti_sample.FITS["protocol"]
    rows = [
        ["test", scene, f"drive_{scene}", *(hashlib.sha256(fit(v, "").tobytes()).hexdigest() for v in pair)]
        for scene, pair in views.items()
    ]
    with (tmp_path / "list.csv").open("w") as file:
        csv.writer(file).writerows([["split", "scene", "drive", "x", "x_side"], *rows])
    monkeypatch.setattr(kitti_sample, "LIST", tmp_path / "list.csv")
    return root


def test_the_list_has_the_documented_pairs_and_disjoint_drives():
    rows = list(csv.DictReader(LIST.read_text().splitlines()))
    drives = {split: {row["drive"] for row in rows if row["split"] == split} for split in ("train", "val", "test")}
    assert [sum(row["split"] == split for row in rows) for split in drives] == [53, 11, 36]
    assert not drives["train"] & drives["val"] and not drives["test"] & (drives["train"] | drives["val"])
    assert len({row["scene"] for row in rows}) == 100


def test_pairs_come_from_the_official_zip(two_scenes: Path):
    source = open_sample(two_scenes, "test")
    assert source.ids == ["kitti2015_train_000003_10", "kitti2015_train_000005_10"]
    assert source.groups == ["drive_3", "drive_5"] and source[1].x.shape == (128, 256, 3)


def test_other_pixels_are_refused_by_name(two_scenes: Path, tmp_path: Path):
    noise_3, noise_4 = (encode(noise(375, 1242, seed)) for seed in (3, 4))
    changed = noise(375, 1242, 5)
    changed[180, 600] ^= 64
    root = write_scenes(tmp_path, {3: (noise_3, noise_4), 5: (encode(changed), encode(noise(375, 1242, 6)))})
    source = open_sample(root, "test")
    assert source[0].id == "kitti2015_train_000003_10"
    with pytest.raises(DataError, match=r"image_2/000005_10.png .*does not give the pixels"):
        source[1]


def test_missing_scenes_are_named(two_scenes: Path, tmp_path: Path):
    root = write_scenes(tmp_path, {5: (encode(noise(375, 1242, 5)), encode(noise(375, 1242, 6)))})
    with pytest.raises(DataError, match=r"lacks frame 10 of the training scenes 3, .*--partial"):
        open_sample(root, "test")
    assert open_sample(root, "test", partial=True).ids == ["kitti2015_train_000005_10"]


def test_a_sample_of_no_scene_is_an_error(command, two_scenes: Path, tmp_path: Path):
    """Of the two scenes, `test` has both and `val` none."""
    given = [two_scenes, "--sample", "--partial", "--check", "--splits"]
    status, out, err = command("prepare_kitti", *given, "val")
    assert status != 0 and "error" in err and "Ready" not in out
    status, _, err = command("prepare_kitti", *given, "test", "val")
    assert status == 0, err


@pytest.mark.skipif(not NATIVE.is_dir(), reason="the KITTI sample is not there")
def test_the_script_builds_the_stored_sample(command, tmp_path: Path):
    """From full-size pictures of the same drives in KITTI's own layout: the same pixels as the stored sample's."""
    names = {"test": sorted(p.name for p in (NATIVE / "test/left").iterdir())[:2]}
    names["val"] = sorted(p.name for p in (NATIVE / "val/left").iterdir())[:2]
    scenes = {
        int(name.split("_")[2]): tuple(encode(read_image(NATIVE / split / view / name)) for view in ("left", "right"))
        for split, found in names.items()
        for name in found
    }
    root, out = write_scenes(tmp_path, scenes), tmp_path / "out"
    given = [root, "--sample", "--partial", "--splits", "val", "test", "--out", out]
    status, _, err = command("prepare_kitti", *given)
    assert status == 0, err
    for split, found in names.items():
        for name in found:
            for view in ("left", "right"):
                made = out / split / view / Path(name).with_suffix(".png").name
                stored = next((PROTOCOL / split / view).glob(f"{Path(name).stem}.*"))
                assert np.array_equal(read_image(made), read_image(stored)), made
    manifest = list(csv.DictReader((out / "manifest.csv").read_text().splitlines()))
    assert len(manifest) == 4 and all(row["drive"].startswith("2011_") for row in manifest)
