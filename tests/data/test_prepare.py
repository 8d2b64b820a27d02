from image_files import encode, noise, write
from kitti_files import write_cityscapes, write_kitti

from data.files.packed import PackedSource
from data.sources import open_source


def prepare(command, dataset: str, *arguments: object) -> tuple[int, str]:
    """Exit status and all that the script prints."""
    status, out, err = command(f"prepare_{dataset}", *arguments)
    return status, out + err


def test_incomplete_download_is_counted_and_refused(command, tmp_path) -> None:
    root = write_kitti(tmp_path / "raw", {(2015, "testing"): range(5, 200)}, frames=[10])
    status, text = prepare(command, "kitti", root, "--out", tmp_path / "out")
    assert status == 1 and not (tmp_path / "out").exists()
    assert "data_scene_flow_multiview/testing/image_2: 195 of 200 images; missing: 000000_10.png" in text
    assert "data_stereo_flow_multiview/training/ (left): 0 of 388 images" in text
    assert text.strip().splitlines()[-1].startswith("error: The download lacks ")


def test_whole_kitti(command, tmp_path) -> None:
    root = write_kitti(tmp_path / "raw", frames=[10, 11])
    status, text = prepare(command, "kitti", root, "--out", tmp_path / "out", "--sizes", "full")
    assert status == 0, text
    for split, count in (("train", 1396), ("val", 45), ("test", 395)):
        packed = open_source("kitti", split=split, root=tmp_path / "out", size="full")
        assert isinstance(packed, PackedSource) and len(packed) == count
        assert packed.ids == open_source("kitti", split=split, root=root, size="full").ids


def test_damaged_images_are_all_named(command, tmp_path) -> None:
    root = write_kitti(tmp_path / "raw", {(2015, "testing"): range(4)}, frames=[10])
    right = root / "data_scene_flow_multiview/testing/image_3"
    write(right / "000001_10.png", encode(noise(24, 40))[:-30])
    write(right / "000003_10.png", b"")
    status, text = prepare(
        command, "kitti", root, "--out", tmp_path / "out", "--partial", "--splits", "test", "--sizes", "full"
    )
    assert status == 1 and not (tmp_path / "out").exists()
    assert "000001_10.png is cut short" in text and "000003_10.png is empty" in text
    assert "2 of 4 pairs of kitti's test split are damaged" in text.strip().splitlines()[-1]


def test_check_decodes_and_writes_nothing(command, tmp_path) -> None:
    root = write_kitti(tmp_path / "raw", {(2015, "testing"): range(2)}, frames=[10])
    options = ("--out", tmp_path / "out", "--partial", "--splits", "test", "--sizes", "full", "--check")
    status, text = prepare(command, "kitti", root, *options)
    assert status == 0 and "Every image can be read" in text
    path = root / "data_scene_flow_multiview/testing/image_2/000001_10.png"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(bytes(data))
    status, text = prepare(command, "kitti", root, *options)
    assert status == 1 and "image_2/000001_10.png is cut short or damaged" in text
    assert not (tmp_path / "out").exists()


def test_cityscapes(command, tmp_path) -> None:
    root = write_cityscapes(tmp_path / "raw", "val", ["ulm_0_0", "aachen_0_0"])
    write_cityscapes(tmp_path / "raw", "train", ["bonn_0_0"])
    status, text = prepare(command, "cityscapes", root, "--out", tmp_path / "out")
    assert status == 1 and "leftImg8bit/val: 2 of 500 images" in text
    status, text = prepare(command, "cityscapes", root, "--out", tmp_path / "out", "--partial")
    assert status == 0, text
    packed = open_source("cityscapes", split="val", root=tmp_path / "out")
    assert isinstance(packed, PackedSource) and packed.groups == ["aachen", "ulm"]
    (root / "rightImg8bit/val/ulm/ulm_0_0_rightImg8bit.png").unlink()
    status, text = prepare(command, "cityscapes", root, "--out", tmp_path / "out", "--partial")
    assert status == 1 and "rightImg8bit/val: 1 of 500 images; missing: ulm/ulm_0_0_rightImg8bit.png" in text
